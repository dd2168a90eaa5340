"""Totals of a service's WebSockets: messages, bytes, seconds, close codes."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class WebSocketTotals:
    """Sums over the WebSockets that have ended; `up` means towards the service.

    Attributes:
        opened: WebSockets whose handshakes have succeeded.
        closed: WebSockets that have ended.
        close_codes: ended WebSockets by close code; 1006 means without a Close frame.
        seconds: total time that the ended WebSockets were open.
    """

    opened: int = 0
    closed: int = 0
    messages_up: int = 0
    messages_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: float = 0.0
    close_codes: Counter[int] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """WebSockets that are open now; a handshake under way does not count."""
        return self.opened - self.closed

    def add(self, *, messages: tuple[int, int], wire_bytes: tuple[int, int], seconds: float, close_code: int) -> None:
        """Add a WebSocket that has ended.

        Args:
            messages, wire_bytes: up and down.
            seconds: that the WebSocket was open.
        """
        self.closed += 1
        self.messages_up += messages[0]
        self.messages_down += messages[1]
        self.bytes_up += wire_bytes[0]
        self.bytes_down += wire_bytes[1]
        self.seconds += seconds
        self.close_codes[close_code] += 1
