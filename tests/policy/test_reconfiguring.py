"""What a reload changes in parts that stay: thresholds, counters, sessions, endpoints."""

import math
import random

from tests.support.services import service
from tornado_gateway.policy.limits.memory import MemoryStore
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.overload import Overload, OverloadConfig
from tornado_gateway.policy.principal import ANYBODY
from tornado_gateway.policy.sessions import SessionConfig, SessionStore
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.resolution import new_endpoint

RNG = random.Random(1)


def test_requests_in_flight_count_against_another_threshold() -> None:
    overload = Overload(OverloadConfig(max_in_flight=10), RNG)
    for _ in range(10):
        overload.take()
    assert overload.level > 0
    overload.reconfigure(OverloadConfig())
    assert (overload.level, overload.counts_requests, overload.in_flight) == (0.0, False, 10)
    overload.reconfigure(OverloadConfig(max_in_flight=10))
    assert overload.level > 0


def test_counters_of_rules_that_are_gone_are_forgotten() -> None:
    store, (one, two) = MemoryStore(RNG), LimitConfig(quotas=(Quota(1, 60.0), Quota(2, 60.0))).rules
    store.take([(one, "a"), (two, "a")], 1.0)
    store.keep({two.id})
    assert (len(store), store.take_alone(one, "a", 1.0)[1].wait) == (1, 0)


def test_all_sessions_end() -> None:
    sessions = SessionStore(SessionConfig())
    sessions.open(b"token", ANYBODY, 1.0, 1.0)
    sessions.clear()
    assert len(sessions) == 0


def test_a_service_takes_other_endpoints_and_keeps_those_that_stay() -> None:
    svc = service(2)
    first = svc.endpoints[0]

    def make(url: str, weight: int) -> Endpoint:
        return new_endpoint(url, weight, svc.config, RNG, 1.0)

    svc.configure({first.url: 3, "http://new": 1}, make, 1.0)
    after = svc.endpoints
    assert (after[0], after[0].weight, after[1].url) == (first, 3, "http://new")
    svc.configure({first.url: 3, "http://new": 1}, make, 2.0)
    assert svc.endpoints is after and first.joined_at == -math.inf
