"""What a service's WebSockets have carried."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class WebSocketTotals:
    """Sums over the WebSockets that have ended; up is towards the service.

    Attributes:
        opened: how many have begun.
        closed: how many have ended.
        close_codes: how often they ended with each code; 1006 stands for no Close at all.
        seconds: that they were open, together.
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
        """How many there are; not those whose handshakes are under way."""
        return self.opened - self.closed

    def add(self, *, messages: tuple[int, int], wire_bytes: tuple[int, int], seconds: float, close_code: int) -> None:
        """Count one in; pairs are up and down."""
        self.closed += 1
        self.messages_up += messages[0]
        self.messages_down += messages[1]
        self.bytes_up += wire_bytes[0]
        self.bytes_down += wire_bytes[1]
        self.seconds += seconds
        self.close_codes[close_code] += 1
