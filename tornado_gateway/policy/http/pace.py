"""The least rate of a body, against senders that send a byte now and then (Slowloris).

An idle timeout alone never ends a body of one byte per half a second. So a body also has a least rate, averaged over a
window that is longer than the pauses of real links. The default is 100 bytes/s over 60 s, a third of the slowest links
in use (Iridium: 2.4 kbit/s); Apache's mod_reqtimeout requires 500 bytes/s after 20 s.
"""

WINDOW = 60.0  # least seconds over which a rate is averaged
CHECK_INTERVAL = WINDOW / 6  # seconds between two checks of a body


class Pace:
    """Measures the rate of a body, window by window.

    Args:
        now: instant when the first window begins.
        total: bytes of the body received by then.

    >>> pace = Pace(0.0, 0)
    >>> pace.judge_window(59.0, 0, 100), pace.judge_window(60.0, 6000, 100), pace.judge_window(120.0, 11_999, 100)
    (False, False, True)
    """

    __slots__ = ("_began", "_total")

    def __init__(self, now: float, total: int) -> None:
        self._began, self._total = now, total

    def judge_window(self, now: float, total: int, rate: float) -> bool:
        """Whether a window of WINDOW seconds or more ended below the least rate; False within a window.

        Begins the next window when a window has ended.

        Args:
            now: the present instant.
            total: bytes of the body received so far.
            rate: least rate in bytes per second.
        """
        seconds = now - self._began
        if seconds < WINDOW:
            return False
        came = total - self._total
        self._began, self._total = now, total
        return came < rate * seconds
