"""The configuration of a service."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from tornado_gateway.policy.access import Access
from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.compression import CompressionConfig
from tornado_gateway.policy.http.cors import CorsConfig
from tornado_gateway.policy.http.mount import MountConfig
from tornado_gateway.policy.http.sse import EventStreamConfig
from tornado_gateway.policy.http.websocket import WebSocketConfig
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.upstream.affinity import AffinityConfig
from tornado_gateway.policy.upstream.breaker import BreakerConfig
from tornado_gateway.policy.upstream.connection_config import ConnectionConfig
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.retry import RetryConfig

# 5xx without 501 and 505: an unimplemented feature is no failure. HAProxy counts the same statuses.
FAILURE_STATUSES = frozenset({*range(500, 600)} - {501, 505})


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Everything that a service can be configured with.

    Attributes:
        balancer: name in BALANCERS.
        affinity: what binds requests to endpoints.
        breaker: when a breaker opens, and for how long.
        adapts: whether the limit of requests in flight follows the latency; see policy/upstream/concurrency.py.
        rebalance_streams: streams per second that may move away from endpoints above their share; 0: no moves.
        failure_statuses: statuses that count as a failure of the endpoint.
        max_ejected: share of the endpoints that may be ejected at once, 0 to 1, rounded down; also the share that may
            be penalised or resting.
        panic_below: share of the endpoints; while fewer are admitted, every endpoint is used (panic); 0: never.
        slow_start: seconds in which the share of a joining or recovered endpoint grows to 1; 0: no slow start.
        max_in_flight: requests (without streams) that an endpoint may have in flight; math.inf: no limit.
        max_waiting: requests that may wait until an endpoint has room; 0: no request waits.
        queue_timeout: seconds that a request may wait for room.
        retry: which requests are sent again.
        hedge: whether slow requests are sent to a second endpoint too.
        health: how endpoints are checked.
        connection: how connections to endpoints are opened.
        head_timeout: seconds to the response's head, for all attempts of a request together; > 0.
        body_idle: seconds between two pieces of a response's body; > 0; math.inf: no limit; None: as head_timeout.
        request_timeout: seconds from the request's head to the response's last byte, except for streams; math.inf: no
            limit.
        min_upload_rate, min_response_rate: bytes per second, see policy/http/pace.py; 0: no minimum.
        is_long_poll: whether endpoints answer late on purpose: the time to a head is then no latency, and a timeout of
            the head is no failure to the breaker.
        event_streams: limits and rules of the service's event streams.
        websocket: limits and rules of the service's WebSockets.
        access: what the standard routes ask of clients.
        mount: how the service appears to clients, and clients to the service.
        limits: how often clients may ask.
        cors: which pages of other origins may use the service.
        cache: which responses are cached.
        compression: which responses are compressed on the way to clients.
        body_timeout: body_idle, or head_timeout.
        hedges: `hedge` and not is_long_poll: a waiting long poll is not slow.
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
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    head_timeout: float = 30.0
    body_idle: float | None = None
    request_timeout: float = math.inf
    min_upload_rate: float = 100
    min_response_rate: float = 100
    is_long_poll: bool = False
    event_streams: EventStreamConfig = field(default_factory=EventStreamConfig)
    websocket: WebSocketConfig = field(default_factory=WebSocketConfig)
    access: Access = field(default_factory=Access)
    mount: MountConfig = field(default_factory=MountConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    cors: CorsConfig = field(default_factory=CorsConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
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
        """The shortest duration, in seconds, whose end a periodic sweep notices; other durations have timers."""
        streams = min(self.event_streams.shortest_timeout, self.websocket.relay.shortest_timeout)
        return min(self.head_timeout, self.body_timeout, self.retry.try_timeout, streams)
