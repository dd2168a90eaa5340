"""The newest requests: bounded in number and in rate, troubles apart, and masked like the access log."""

import math
from typing import Any

import pytest

from tornado_gateway.policy.http.redaction import HIDDEN, Redaction
from tornado_gateway.policy.views.request_tail import (
    COLUMNS,
    KEPT,
    LONGEST,
    LONGEST_TARGET,
    PER_LOOK,
    SLOW,
    Ended,
    Followed,
    RequestTail,
    Wanted,
    joined,
    page,
)

GOOD = Ended(
    10.0, 200, "", b"GET", b"/api/billing/x?a=1&token=t", "billing", "http://10.0.0.7", 1, 0.25, "192.0.2.7", "id|ada",
    b"r1",
)  # fmt: skip
BAD = GOOD._replace(status=502, reason="connect_failed")


def tail(*names: str, shows_query: bool = False, slow: float = math.inf) -> RequestTail:
    return RequestTail(Redaction(frozenset(names), shows_query), slow)


def offered(of: RequestTail, *requests: Ended) -> None:
    """Offer requests as the journal does."""
    offered_at(of, 0.0, *requests)


def shown(of: RequestTail) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in of.rows()]


def test_a_request_is_shown_with_everything_known_and_without_its_query() -> None:
    of = tail()
    offered(of, GOOD)
    assert shown(of) == [{
        "id": 1, "at": 10.0, "rank": "fine", "status": 200, "reason": "", "method": "GET", "path": "/api/billing/x",
        "query": "", "service": "billing", "endpoint": "http://10.0.0.7", "attempts": 1, "ms": 250.0,
        "client": "192.0.2.7", "principal": "id|ada", "requestId": "r1",
    }]  # fmt: skip


def test_queries_are_shown_if_asked_for_and_secrets_never() -> None:
    of = tail(shows_query=True)
    offered(of, GOOD, GOOD._replace(target=b"/a/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"))
    assert [each["query"] for each in shown(of)] == [f"a=1&token={HIDDEN}", ""]
    assert shown(of)[1]["path"] == f"/a/{HIDDEN}"


def test_what_the_access_log_hides_is_hidden_here_too() -> None:
    of = tail("path", "endpoint", "client", "principal", "requestid")
    offered(of, GOOD, GOOD._replace(principal=""))
    hidden = ("path", "endpoint", "client", "principal", "requestId")
    assert [[each[name] for name in hidden] for each in shown(of)] == [[HIDDEN] * 5, [HIDDEN] * 3 + ["", HIDDEN]]


def test_between_two_looks_the_number_is_bounded_and_troubles_have_a_bound_of_their_own() -> None:
    of = tail()
    offered(of, *[GOOD] * (PER_LOOK + 5), *[BAD] * (PER_LOOK + 5))
    assert [row[COLUMNS.index("rank")] for row in of.look()] == ["fine"] * PER_LOOK + ["failed"] * PER_LOOK
    assert of.look() == []
    offered(of, GOOD, BAD)
    assert len(of.look()) == 2


def test_good_requests_push_out_no_trouble_and_the_memory_is_bounded() -> None:
    of = tail()
    offered(of, BAD)
    for _ in range(KEPT):
        offered(of, *[GOOD._replace(target=b"/" + b"x" * 10_000)] * 2)
        of.look()
    ranks = [each["rank"] for each in shown(of)]
    assert (ranks.count("failed"), ranks.count("fine")) == (1, KEPT)
    assert max(len(ended.target) for _, ended in of._all()) == LONGEST_TARGET
    assert max(len(each["path"]) for each in shown(of)) == LONGEST


@pytest.mark.parametrize(("configured", "slow"), [(math.inf, SLOW), (0.2, 0.2)])
def test_a_request_is_slow_from_the_configured_time_on(configured: float, slow: float) -> None:
    of = tail(slow=configured)
    offered(of, GOOD._replace(seconds=slow - 0.01), GOOD._replace(seconds=slow))
    assert [each["rank"] for each in shown(of)] == ["fine", "slow"]


