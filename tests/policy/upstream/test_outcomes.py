"""Outcomes without leases; outcomes of leases are tested in test_lease.py."""

import pytest

from tests.support.services import FAILURES, lease_on, service
from tornado_gateway.policy.upstream.endpoint import FAILURE, IGNORED, SUCCESS, SUPERSEDED
from tornado_gateway.policy.upstream.outcomes import HANGS


def test_only_so_many_requests_in_a_row_that_a_hedge_has_won_are_a_failure() -> None:
    several = service(1, 1)
    lease = lease_on(several, several.endpoints[0])
    told = [several.outcomes.lost_to_hedge(lease, 1.0) for _ in range(HANGS + 1)]
    assert told == [*[SUPERSEDED] * (HANGS - 1), FAILURE, FAILURE]
    lease.settle(IGNORED, 1.0)


@pytest.mark.parametrize(("status", "outcome"), [(200, SUCCESS), (429, SUCCESS), (500, FAILURE), (501, SUCCESS)])
def test_a_status_is_judged_by_the_configuration(status: int, outcome: object) -> None:
    assert service(1).outcomes.judge(status) is outcome


def test_a_breaker_that_checks_open_takes_the_endpoint_out() -> None:
    several = service(1, 1)
    one = several.endpoints[0]
    for _ in range(FAILURES):
        several.outcomes.end_permit(one, one.breaker.begin(0.0), 0.0, failed=True)
    assert several.endpoint_set.ejected == [one]
