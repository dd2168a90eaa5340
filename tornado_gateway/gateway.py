"""Everything a handler may touch, in one typed record. No behaviour."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tornado_gateway.adapters.access_log import AccessLog
from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.policy.http.forwarding import ForwardingConfig
from tornado_gateway.policy.principal import Authenticator
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.upkeep.streams import Streams
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.websocket.config import WebSocketConfig


@dataclass(slots=True)
class Lifecycle:
    """What the process is about.

    Attributes:
        began: seconds on the gateway's clock.
        draining: whether it has been told to stop: nothing new should be sent here.
        stopped: whether it ends everything at once: what ends from now on is ended by the gateway.
    """

    began: float = 0.0
    draining: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """
    Attributes:
        services: by name, as it stands in a request target.
        client: connections to upstreams.
        forwarding: how requests are passed on.
        authenticator: checks tokens; None where AUTH_REQUIRED is not set.
        access_log: one line per request, or None.
        streams: those that are open.
        websockets: what they may do, by service.
        metrics: what Prometheus reads.
        durations: of all requests.
        required: names of services without any of whose endpoints the gateway is not ready.
        environment: development, test or production.
        rng: for what needs no secrecy.
        new_request_id: makes one that is unlike all others.
        now: seconds on a monotonic clock.
    """

    services: Mapping[bytes, Service]
    client: PooledHTTPClient
    forwarding: ForwardingConfig
    authenticator: Authenticator | None
    access_log: AccessLog | None
    streams: Streams
    websockets: Mapping[str, WebSocketConfig]
    metrics: Metrics
    durations: Durations
    required: frozenset[str]
    environment: str
    rng: random.Random
    new_request_id: Callable[[], bytes]
    now: Callable[[], float]
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
