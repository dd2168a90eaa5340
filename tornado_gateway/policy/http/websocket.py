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
        ping_interval: time between pings to each side.
        pong_timeout: time after a ping until a pong, or any byte, must come.
        idle_timeout: time without a message in either direction after which the WebSocket is ended.
        stall_timeout: time without progress after which a side that does not read is cut.
        max_message: greatest size of a message in bytes.
        max_buffered: greatest number of unsent bytes for a side.
        cuts_slow: whether a side with more than max_buffered bytes unsent is closed (1013); otherwise the other side is
            paused.
        messages_per_second, bytes_per_second: limits for the client; see FrameScanner.quota.
        cuts_fast: whether a client above a limit is closed (1008); otherwise the client is read more slowly.
        drain_code: close code when the gateway stops or moves the WebSocket to another endpoint.
        ping_token: prefix of the payload of the gateway's pings; up to 100 bytes, unguessable.
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
    """How a service's WebSockets are opened and relayed.

    Attributes:
        allowed_origins: see check_origin() in policy/http/handshake.py.
        relay: limits after the handshake.
    """

    allowed_origins: Collection[str] = (ANY_ORIGIN,)
    relay: RelayConfig = field(default_factory=RelayConfig)
