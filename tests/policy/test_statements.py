"""Statements of gateways: which messages count, and which of several statements about a matter."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.seals import sealed
from tornado_gateway.policy.statements import (
    CLOSED,
    DAY,
    DRAIN,
    MOST,
    MOST_BYTES,
    OPENED,
    RELOADED,
    STALE,
    UNDRAIN,
    WEIGHT,
    Flaw,
    Ignored,
    Ledger,
    Statement,
    key_of,
    read,
    write,
)

SECRET, PLACE, NOW = b"s" * 32, "place", 1_800_000_000.0


def statement(at: float = NOW, sender: str = "a", key: str = "k", name: str = DRAIN, body: Any = None) -> Statement:
    return Statement(sender, at, key, name, body)


def flaw_of(message: bytes, now: float = NOW, *, is_kept: bool = False) -> Flaw | None:
    try:
        read(message, SECRET, PLACE, now, is_kept=is_kept)
    except Ignored as error:
        return error.flaw
    return None


def test_a_statement_comes_back_as_it_was() -> None:
    said = statement(body=["ada", {"service": "billing", "weight": 3}])
    assert read(write(said, SECRET, PLACE, NOW), SECRET, PLACE, NOW) == said


def test_a_message_counts_while_it_is_fresh_by_clocks_that_differ() -> None:
    old = statement(NOW - DAY)  # a statement is as old as it is: Redis was away, say
    for now in (NOW - STALE, NOW, NOW + STALE):
        assert flaw_of(write(old, SECRET, PLACE, NOW), now) is None
    for now in (NOW - STALE - 1, NOW + STALE + 1):
        assert flaw_of(write(old, SECRET, PLACE, NOW), now) is Flaw.STALE
    assert flaw_of(write(old, SECRET, PLACE, NOW), NOW + 30 * DAY, is_kept=True) is None
    assert flaw_of(write(statement(NOW + STALE + 1), SECRET, PLACE, NOW), NOW, is_kept=True) is Flaw.STALE


def test_what_no_gateway_has_sealed_is_forged() -> None:
    message = write(statement(), SECRET, PLACE, NOW)
    assert flaw_of(write(statement(), b"t" * 32, PLACE, NOW)) is Flaw.FORGED
    assert flaw_of(write(statement(), SECRET, "elsewhere", NOW)) is Flaw.FORGED
    assert flaw_of(message.replace(b"drain", b"draim")) is Flaw.FORGED
    assert flaw_of(b"") is Flaw.FORGED
    assert flaw_of(message[:-1]) is Flaw.FORGED


def test_a_message_that_is_too_large_is_not_even_checked() -> None:
    assert flaw_of(bytes(MOST_BYTES + 1)) is Flaw.OVERSIZED


@pytest.mark.parametrize(
    "said",
    [
        "", "nonsense", "7", "{}", "[]", "null", "[1, 2]", json.dumps([NOW, "a", NOW, "k", DRAIN]),
        json.dumps([NOW, "a", NOW, "k", "other", None]), json.dumps([NOW, 1, NOW, "k", DRAIN, None]),
        json.dumps([NOW, "a", "then", "k", DRAIN, None]), json.dumps([NOW, "a", math.nan, "k", DRAIN, None]),
        json.dumps([None, "a", NOW, "k", DRAIN, None]), json.dumps([NOW, "a", NOW, ["k"], DRAIN, None]),
        json.dumps([NOW, "a", NOW, "k", [DRAIN], None]), "[" * 10_000,
    ],
)  # fmt: skip
def test_what_is_sealed_and_no_statement_is_malformed(said: str) -> None:
    assert flaw_of(sealed(SECRET, PLACE, said.encode())) is Flaw.MALFORMED


def test_an_instant_that_is_no_number_of_seconds_is_stale() -> None:
    said = json.dumps([math.nan, "a", NOW, "k", DRAIN, None])
    assert flaw_of(sealed(SECRET, PLACE, said.encode())) is Flaw.STALE


def test_the_newest_statement_about_a_matter_counts_and_of_two_at_once_all_take_the_same() -> None:
    one, other = Ledger(), Ledger()
    first, second = statement(sender="a"), statement(sender="b", name=UNDRAIN)
    assert one.take(first) and one.take(second) and not one.take(first)
    assert other.take(second) and not other.take(first)
    assert [*one] == [*other] == [second]
    assert one.of("k") is second and one.of("other") is None
    assert not one.take(statement(NOW - 1))
    assert one.take(statement(NOW + 1))


@given(st.permutations([statement(NOW + at, sender) for at in (0, 1, 2) for sender in "abc"]))
def test_in_whatever_order_statements_come_all_gateways_end_with_the_same(order: list[Statement]) -> None:
    ledger = Ledger()
    for each in order:
        ledger.take(each)
    assert [*ledger] == [statement(NOW + 2, "c")]


def test_a_new_statement_counts_even_if_the_clock_is_behind() -> None:
    ledger = Ledger()
    assert ledger.instant_for("k", NOW) == NOW
    ledger.take(statement(NOW + 20))
    at = ledger.instant_for("k", NOW)
    assert at > NOW + 20
    assert ledger.take(statement(at))
    assert ledger.instant_for("k", NOW + 60) == NOW + 60


def test_drains_and_weights_last_and_the_rest_is_forgotten_after_a_day() -> None:
    ledger = Ledger()
    for key, name in enumerate((DRAIN, WEIGHT, UNDRAIN, OPENED, CLOSED, RELOADED)):
        ledger.take(statement(key=str(key), name=name))
    assert ledger.forget_ended(NOW + DAY - 1) == []
    assert ledger.forget_ended(NOW + DAY) == ["2", "3", "4", "5"]
    assert [each.name for each in ledger] == [DRAIN, WEIGHT]
    assert all(each.is_lasting for each in ledger)


def test_a_ledger_keeps_so_many_statements_the_latest() -> None:
    ledger = Ledger()
    for number in range(MOST):
        ledger.take(statement(key=str(number)))
    ledger.take(statement(NOW + 1, key="0"))
    ledger.take(statement(key="more"))
    assert (len(ledger), ledger.of("1"), ledger.of("0")) == (MOST, None, statement(NOW + 1, key="0"))
    ledger.take(statement(key="1"))
    assert ledger.forget_ended(NOW) == ["2"]  # to leave the shared store, too; "1" has come back
    assert ledger.forget_ended(NOW) == []


def test_acts_on_a_weight_are_a_matter_and_what_breakers_do_is_another() -> None:
    assert key_of(DRAIN, "s", "u") == key_of(WEIGHT, "s", "u") == key_of(UNDRAIN, "s", "u")
    assert key_of(OPENED, "s", "u") == key_of(CLOSED, "s", "u") == key_of("breaker", "s", "u")
    assert len({key_of(DRAIN, "s", "u"), key_of(OPENED, "s", "u"), key_of(DRAIN, "s", "v"), key_of(RELOADED)}) == 4
