"""Fields whose value is a list: the one reader of their members.

A recipient joins the lines of such a field and ignores empty members, wherever they stand. Commas always separate in
`members()`: in a list of tokens or addresses a quotation mark is an error, and must not hide the members behind it.
In `quoted_members()` a quoted string may hold commas.

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
    """The members of a list of tokens that are compared without regard to case; in lower case."""
    return members([value.lower() for value in values])


def quoted_members(values: Iterable[bytes]) -> list[bytes]:
    """The members of a list that may hold quoted strings.

    >>> quoted_members([b'a;b="c, d",', b"e"])
    [b'a;b="c, d"', b'e']
    """
    return [member for each in _MEMBER.findall(b",".join(values)) if (member := each.strip(OWS))]
