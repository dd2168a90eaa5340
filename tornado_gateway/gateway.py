"""Everything a handler may touch, in one typed record. No behaviour."""

import random
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
        now: seconds on a monotonic clock.
        rng: for request ids.
    """

    services: Mapping[bytes, Service]
    client: PooledHTTPClient
    forwarding: ForwardingConfig
    authenticator: JwtAuthenticator | None
    access_log: AccessLog | None
    now: Callable[[], float]
    rng: random.Random = field(default_factory=random.Random)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)

    def new_request_id(self) -> bytes:
        """128 random bits in hexadecimal, as W3C's trace ids."""
        return b"%032x" % self.rng.getrandbits(128)
