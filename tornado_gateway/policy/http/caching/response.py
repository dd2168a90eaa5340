"""The field lines of a response, as the cache reads the lines.

What is read follows from the lines alone: services repeat their fields byte for byte, and a connection to a service
keeps the reading beside its last lines. Nothing of a request, a status, a time or a configuration may stand here.
"""

import re
from dataclasses import dataclass

from tornado_gateway.policy.http.caching.rules import Rules, rules_of
from tornado_gateway.policy.http.caching.vary import selecting_fields
from tornado_gateway.policy.http.headers import KnownFields
from tornado_gateway.policy.http.sse import is_event_stream

# What terms.py, freshness.py and rules.py decide by. An expression takes a third of the time of a loop over lines.
_READ = re.compile(
    rb"\n(age|c(?:ache-control|dn-cache-control|ontent-(?:location|type))|date|e(?:tag|xpires)|l(?:ast-modified|ocation)"
    rb"|s(?:et-cookie2?|urrogate-control)|vary):[ \t]*([^\r]*)",
    re.IGNORECASE,
)

# Written anew for each answer from the store.
COMPUTED = frozenset((b"age", b"content-length"))


@dataclass(slots=True)
class ResponseLines:
    """What the field lines of a response say to the cache. Never changed.

    Attributes:
        fields: the values of the fields that the cache decides by, by lower-case name.
        rules: of Cache-Control or CDN-Cache-Control.
        vary: see selecting_fields().
        etag, last_modified: the validators; b"" for none.
        is_event_stream: whether the content has no end that could be waited for.
    """

    fields: KnownFields
    rules: Rules
    vary: tuple[bytes, ...] | None
    etag: bytes
    last_modified: bytes
    is_event_stream: bool


def read_response(lines: bytes) -> ResponseLines:
    """Read the end-to-end field lines of a response (RFC 9111 §3.1), each ended by CRLF.

    >>> read_response(b"Age: 3\\r\\nVARY: a\\r\\nX-A: 1\\r\\n").fields
    {b'age': [b'3'], b'vary': [b'a']}
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _READ.findall(b"\n" + lines):
        fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    return said_by(fields)


def said_by(fields: KnownFields) -> ResponseLines:
    """As read_response(), of the values of fields by lower-case name."""
    return ResponseLines(
        fields,
        rules_of(fields),
        selecting_fields(fields.get(b"vary", ())),
        fields[b"etag"][0] if b"etag" in fields else b"",
        fields[b"last-modified"][0] if b"last-modified" in fields else b"",
        b"content-type" in fields and is_event_stream(fields[b"content-type"][-1]),
    )
