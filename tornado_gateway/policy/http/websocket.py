"""The limits and times of WebSockets: of the handshake, and of the relay behind the handshake."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from tornado_gateway.policy.http.frames import GOING_AWAY
from tornado_gateway.policy.http.handshake import ANY_ORIGIN


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Durations are seconds, math.inf for none; rates are per second, 0 for any.

    Attributes:
        ping_interval: between pings to either side.
        pong_timeout: for a pong, or any byte, after a ping.
        idle_timeout: without a message in either direction.
        stall_timeout: without progress by a side that does not take what waits for it.
        max_message: bytes.
        max_buffered: bytes that may wait for one side.
        cuts_slow: whether a side for which more is waiting is closed (1013), instead of the other being paused.
        messages_per_second, bytes_per_second: by the client; see FrameScanner's quota.
        cuts_fast: whether a client that sends more is closed (1008), instead of being read more slowly.
        drain_code: of the Close when the gateway stops, or has the client come back.
        ping_token: what the gateway's own pings begin with; up to 100 bytes that nobody can guess.
    """

    ping_interval: float = 30.0
    pong_timeout: float = 10.0
    idle_timeout: float = math.inf
    stall_timeout: float = 60.0
    max_message: int = 16 * 1024 * 1024
    max_buffered: int = 2_000_000
    cuts_slow: bool = False
    messages_per_second: int = 0
    bytes_per_second: int = 0
    cuts_fast: bool = False
    drain_code: int = GOING_AWAY
    ping_token: bytes = b"gateway"

    @property
    def shortest_timeout(self) -> float:
        return min(self.ping_interval, self.pong_timeout, self.idle_timeout, self.stall_timeout)

    @property
    def is_paced(self) -> bool:
        return bool(self.messages_per_second or self.bytes_per_second)


@dataclass(frozen=True, slots=True)
class WebSocketConfig:
    """
    Attributes:
        allowed_origins: see check_origin() in policy/http/handshake.py.
        rewrites_origin: whether services see their own origin instead of the client's.
        relay: limits behind the handshake.
    """

    allowed_origins: Collection[str] = (ANY_ORIGIN,)
    rewrites_origin: bool = False
    relay: RelayConfig = field(default_factory=RelayConfig)
