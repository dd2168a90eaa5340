"""The course of requests over the last minutes in a word of at most POINTS letters, for a small chart in a table.

    "adgp"   nothing, some, more, the most requests of the word in a span; a capital letter: some failed

The words of quiet rows are empty, so that quiet rows do not change.
"""

import math
from collections import deque
from dataclasses import dataclass, field

SPAN = 10.0  # seconds of a letter
POINTS = 30
LEVELS = "abcdefghijklmnop"


@dataclass(slots=True)
class Spark:
    """The course of the requests of an endpoint or a service.

    Attributes:
        word: see the head of the module.
    """

    word: str = ""
    _begin: float = -math.inf
    _total: int = 0
    _failed: int = 0
    _spans: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=POINTS))

    def note(self, total: int, failed: int, at: float) -> str:
        """Note counts since the start, and return the word.

        Args:
            at: seconds since 1970. A clock that is set back ends a span early.
        """
        seconds = at - self._begin
        if 0 <= seconds < SPAN:
            return self.word
        if seconds < math.inf:
            rate = max(0, total - self._total) / max(abs(seconds), 1.0)
            self._spans.append((rate, failed > self._failed))
            self.word = word_of(self._spans)
        self._begin, self._total, self._failed = at, total, failed
        return self.word


def word_of(spans: deque[tuple[float, bool]]) -> str:
    """The word of spans: requests per second, and whether some failed.

    >>> word_of(deque([(0.0, False), (2.0, False), (4.0, True), (0.0, False)]))
    'iPa'
    """
    most = max(rate for rate, _ in spans) or 1.0
    letters = [(LEVELS[math.ceil(rate / most * (len(LEVELS) - 1))], failed) for rate, failed in spans]
    word = "".join([letter.upper() if failed else letter for letter, failed in letters])
    return word.lstrip(LEVELS[0])
