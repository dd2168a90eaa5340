"""Derived values of a service's configuration."""

import pytest

from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.service_config import ServiceConfig


@pytest.mark.parametrize(("idle", "timeout"), [(None, 7.0), (2.0, 2.0), (60.0, 60.0)])
def test_the_timeout_of_a_body_is_body_idle_or_head_timeout(idle: float | None, timeout: float) -> None:
    assert ServiceConfig(head_timeout=7.0, body_idle=idle).body_timeout == timeout


@pytest.mark.parametrize("hedge", [False, True])
@pytest.mark.parametrize("is_long_poll", [False, True])
def test_a_long_poll_is_never_hedged(hedge: bool, is_long_poll: bool) -> None:
    assert ServiceConfig(hedge=hedge, is_long_poll=is_long_poll).hedges is (hedge and not is_long_poll)


@pytest.mark.parametrize("kind", HealthKind)
def test_checks_are_configured_unless_off(kind: HealthKind) -> None:
    health = HealthConfig(kind=kind)
    assert ServiceConfig(health=health).checks is (None if kind is HealthKind.OFF else health)


@pytest.mark.parametrize(("head", "body", "shortest"), [(7.0, None, 7.0), (7.0, 2.0, 2.0), (3.0, 60.0, 3.0)])
def test_a_sweep_is_as_frequent_as_the_shortest_timeout_needs(head: float, body: float | None, shortest: float) -> None:
    assert ServiceConfig(head_timeout=head, body_idle=body).shortest_timeout == shortest
