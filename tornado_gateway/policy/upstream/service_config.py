"""What can be configured of a service."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from tornado_gateway.policy.http.sse import EventStreamConfig
from tornado_gateway.policy.http.websocket import WebSocketConfig
from tornado_gateway.policy.upstream.affinity import AffinityConfig
from tornado_gateway.policy.upstream.breaker import BreakerConfig
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.retry import RetryConfig

# 5xx, but for 501 and 505: what is not implemented is not broken. HAProxy counts them alike.
FAILURE_STATUSES = frozenset({*range(500, 600)} - {501, 505})


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """
    Attributes:
        balancer: name in BALANCERS.
        affinity: what binds requests to endpoints.
        breaker: when an endpoint is left alone.
        adapts: whether the limit of requests in flight follows the latency; see policy/upstream/concurrency.py.
        rebalance_streams: streams per second that may be moved away from endpoints with more than their share; 0: none.
        failure_statuses: that count as an endpoint's failure.
        max_ejected: share of the endpoints that breakers may take out at once, 0 to 1; rounded down. As many may be
            avoided or left alone for their answers.
        panic_below: share of the endpoints below which any is used; 0 for never.
        slow_start: seconds in which an endpoint that joins, or comes back, gets its full share; 0 for at once.
        max_in_flight: requests that an endpoint may have, without streams; math.inf for any number.
        max_waiting: requests that may wait until an endpoint has room; 0 for none.
        queue_timeout: seconds that each may.
        retry: what is sent again.
        hedge: whether a second endpoint is asked when the first one is slow.
        health: how endpoints are checked.
        connect_timeout: seconds for an endpoint's name, connection and TLS together; > 0.
        head_timeout: seconds to a response's head, of all tries of a request together; > 0.
        body_idle: seconds between two pieces of a response's body; > 0, math.inf for any time; None: as head_timeout.
        request_timeout: seconds from a request's head to its response's last byte, streams apart; math.inf for any.
        min_upload_rate, min_response_rate: bytes per second, see policy/http/pace.py; 0 for any.
        is_long_poll: whether endpoints answer late on purpose: the time to a head is no latency then, and a head that
            has not come in time is no endpoint's failure to its breaker.
        event_streams: what the service's event streams may do.
        websocket: limits and rules of the service's WebSockets.
        passes_alt_svc: whether clients are told of the alternatives that its responses name (RFC 7838).
        body_timeout: body_idle, or head_timeout.
        hedges: `hedge`, but never with is_long_poll: a long poll that waits is not slow.
        checks: `health`; None if endpoints are not checked.
    """

    balancer: str = "least_load"
    affinity: AffinityConfig = field(default_factory=AffinityConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    adapts: bool = False
    rebalance_streams: int = 0
    failure_statuses: Collection[int] = FAILURE_STATUSES
    max_ejected: float = 0.5
    panic_below: float = 0.5
    slow_start: float = 10.0
    max_in_flight: float = math.inf
    max_waiting: int = 100
    queue_timeout: float = 1.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    hedge: bool = False
    health: HealthConfig = field(default_factory=HealthConfig)
    connect_timeout: float = 5.0
    head_timeout: float = 30.0
    body_idle: float | None = None
    request_timeout: float = math.inf
    min_upload_rate: float = 100
    min_response_rate: float = 100
    is_long_poll: bool = False
    event_streams: EventStreamConfig = field(default_factory=EventStreamConfig)
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    passes_alt_svc: bool = False
    body_timeout: float = field(init=False, compare=False, repr=False)
    hedges: bool = field(init=False, compare=False, repr=False)
    checks: HealthConfig | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        derive = partial(object.__setattr__, self)
        derive("body_timeout", self.head_timeout if self.body_idle is None else self.body_idle)
        derive("hedges", self.hedge and not self.is_long_poll)
        derive("checks", self.health if self.health.kind is not HealthKind.OFF else None)

    @property
    def shortest_timeout(self) -> float:
        """Of the durations whose end a sweep notices; the others have a timer each."""
        streams = min(self.event_streams.shortest_timeout, self.websocket.relay.shortest_timeout)
        return min(self.head_timeout, self.body_timeout, self.retry.try_timeout, streams)
