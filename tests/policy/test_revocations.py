"""What is revoked, by pure statements: whose credentials, which of these, until when, and which statement counts."""

import json
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy import revocations as policy
from tornado_gateway.policy.principal import NOBODY, Holder
from tornado_gateway.policy.revocations import CLOSED, LOCAL, By, Revocation, Revocations

NOW = 1_700_000_000.0
DAY = 86_400.0
NEVER = -math.inf  # of a credential that does not say when it was issued


def subject(value: str = "id|ada", at: float = NOW, until: float = NOW + DAY, *, lifted: bool = False) -> Revocation:
    return Revocation(By.SUBJECT, value, at, until, lifted)


def jti(value: str = "7", at: float = NOW, until: float = NOW + DAY, *, lifted: bool = False) -> Revocation:
    return Revocation(By.JTI, value, at, until, lifted)


def told(*statements: Revocation, leeway: float = 0.0) -> Revocations:
    revocations = Revocations(leeway)
    for each in statements:
        revocations.take(each)
    return revocations


@pytest.mark.parametrize("issued", [NEVER, NOW - DAY, NOW])
def test_a_revoked_subject_loses_all_present_credentials(issued: float) -> None:
    revocations = told(subject())
    for token in ("", "7", "8"):
        assert revocations.refuses(Holder("id|ada", token, issued), NOW + 1)


def test_a_token_that_is_issued_after_the_revocation_is_valid() -> None:
    assert not told(subject()).refuses(Holder("id|ada", "7", NOW + 1), NOW + 2)


@pytest.mark.parametrize(("issued", "refused"), [(NOW + 29, True), (NOW + 30, True), (NOW + 31, False)])
def test_the_clock_of_the_issuer_may_be_ahead_by_the_leeway(issued: float, refused: bool) -> None:
    assert told(subject(), leeway=30.0).refuses(Holder("id|ada", "", issued), NOW + 60) is refused


@pytest.mark.parametrize("issued", [NEVER, NOW, NOW + DAY / 2])
def test_a_revoked_token_is_refused_whenever_it_was_issued(issued: float) -> None:
    assert told(jti()).refuses(Holder("id|ada", "7", issued), NOW + 1)


@pytest.mark.parametrize("sessions", [("s",), ("r", "s"), ("s", "r")])
def test_a_revoked_session_loses_all_its_credentials_and_no_other_does(sessions: tuple[str, ...]) -> None:
    revocations = told(Revocation(By.SESSION, "s", NOW, NOW + DAY))
    ada = Holder("id|ada", "7", NOW + 1)  # also a token that the session got later
    assert revocations.refuses(ada._replace(sessions=sessions), NOW + 2)
    assert not revocations.refuses(ada._replace(sessions=sessions), NOW + DAY)
    assert not revocations.refuses(ada.in_session("r"), NOW + 2) and not revocations.refuses(ada, NOW + 2)
    assert not revocations.refuses(Holder("s", "s", NEVER), NOW + 2)


@pytest.mark.parametrize(
    "holder",
    [
        NOBODY, Holder("id|eve", "8", NEVER), Holder("id|ada ", "", NEVER), Holder("ID|ada", "7 ", NEVER),
        Holder("7", "id|ada", NEVER), Holder("|ada", "07", NEVER), Holder("id", "\u2077", NEVER),
    ],
)  # fmt: skip
def test_others_are_not_refused(holder: Holder) -> None:
    assert not told(subject(), jti()).refuses(holder, NOW + 1)


@pytest.mark.parametrize("statement", [subject(), jti()])
@pytest.mark.parametrize(("now", "refused"), [(NOW, True), (NOW + DAY - 1, True), (NOW + DAY, False)])
def test_a_revocation_ends(statement: Revocation, now: float, refused: bool) -> None:
    revocations = told(statement)
    assert revocations.refuses(Holder("id|ada", "7", NEVER), now) is refused
    assert [*revocations.current(now)] == ([statement] if refused else [])


@pytest.mark.parametrize("statement", [subject(), jti()])
def test_a_revocation_is_lifted_and_made_again(statement: Revocation) -> None:
    revocations, ada = told(statement), Holder("id|ada", "7", NEVER)
    lifted = revocations.lift(statement, NOW + 1)
    assert revocations.take(lifted)
    assert not revocations.refuses(ada, NOW + 2)
    assert revocations.of_id(statement.id, NOW + 2) is None
    again = revocations.revoke(statement.by, statement.value, NOW + 3, DAY)
    assert revocations.take(again)
    assert revocations.refuses(ada, NOW + 4)
    assert revocations.of_id(statement.id, NOW + 4) == again
    assert revocations.count == 1


