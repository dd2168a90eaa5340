"""A State in which every metric has a series."""

import dataclasses
import random

from tests.support.figures import collect, make_service
from tornado_gateway.policy.loop_delays import LoopDelays
from tornado_gateway.policy.overload import Overload, OverloadConfig
from tornado_gateway.policy.upstream.connect_totals import ConnectTotals
from tornado_gateway.policy.upstream.endpoint import Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import CacheState, ConnectState, LimitsState, ProcessState, State


def everything() -> State:
    """A State with at least one request, stream and failure of each kind."""
    service, durations = make_service("one"), Durations()
    for kind in Kind:
        lease = Lease(service, service.endpoints[0], LeaseRequest(1.0, kind), is_retry=True)
        lease.answered(1.5, 200)
        lease.settle(Outcome.SUCCESS, 2.0)
    service.heads.add(0.5)
    for totals in (service.event_stream_totals, service.websocket_totals):
        totals.opened += 1
        totals.add(Carried(1, 2, 3, 4, 0), 5.0, 1000)
        totals.firsts.add(0.5)
        totals.pauses.add(0.5)
    durations.add(b"GET", "/api/<service>/*", 200, 0.5, "one")
    durations.reasons["one", "client_gone"] += 1
    state = collect([service], durations, 3.0)
    return dataclasses.replace(
        state,
        process=_process(),
        limits=LimitsState({"refused 1": 1}, 1, 1, 1, True),
        cache=CacheState({"hit one": 1}, 1, 1, 1, 1),
    )


def _process() -> ProcessState:
    totals, delays = ConnectTotals(), LoopDelays()
    for histogram in (totals.look_ups, totals.connections, totals.handshakes):
        histogram.add(0.5)
    totals.failures["connect_failed"] += 1
    delays.add(0.25, 1.0)
    return dataclasses.replace(
        ProcessState.of(Overload(OverloadConfig(), random.Random(1)), delays),
        connects=ConnectState.of(totals, 1),
        tickets={"made": 1},
        spans={"exported": 1},
        told={"applied": 1},
        handshakes={"full": 1},
        revocations=1,
        workers={"wanted": 2, "answering": 1},
        crashes=1,
        buffered={"clients": 1, "upstreams": 2},
        build={"0.1 3.13.1 uvloop": 1},
    )
