"""The list of open streams: which are wanted, and in which pages."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.figures import whole
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views.stream_list import LONGEST, LONGEST_PRINCIPAL, Facts, Row, Wanted, joined, page

NOW = 100.0
URL = "http://10.0.0.7:9000"


def row(number: int, kind: Kind = Kind.SSE, principal: str = "id|ada", path: str = "/sse/billing/x") -> Row:
    facts = Facts("billing", URL, f"192.0.2.{number}", path, f"request-{number}", NOW - number)
    return Row(number, kind, principal, facts, Carried(1, 2, 3, 4, 5))


def said(rows: list[Row], wanted: Wanted | None = None, after: int = 0, limit: int = 10) -> dict[str, Any]:
    return whole(page(iter(rows), wanted or Wanted(), after, limit, open_=len(rows), now=NOW))


def test_a_stream_is_shown_with_everything_known() -> None:
    assert said([row(3, Kind.WS)]) == {
        "open": 1, "matching": 1, "next": None,
        "streams": [{
            "id": 3, "kind": "webSocket", "service": "billing", "endpoint": URL, "client": "192.0.2.3",
            "principal": "id|ada", "path": "/sse/billing/x", "requestId": "request-3", "ageMs": 3000,
            "messages": {"up": 1, "down": 2}, "bytes": {"up": 3, "down": 4}, "waitingBytes": 5,
        }],
    }  # fmt: skip


def test_pages_follow_each_other_whatever_ends_between() -> None:
    rows = [row(number) for number in (1, 2, 4, 5, 7)]
    first = said(rows, limit=2)
    assert ([each["id"] for each in first["streams"]], first["next"]) == ([1, 2], 2)
    rows = [each for each in rows if each.number != 2]
    second = said(rows, after=2, limit=2)
    assert ([each["id"] for each in second["streams"]], second["next"], second["open"]) == ([4, 5], 5, 4)
    last = said(rows, after=5, limit=2)
    assert ([each["id"] for each in last["streams"]], last["next"]) == ([7], None)
    assert said(rows, after=7)["streams"] == said([])["streams"] == []


def test_a_page_of_all_streams_needs_no_look_behind_the_page() -> None:
    def rows() -> Iterator[Row]:
        yield from (row(1), row(2), row(3))
        raise AssertionError("a look behind the page")

    steps = page(rows(), Wanted(), 0, 2, open_=9000, now=NOW)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert (end.value.value["open"], end.value.value["matching"], end.value.value["next"]) == (9000, 9000, 2)


def test_the_last_page_may_be_full() -> None:
    assert said([row(1), row(2)], limit=2)["next"] is None


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(kind="webSocket"), [2]), (Wanted(kind="eventStream"), [1, 3]), (Wanted(service="billing"), [1, 2, 3]),
        (Wanted(service="bill"), []), (Wanted(endpoint=URL), [1, 2, 3]), (Wanted(endpoint="http://"), []),
        (Wanted(client="192.0.2.3"), [3]), (Wanted(principal="id|eve"), [3]), (Wanted(text="EVE"), [3]),
        (Wanted(text="192.0.2."), [1, 2, 3]), (Wanted(text="/chat"), [2]), (Wanted(text="nobody"), []),
        (Wanted(text="ada", kind="webSocket"), [2]),
    ],
    ids=range(13),
)  # fmt: skip
def test_a_filter_admits_what_it_names(wanted: Wanted, ids: list[int]) -> None:
    rows = [row(1), row(2, Kind.WS, path="/ws/chat"), row(3, principal="id|eve")]
    found = said(rows, wanted)
    assert [each["id"] for each in found["streams"]] == ids
    assert (found["open"], found["matching"]) == (3, len(ids))


def test_long_texts_are_cut() -> None:
    (shown,) = said([row(1, principal="p" * 9000, path="/" * 9000)])["streams"]
    assert (len(shown["principal"]), len(shown["path"])) == (LONGEST_PRINCIPAL, LONGEST)


def of_a_worker(*ids: int, next_: int | None = None, open_: int | None = None) -> dict[str, Any]:
    count = len(ids) if open_ is None else open_
    return {"open": count, "matching": count, "streams": [{"id": each} for each in ids], "next": next_}


def test_the_page_of_all_workers_is_the_oldest_of_the_pages_of_each() -> None:
    said = joined([of_a_worker(2, 6, 8), of_a_worker(3, 7, open_=9, next_=7)], 3)
    assert said == {"open": 12, "matching": 12, "streams": [{"id": 2}, {"id": 3}, {"id": 6}], "next": 6}
    assert joined([of_a_worker(2), of_a_worker(3)], 5)["next"] is None
    assert joined([of_a_worker(), of_a_worker()], 5) == of_a_worker()
