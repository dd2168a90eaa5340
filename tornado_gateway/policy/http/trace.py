"""The trace of a request, as the field traceparent names the trace (W3C Trace Context, level 1)."""

import re
from collections.abc import Sequence

# Version, trace id, parent id and flags. A later version may have more members behind the flags.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16


def trace_id(parents: Sequence[bytes]) -> str:
    """The trace id; "" if there is not exactly one valid traceparent.

    Args:
        parents: the values of the traceparent fields.

    >>> trace_id([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]), trace_id([b"00-1-2-01"])
    ('4bf92f3577b34da6a3ce929d0e0e4736', '')
    """
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or found[2] == _NO_TRACE or found[3] == _NO_PARENT:
        return ""
    is_future = found[1] != b"00"
    if found[1] == b"ff" or (found[4] and not is_future):
        return ""
    return found[2].decode("ascii")
