"""Everything a handler may touch, in one typed record. No behaviour."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tornado_gateway.adapters.access_log import AccessLog
from tornado_gateway.adapters.jwt_auth import JwtAuthenticator
from tornado_gateway.policy.endpoint import Service
from tornado_gateway.policy.headers import ForwardingConfig
from tornado_gateway.wire.client import PooledHTTPClient


@dataclass(slots=True)
class Lifecycle:
    """What the process is about.

    Attributes:
        draining: whether it has been told to stop: nothing new should be sent here.
    """

    draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """
    Attributes:
        services: by name, as it stands in a request target.
        client: connections to upstreams.
        forwarding: how requests are passed on.
        authenticator: checks tokens, or None when anybody may ask.
        access_log: one line per request, or None.
        new_request_id: makes one that is unlike all others.
        now: seconds on a monotonic clock.
    """

    services: Mapping[bytes, Service]
    client: PooledHTTPClient
    forwarding: ForwardingConfig
    authenticator: JwtAuthenticator | None
    access_log: AccessLog | None
    new_request_id: Callable[[], bytes]
    now: Callable[[], float]
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
