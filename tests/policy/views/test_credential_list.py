"""The list of credentials in use: which credentials are one row, what a row tells, and which are wanted."""

import json
import math
from typing import Any

import pytest

from tests.support.figures import whole
from tornado_gateway.policy.principal import NOBODY, Holder
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.views.credential_list import LONGEST, LogIn, credentials, from_plain, uses_of

ADA = Holder("id|ada", "7", 1_700_000_000.0, ("sid-1",))
CI = Holder("key:ci", "", -math.inf)
LOG_IN = LogIn(ADA.in_session("6fd0"), "6fd0", 1.5, 20.0)


def said(
    log_ins: list[LogIn] | None = None, streams: list[tuple[Holder, Kind]] | None = None, text: str = "", limit: int = 9
) -> dict[str, Any]:
    return whole(credentials(log_ins or [], whole(uses_of(streams or [])), text, limit))


def test_a_row_tells_what_a_revocation_may_name_and_what_the_credential_is_used_for() -> None:
    told = said([LOG_IN], [(ADA, Kind.SSE), (CI, Kind.WS), (ADA, Kind.SSE), (ADA, Kind.WS)])
    assert told == {
        "matching": 3,
        "credentials": [
            {
                "principal": "id|ada", "jti": "7", "sessions": ["sid-1", "6fd0"], "issuedAtMs": 1_700_000_000_000,
                "logIn": {"session": "6fd0", "idleMs": 1500, "endsInMs": 20_000}, "eventStreams": 0, "webSockets": 0,
            },
            {
                "principal": "id|ada", "jti": "7", "sessions": ["sid-1"], "issuedAtMs": 1_700_000_000_000,
                "logIn": None, "eventStreams": 2, "webSockets": 1,
            },
            {
                "principal": "key:ci", "jti": "", "sessions": [], "issuedAtMs": None,
                "logIn": None, "eventStreams": 0, "webSockets": 1,
            },
        ],
    }  # fmt: skip


def test_a_credential_that_two_workers_know_is_one_row() -> None:
    plain = [
        json.loads(json.dumps(whole(uses_of(each)))) for each in ([(ADA, Kind.SSE)], [(CI, Kind.WS), (ADA, Kind.WS)])
    ]
    uses = [use for each in plain for use in from_plain(each)]
    rows = whole(credentials([], uses, "", 9))["credentials"]
    assert [(each["principal"], each["eventStreams"], each["webSockets"]) for each in rows] == [
        ("id|ada", 1, 1), ("key:ci", 0, 1),
    ]  # fmt: skip


def test_a_log_in_with_streams_is_one_row() -> None:
    (row,) = said([LOG_IN], [(LOG_IN.holder, Kind.SSE)])["credentials"]
    assert (row["logIn"]["session"], row["eventStreams"]) == ("6fd0", 1)


def test_a_stream_without_a_credential_has_no_row() -> None:
    assert said(streams=[(NOBODY, Kind.SSE)]) == {"matching": 0, "credentials": []}


@pytest.mark.parametrize(
    ("text", "count"), [("", 3), ("ADA", 2), ("key:", 1), ("7", 2), ("6FD", 1), ("sid-1", 2), ("eve", 0)]
)
def test_a_text_stands_in_any_name(text: str, count: int) -> None:
    told = said([LOG_IN], [(ADA, Kind.SSE), (CI, Kind.WS)], text)
    assert told["matching"] == len(told["credentials"]) == count


def test_a_limit_bounds_the_rows_and_not_the_number() -> None:
    streams = [(Holder(f"id|{number}", "", 0.0), Kind.SSE) for number in range(5)]
    told = said(streams=streams, limit=2)
    assert (told["matching"], [each["principal"] for each in told["credentials"]]) == (5, ["id|0", "id|1"])


def test_names_are_cut_where_nothing_longer_can_be_revoked() -> None:
    (row,) = said(streams=[(Holder("a" * 9000, "b" * 9000, 0.0, ("c" * 9000,)), Kind.SSE)])["credentials"]
    assert {len(each) for each in (row["principal"], row["jti"], *row["sessions"])} == {LONGEST}
