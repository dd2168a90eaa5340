"""Vary: which request fields select a stored response, and when two requests have the same values (RFC 9111 §4.1).

Values of the fields of content negotiation are compared without regard to case, whitespace and the order of members,
because none of these means anything. Values of other fields are compared byte for byte, with lines joined.
"""

import functools
import re
from collections.abc import Sequence

from tornado_gateway.policy.http.caching.directives import LONGEST_REMEMBERED
from tornado_gateway.policy.http.headers import REQUEST_FIELDS, KnownFields
from tornado_gateway.policy.http.lists import tokens

MOST_FIELDS = 16  # a response that names more request fields hardly answers a second request

# Negotiation by unordered lists of case-insensitive members with weights (RFC 9110 §12.5).
_NEGOTIATED = frozenset((b"accept", b"accept-charset", b"accept-encoding", b"accept-language"))

# Written by the gateway, and part of the key: see request.py.
_IN_THE_KEY = frozenset((
    b"host", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-proto",
))  # fmt: skip

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

Selection = tuple[bytes | None, ...]


def selecting_fields(values: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The names, in lower case and in order, of the fields in Vary.

    Returns:
        None if no later request can be known to select the response: Vary has "*", is malformed, names too many
        fields, or names a field that the gateway writes anew for each request, as Via.
    """
    if not values:
        return ()
    value = b",".join(values)
    return _selecting(value) if len(value) <= LONGEST_REMEMBERED else _selecting.__wrapped__(value)


@functools.lru_cache(maxsize=256)
def _selecting(value: bytes) -> tuple[bytes, ...] | None:
    """As selecting_fields(). Services repeat Vary."""
    names = sorted(set(tokens([value])) - _IN_THE_KEY)
    return tuple(names) if len(names) <= MOST_FIELDS and all(map(_can_select, names)) else None


def _can_select(name: bytes) -> bool:
    """Whether a name is a field of the client that endpoints see as the client wrote the field."""
    return name != b"*" and bool(_TOKEN.fullmatch(name)) and bool(REQUEST_FIELDS.interpret(name + b": \r\n")[1])


def selection(names: Sequence[bytes], fields: KnownFields) -> Selection:
    """The values of the fields in Vary in a request, so that equal values select the same response.

    An absent field is None, because absent and empty fields differ.
    """
    if len(names) == 1:  # mostly Accept-Encoding
        return (_normal(names[0], fields.get(names[0])),)
    return tuple([_normal(name, fields.get(name)) for name in names])


def _normal(name: bytes, values: Sequence[bytes] | None) -> bytes | None:
    if values is None:
        return None
    joined = values[0] if len(values) == 1 else b", ".join(values)
    if name not in _NEGOTIATED:
        return joined
    return _plain(joined) if len(joined) <= LONGEST_REMEMBERED else _plain.__wrapped__(joined)


@functools.lru_cache(maxsize=256)
def _plain(value: bytes) -> bytes:
    """The spelling that stands for all equal spellings of a list of case-insensitive members (RFC 9111 §4.1).

    >>> _plain(b"GZIP;q=1 , br") == _plain(b"br,gzip; q=1")
    True
    """
    if b'"' in value:  # a quoted string may have case, commas and blanks
        return value
    return b",".join(sorted(each.replace(b" ", b"").replace(b"\t", b"") for each in tokens([value])))
