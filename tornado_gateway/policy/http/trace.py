"""The trace of a request, as the field traceparent names the trace (W3C Trace Context, level 1).

    client ──traceparent: trace, parent──► gateway ──traceparent: trace, span of the gateway──► endpoint

The trace of a client goes on, with the client's decision whether the trace is recorded. A request without a valid
traceparent gets a new trace, and a share of the new traces is recorded.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Version, trace id, parent id and flags. A later version may have more members behind the flags.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_PARENT = b"0" * 32, b"0" * 16
_SAMPLED = 1  # the only flag of level 1; the others are sent as 0 (§3.2.2.5)

SPAN_DIGITS = 16  # hexadecimal digits of a span id
_CHANCE_DIGITS = 14  # of a trace id, at the end: the digits that are random in every trace id (level 2, §3.2.2.3)
_CHANCES: int = 16**_CHANCE_DIGITS
_ABOVE_ALL = b"g"  # behind each digit


class Parent(NamedTuple):
    """What a valid traceparent says.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: of the sender; 16 hexadecimal digits.
        is_sampled: whether the sender may have recorded the trace.
    """

    trace_id: bytes
    span_id: bytes
    is_sampled: bool


class Context(NamedTuple):
    """The place of a request in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        parent_id: span id of the client; b"" for a new trace.
        span_id: span id of the request in the gateway.
        is_sampled: whether the trace is recorded.
    """

    trace_id: bytes
    parent_id: bytes
    span_id: bytes
    is_sampled: bool

    def value(self, span_id: bytes) -> bytes:
        """The value of traceparent for who works for a span of the gateway."""
        return b"00-%b-%b-%02x" % (self.trace_id, span_id, self.is_sampled)

    def line(self, span_id: bytes) -> bytes:
        """The field line with value()."""
        return b"traceparent: %b\r\n" % self.value(span_id)


# The values of the traceparent fields; or the id of a trace that the gateway has begun, which nobody needs to judge.
Parents = Sequence[bytes] | bytes


def parent_of(parents: Sequence[bytes]) -> Parent | None:
    """What the traceparent of a request says; None if there is not exactly one valid traceparent.

    Args:
        parents: the values of the traceparent fields.

    >>> parent_of([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]).span_id
    b'00f067aa0ba902b7'
    """
    found = _valid(parents)
    return Parent(found[2], found[3], bool(int(found[4], 16) & _SAMPLED)) if found else None


def _valid(parents: Sequence[bytes]) -> re.Match[bytes] | None:
    """What is matched of the traceparent; None if there is not exactly one valid traceparent."""
    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None or found[2] == _NO_TRACE or found[3] == _NO_PARENT:
        return None
    is_future = found[1] != b"00"
    if found[1] == b"ff" or (found[5] and not is_future):
        return None
    return found


def trace_id(parents: Parents) -> str:
    """The trace id; "" if there is not exactly one valid traceparent.

    >>> trace_id([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]), trace_id([b"00-1-2-01"])
    ('4bf92f3577b34da6a3ce929d0e0e4736', '')
    >>> trace_id(b"4bf92f3577b34da6a3ce929d0e0e4736")
    '4bf92f3577b34da6a3ce929d0e0e4736'
    """
    if isinstance(parents, bytes):
        return parents.decode("ascii")
    found = _valid(parents)
    return found[2].decode("ascii") if found else ""


def context_of(parents: Sequence[bytes], limit: bytes, new_id: Callable[[], bytes]) -> Context:
    """Continue the trace of a client, or start a trace.

    Args:
        parents: see parent_of().
        limit: of the share of new traces that are recorded; see limit_of().
        new_id: makes 32 random hexadecimal digits.
    """
    parent = parent_of(parents)
    span_id = new_id()[:SPAN_DIGITS]
    if parent:
        return Context(parent.trace_id, parent.span_id, span_id, parent.is_sampled)
    trace = new_id()
    return Context(trace, b"", span_id, is_drawn(trace, limit))


def limit_of(share: float) -> bytes:
    """The digits below which the end of a trace id is, if the trace is among the share of 0 to 1 that is recorded.

    >>> limit_of(0.0), limit_of(0.5), limit_of(1.0)
    (b'00000000000000', b'80000000000000', b'g')
    """
    return b"%0*x" % (_CHANCE_DIGITS, math.ceil(share * _CHANCES)) if share < 1 else _ABOVE_ALL


def is_drawn(trace_id: bytes, limit: bytes) -> bool:
    """Whether a new trace is among the share that is recorded.

    The trace id decides, as OpenTelemetry's TraceIdRatioBased does: whatever samples the same trace by the same share
    comes to the same decision. Digits of equal number compare as the numbers do.

    Args:
        limit: see limit_of().

    >>> is_drawn(b"0" * 31 + b"1", limit_of(0.5)), is_drawn(b"f" * 32, limit_of(0.5))
    (True, False)
    """
    return trace_id[-_CHANCE_DIGITS:] < limit