def test_the_newest_statement_is_later_whatever_the_clock_says() -> None:
    revocations = told(ahead := subject(at=NOW + 3600))
    lifted = revocations.lift(ahead, NOW)
    assert lifted.at > ahead.at
    assert revocations.take(lifted)
    again = revocations.revoke(By.SUBJECT, "id|ada", NOW, DAY)
    assert again.at > lifted.at
    assert again.until == NOW + DAY
    assert revocations.revoke(By.SUBJECT, "id|eve", NOW, DAY).at == NOW


def test_an_earlier_statement_changes_nothing() -> None:
    revocations = told(subject(at=NOW))
    for earlier in (subject(at=NOW), subject(at=NOW - 1, until=NOW + 2 * DAY), subject(at=NOW, lifted=True)):
        assert not revocations.take(earlier)
    assert [*revocations] == [subject(at=NOW)]


def test_what_has_ended_is_forgotten_and_nothing_else() -> None:
    revocations = told(
        jti("a", until=NOW + 1), jti("b", until=NOW + 2), subject("c", until=NOW + 1),
        jti("a", at=NOW + 0.5, until=NOW + 3),  # a later statement about "a"
    )  # fmt: skip
    for now, left in ((NOW, "abc"), (NOW + 1, "ab"), (NOW + 2, "a"), (NOW + 3, "")):
        revocations.forget_ended(now)
        assert sorted(each.value for each in revocations) == list(left)
        assert revocations.count == len(left)


def test_the_number_of_statements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MOST", 2)
    revocations = told(jti("a"), jti("a", at=NOW + 1))
    assert not revocations.is_full
    assert revocations.take(jti("b"))
    assert revocations.is_full


def test_an_id_is_of_one_subject_or_token() -> None:
    same = {subject().id, subject(at=NOW + 9, lifted=True).id}
    others = {jti("id|ada").id, subject("id|eve").id, jti("\ud800").id}
    assert len(same) == 1
    assert len(same | others) == 4


# ---------------------------------------------------------------- properties

names = st.text("ab|", max_size=3)
instants = st.integers(0, 5).map(float)
statements = st.builds(
    Revocation, st.sampled_from(By), names.filter(bool), instants, st.integers(1, 9).map(float), st.booleans()
)
sessions = st.lists(names.filter(bool), max_size=2).map(tuple)
holders = st.builds(Holder, names, names, st.one_of(st.just(NEVER), instants), sessions)


@given(st.lists(statements), holders, instants)
def test_a_revocation_never_refuses_another_subject(said: list[Revocation], holder: Holder, now: float) -> None:
    mine = {By.SUBJECT: (holder.name,), By.JTI: (holder.jti,), By.SESSION: holder.sessions}
    about_others = [each for each in said if each.value not in mine[each.by]]
    assert not told(*about_others).refuses(holder, now)
    assert told(*said).refuses(holder, now) == told(*(each for each in said if each not in about_others)).refuses(
        holder, now
    )


@given(st.lists(statements).flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))))
def test_gateways_agree_in_whatever_order_they_learn(orders: tuple[list[Revocation], list[Revocation]]) -> None:
    def state(said: Iterable[Revocation]) -> set[Revocation]:
        return set(told(*said, *said))

    one, other = map(state, orders)
    assert one == other


@given(st.lists(statements, max_size=30), instants)
def test_what_ends_is_counted_out(said: list[Revocation], now: float) -> None:
    revocations = told(*said)
    revocations.forget_ended(now)
    assert revocations.count == len([*revocations])
    assert all(each.until > now for each in revocations)


def test_another_process_takes_the_statements_over() -> None:
    other = Revocations()
    other.add_plain(json.loads(json.dumps(told(subject(), jti(lifted=True)).to_plain())))
    assert set(other) == {subject(), jti(lifted=True)}


# ---------------------------------------------------------------- the other gateways are not heard


@pytest.mark.parametrize(
    ("on_error", "is_heard", "are_in_doubt"),
    [(LOCAL, True, False), (LOCAL, False, False), (CLOSED, True, False), (CLOSED, False, True)],
)
def test_credentials_are_in_doubt_while_nobody_is_heard_and_the_operator_wants_that(
    on_error: str, is_heard: bool, are_in_doubt: bool
) -> None:
    early, late = Revocations(on_error=on_error), Revocations()
    early.hear(is_heard=is_heard)
    late.hear(is_heard=is_heard)
    late.reconfigure(30.0, on_error)
    assert (early.are_in_doubt, late.are_in_doubt, late.leeway) == (are_in_doubt, are_in_doubt, 30.0)


def test_who_shares_with_nobody_has_no_doubt() -> None:
    assert not Revocations(on_error=CLOSED).are_in_doubt
