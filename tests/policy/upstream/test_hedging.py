"""The delay of a hedge: a quantile of recent latencies, and how long latencies count."""

import pytest

from tests.support.services import lease_on, service
from tornado_gateway.policy.upstream.endpoint import FAILURE, Outcome
from tornado_gateway.policy.upstream.hedging import Hedging
from tornado_gateway.policy.upstream.service import Service


def hedging(*durations: float) -> Hedging:
    """The delay of a hedge after these latencies, at instant 10."""
    known = Hedging()
    for seconds in durations:
        known.observe(10.0, seconds)
    return known


@pytest.mark.parametrize(
    ("durations", "seconds"),
    [
        ([], None),
        ([0.1] * 9, None),
        ([0.1] * 10, 0.1),
        ([0.1] * 19 + [9.0], 0.1),
        ([0.1] * 18 + [9.0] * 2, 9.0),
        ([number / 1000 for number in range(1, 1001)], 0.95),
    ],
)
def test_the_delay_of_a_hedge_is_known_after_ten_answers(durations: list[float], seconds: float | None) -> None:
    assert hedging(*durations).after(10.0) == (None if seconds is None else pytest.approx(seconds, rel=0.011))


@pytest.mark.parametrize(("now", "known"), [(10.0, True), (69.9, True), (70.0, False), (3600.0, False)])
def test_latencies_are_forgotten_after_a_minute(now: float, known: bool) -> None:
    assert (hedging(*[0.1] * 10).after(now) is not None) is known


def test_the_quantile_is_computed_once_a_second() -> None:
    known = hedging(*[0.1] * 9)
    assert known.after(10.0) is None
    known.observe(10.0, 0.1)
    assert known.after(10.75) is None
    assert known.after(11.0) == pytest.approx(0.1, rel=0.01)
    for _ in range(90):
        known.observe(11.0, 5.0)
    assert known.after(11.75) == pytest.approx(0.1, rel=0.01)
    assert known.after(12.0) == pytest.approx(5.0, rel=0.01)


def answer(of: Service, times: int, outcome: Outcome) -> None:
    """Have the endpoints answer within a tenth of a second, in turn."""
    for number in range(times):
        lease = lease_on(of, of.endpoints[number % len(of.endpoints)], 9.9)
        lease.answered(10.0, 200)
        lease.settle(outcome, 10.0)


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("count", [1, 3])
def test_every_answer_counts_whatever_endpoint_gives_it_and_however_the_request_ends(
    outcome: Outcome, count: int
) -> None:
    several = service(*[1] * count, hedge=True)
    answer(several, 10, outcome)
    assert several.outcomes.hedging.after(10.0) == pytest.approx(0.1, rel=0.011)


def test_without_hedging_latencies_are_not_recorded() -> None:
    single = service(1)
    answer(single, 10, Outcome.SUCCESS)
    assert single.outcomes.hedging.after(10.0) is None


def test_a_request_without_an_answer_adds_no_latency() -> None:
    single = service(1, hedge=True)
    answer(single, 9, Outcome.SUCCESS)
    for _ in range(20):
        lease_on(single, single.endpoints[0], 9.0).settle(FAILURE, 10.0)
    assert single.outcomes.hedging.after(10.0) is None
