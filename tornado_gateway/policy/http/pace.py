"""Whether a body comes too slowly to be waited for.

An idle timeout alone never ends a body of one byte per half a second. So a body has a least rate as well, averaged over
a window so long that no pause of a real link matters: Apache's mod_reqtimeout has 500 bytes/s behind 20 s. The
default here is 100 bytes/s over 60 s, a third of what the slowest links in use carry (Iridium: 2.4 kbit/s).
"""

WINDOW = 60.0  # seconds over which a rate is averaged, at least
LOOK_EVERY = WINDOW / 6  # seconds between two looks at a body


class Pace:
    """One body's progress since a window began.

    Args:
        now: instant of the window's beginning.
        total: bytes that had come then.

    >>> pace = Pace(0.0, 0)
    >>> pace.judge_window(59.0, 0, 100), pace.judge_window(60.0, 6000, 100), pace.judge_window(120.0, 11_999, 100)
    (False, False, True)
    """

    __slots__ = ("_began", "_total")

    def __init__(self, now: float, total: int) -> None:
        self._began, self._total = now, total

    def judge_window(self, now: float, total: int, rate: float) -> bool:
        """Judge the window if it is over, and begin the next one.

        Args:
            total: bytes that have come.
            rate: bytes per second that must come.
        """
        seconds = now - self._began
        if seconds < WINDOW:
            return False
        came = total - self._total
        self._began, self._total = now, total
        return came < rate * seconds
