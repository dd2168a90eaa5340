"""When the idle connections of a process that stops are closed.

    the drain begins          grace           + spread
    ├─────────────────────────┼───────┬───────┤
      each response says        the connections that are
      "Connection: close"       still idle are closed one by one

A client may send a request at the very moment when the server closes the connection, and then cannot know whether the
request was processed (RFC 9112 §9.6). In the grace, clients that use their connections are told by a response. A
connection that nobody has used for so long is hardly used at the moment of its end. The connection that has been idle
for the longest is closed first.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdleEnds:
    """How idle connections end.

    Attributes:
        grace: seconds until the first end; ≥ 0.
        spread: seconds over which the ends are spread; ≥ 0.
    """

    grace: float = 1.0
    spread: float = 0.0

    def instants(self, count: int, now: float) -> Iterator[float]:
        """The instants of the ends of so many connections, the earliest first.

        >>> list(IdleEnds(grace=2.0, spread=4.0).instants(4, now=100.0))
        [102.0, 103.0, 104.0, 105.0]
        """
        for index in range(count):
            yield now + self.grace + self.spread * index / count
