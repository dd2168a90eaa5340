"""Parsers of fields whose value is a list.

The lines of a list field are joined, and empty members are ignored. In `members()` every comma separates: a list of
tokens or addresses has no quoted strings, and a stray quotation mark must not hide the members behind. In
`quoted_members()` a quoted string may hold commas.

Sources: RFC 9110 §5.3 (lines are joined), §5.6.1.2 (empty members), §5.6.4 (quoted strings).
"""

import re
from collections.abc import Iterable

OWS = b" \t"  # RFC 9110 §5.6.3

_QUOTED = rb'"(?:[^"\\]|\\.)*"?'
_MEMBER = re.compile(rb'(?:[^",]|%b)+' % _QUOTED, re.DOTALL)


def members(values: Iterable[bytes]) -> list[bytes]:
    """The members of a list without quoted strings.

    >>> members([b"close, ", b",, x-hop"])
    [b'close', b'x-hop']
    """
    return [member for each in b",".join(values).split(b",") if (member := each.strip(OWS))]


def tokens(values: Iterable[bytes]) -> list[bytes]:
    """The members of a list of case-insensitive tokens, in lower case."""
    return members([value.lower() for value in values])


def quoted_members(values: Iterable[bytes]) -> list[bytes]:
    """The members of a list that may hold quoted strings.

    >>> quoted_members([b'a;b="c, d",', b"e"])
    [b'a;b="c, d"', b'e']
    """
    return [member for each in _MEMBER.findall(b",".join(values)) if (member := each.strip(OWS))]