def test_a_page_has_failed_requests_first_then_slow_ones_and_each_the_newest_first() -> None:
    of = tail()
    slow = GOOD._replace(seconds=2.0)
    offered(of, BAD, GOOD, slow, BAD, GOOD, GOOD._replace(status=404, reason="not_found"))
    found = page(of.rows(), Wanted(), 5)
    assert found["matching"] == 6
    assert [each["id"] for each in found["requests"]] == [4, 1, 3, 6, 5]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), [1, 3, 2]),
        (Wanted(rank="failed"), [1]),
        (Wanted(service="chat"), [3]),
        (Wanted(text="CONNECT"), [1]),
        (Wanted(text="404"), [2]),
        (Wanted(text="nobody"), []),
    ],
)
def test_a_filter_admits_what_it_names(wanted: Wanted, ids: list[int]) -> None:
    of = tail()
    offered(of, BAD, GOOD._replace(status=404), GOOD._replace(service="chat"))
    found = page(of.rows(), wanted, 100)["requests"]
    assert sorted(each["id"] for each in found) == sorted(ids)


def of_workers(count: int) -> list[RequestTail]:
    return [RequestTail(Redaction(), SLOW, worker, count) for worker in range(count)]


def test_numbers_of_all_workers_are_in_the_order_of_time_and_differ() -> None:
    first, second = of_workers(2)
    for number, (of, now) in enumerate([(second, 10.0), (first, 10.001), (second, 10.002), (second, 10.002)]):
        of.keep(GOOD._replace(at=100.0 - number), now)  # the wall clock goes back
    successor = of_workers(2)[1]
    successor.keep(GOOD, 11.0)
    numbers = [[row[0] for row in of.rows()] for of in (second, first, successor)]
    assert numbers == [[2_000_001, 2_000_401, 2_000_403], [2_000_200], [2_200_001]]
    assert [row[0] for row in second.rows(after=2_000_401)] == [2_000_403]
    pages = [page(of.rows(), Wanted(), 10) for of in (first, second)]
    assert [each["id"] for each in joined(pages, 3)["requests"]] == [2_000_403, 2_000_401, 2_000_200]
    first.keep(BAD, 9.0)
    found = joined([page(of.rows(), Wanted(), 1) for of in (first, second)], 2)
    assert (found["matching"], [each["id"] for each in found["requests"]]) == (5, [2_000_202, 2_000_403])


def test_who_follows_all_workers_sees_each_request_once_and_no_more_than_of_one_worker() -> None:
    workers, followed = of_workers(3), Followed(3)

    def look() -> list[int]:
        for number, each in enumerate(workers):
            followed.learn(each.rows(followed.newest[number]))
            each.make_room()
        return [int(row[0]) for row in followed.look()]

    workers[2].keep(GOOD, 1.0)
    workers[0].keep(BAD, 1.001)
    assert look() == [300_002, 300_300]
    assert look() == []
    workers[0].keep(GOOD, 1.002)
    workers[1].keep(GOOD, 1.001)  # comes to be known later than what ended after it
    assert look() == [300_301, 300_600]
    workers[1] = of_workers(3)[1]  # the worker has ended, and another has its number
    workers[1].keep(GOOD, 2.0)
    assert look() == [600_001]
    for now in range(3, 20):
        for each in workers:
            offered_at(each, now, *[GOOD] * (PER_LOOK + 1), BAD)
        assert len(look()) == PER_LOOK + 3
    ranks = [row[COLUMNS.index("rank")] for row in followed.rows()]
    assert (ranks.count("fine"), ranks.count("failed")) == (KEPT, 17 * 3 + 1)
    assert [row[0] for row in followed.rows()] == sorted(row[0] for row in followed.rows())


def offered_at(of: RequestTail, now: float, *requests: Ended) -> None:
    for each in requests:
        if of.has_room(each.status, each.reason, each.seconds):
            of.keep(each, now)
