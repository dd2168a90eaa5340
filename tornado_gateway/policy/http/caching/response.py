"""The field lines of a response, as the cache reads the lines: once, in one pass."""

import functools

from tornado_gateway.policy.http.headers import KnownFields

# What terms.py, freshness.py and rules.py decide by.
_READ = frozenset((
    b"age", b"cache-control", b"cdn-cache-control", b"content-location", b"date", b"etag", b"expires",
    b"last-modified", b"location", b"set-cookie", b"set-cookie2", b"surrogate-control", b"vary",
))  # fmt: skip

# Written anew for each answer from the store.
COMPUTED = frozenset((b"age", b"content-length"))

_NAMES = 1024  # field names whose use is remembered, as in headers.py


def read_response(lines: bytes) -> tuple[KnownFields, bytes]:
    """Sort the end-to-end field lines of a response (RFC 9111 §3.1).

    Args:
        lines: each ended by CRLF.

    Returns:
        The values of the fields that the cache decides by, by lower-case name; and the lines that are stored.

    >>> read_response(b"Age: 3\\r\\nVARY: a\\r\\nX-A: 1\\r\\n")
    ({b'age': [b'3'], b'vary': [b'a']}, b'VARY: a\\r\\nX-A: 1\\r\\n')
    """
    fields: dict[bytes, list[bytes]] = {}
    stored, use = [], _use
    for line in lines.splitlines(keepends=True):
        name, _, value = line.partition(b":")
        key, is_stored = use(name)
        if is_stored:
            stored.append(line)
        if key in fields:
            fields[key].append(value.strip(b" \t\r\n"))
        elif key:
            fields[key] = [value.strip(b" \t\r\n")]
    return fields, b"".join(stored)


@functools.lru_cache(maxsize=_NAMES)
def _use(name: bytes) -> tuple[bytes, bool]:
    """The key to read a field by, b"" for none; and whether the field is stored."""
    name = name.lower()
    return name if name in _READ else b"", name not in COMPUTED
