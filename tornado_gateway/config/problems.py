"""The problems of a configuration, and how wrong values are shown.

A `Problem` is one line: the variable, the given value, the reason, and the allowed values. A secret is never shown, nor
is a password or key that stands in a URL by mistake.
"""

import json
import re
from dataclasses import dataclass

MASK = "********"
LONGEST_SHOWN = 80  # characters of a wrong value

# Parts of a URL, valid or not, that may hold a secret: all up to the last @; the place of a port; all from the first
# "?", "#" or "=" to the end of the text.
_UP_TO_AT_SIGN = re.compile(r'^("?(?:[A-Za-z+]+://)?).*@', re.DOTALL)
_NO_PORT = re.compile(r'([A-Za-z]{3,}:/*(?:\[[^\]]*\]|[^/:"\\]*):)(?![0-9]*(?:["\\/?#]|$))[^/"\\]+')
_BEHIND_MARK = re.compile(r'([?#=])[^"].*(?<!")')


@dataclass(frozen=True, slots=True)
class Problem:
    """A wrong value of a variable.

    Attributes:
        variable: the variable's name; for a part of UPSTREAMS, with the JSON path, as in UPSTREAMS.billing[0].
        given: the value as `shown()`; "" if no value was given.
    """

    variable: str
    given: str
    reason: str
    allowed: str

    def __str__(self) -> str:
        """
        >>> str(Problem("PORT", '"80x"', "is not a whole number", "0 to 65535"))
        'PORT="80x": is not a whole number; allowed: 0 to 65535'
        """
        given = f"={self.given}" if self.given else ""
        return f"{self.variable}{given}: {self.reason}; allowed: {self.allowed}"


class ConfigurationError(Exception):
    """The configuration is wrong.

    Attributes:
        problems: a problem for each wrong value.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Invalid(ValueError):
    """A parser refuses the text of a variable."""

    def __init__(self, reason: str, allowed: str) -> None:
        super().__init__(reason)
        self.reason, self.allowed = reason, allowed


def shown(value: object, *, secret: bool = False) -> str:
    """A wrong value on one line of printable ASCII, with the secrets of a URL masked.

    >>> shown("80x"), shown(True), shown([1]), shown("key", secret=True)
    ('"80x"', 'true', '[...]', '********')
    >>> shown("http://me:pass@host"), shown("http://host/?key=1"), shown("http://me:pass")
    ('"http://********@host"', '"http://host/?********"', '"http://me:********"')
    """
    if secret:
        return MASK
    if isinstance(value, list | dict):
        left, right = "[]" if isinstance(value, list) else "{}"
        return f"{left}{'...' if value else ''}{right}"
    text = _UP_TO_AT_SIGN.sub(rf"\1{MASK}@", json.dumps(value))
    text = _BEHIND_MARK.sub(rf"\1{MASK}", _NO_PORT.sub(rf"\1{MASK}", text))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
