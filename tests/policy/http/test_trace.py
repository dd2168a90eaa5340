"""traceparent: a valid one names a trace, any other names none; what goes on, and what begins."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.trace import context_of, is_drawn, limit_of, parent_of, trace_id

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
VALID = b"00-%b-%b-01" % (TRACE, PARENT)


@pytest.mark.parametrize(
    "parent",
    [VALID, VALID[:-2] + b"00", VALID[:-2] + b"ff", b"01" + VALID[2:], b"cc%b-what-comes-later" % VALID[2:]],
)
def test_a_valid_traceparent_names_the_trace(parent: bytes) -> None:
    assert trace_id([parent]) == TRACE.decode()


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [VALID, VALID],
        [b""],
        [VALID.upper()],
        [b"ff" + VALID[2:]],
        [VALID + b"-more"],
        [VALID + b"-"],
        [VALID[:-1]],
        [VALID + b"0"],
        [b"01" + VALID[2:] + b"0"],
        [VALID.replace(TRACE, b"0" * 32)],
        [VALID.replace(PARENT, b"0" * 16)],
        [VALID.replace(b"-", b"_")],
        [VALID + b"\n"],
        [VALID.replace(b"4bf9", b"4bg9")],
    ],
)
def test_any_other_names_none(parents: list[bytes]) -> None:
    assert trace_id(parents) == ""


@given(st.lists(st.binary(max_size=80), max_size=2))
def test_whatever_is_sent_a_trace_id_is_32_hexadecimal_digits_or_nothing(parents: list[bytes]) -> None:
    assert trace_id(parents) == "" or set(trace_id(parents)) <= set("0123456789abcdef")


@pytest.mark.parametrize(("flags", "is_sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"ff", True)])
def test_the_client_says_whether_the_trace_is_recorded(flags: bytes, is_sampled: bool) -> None:
    parent = parent_of([VALID[:-2] + flags])
    assert parent == (TRACE, PARENT, is_sampled)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("flags", [b"00", b"01"])
def test_a_trace_goes_on_whatever_the_share(share: float, flags: bytes) -> None:
    context = context_of([VALID[:-2] + flags], limit_of(share), lambda: b"c" * 32)
    assert context == (TRACE, PARENT, b"c" * 16, flags == b"01")
    assert context.line(context.span_id) == b"traceparent: 00-%b-%b-%b\r\n" % (TRACE, b"c" * 16, flags)


def test_a_later_version_goes_on_as_this_version() -> None:
    context = context_of([b"cc%b-what-comes-later" % VALID[2:]], limit_of(0.0), lambda: b"c" * 32)
    assert context.value(b"d" * 16) == b"00-%b-%b-01" % (TRACE, b"d" * 16)


def test_a_trace_begins_without_a_parent() -> None:
    ids = iter([b"a" * 32, b"b" * 32])
    assert context_of([b"nonsense"], limit_of(1.0), ids.__next__) == (b"b" * 32, b"", b"a" * 16, True)


def test_the_share_of_recorded_traces() -> None:
    rng = random.Random(1)
    drawn = sum(is_drawn(rng.randbytes(16).hex().encode(), limit_of(0.25)) for _ in range(4000))
    assert 900 < drawn < 1100


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_a_trace_of_a_share_is_a_trace_of_every_larger_share(raw: bytes, one: float, other: float) -> None:
    trace, (less, more) = raw.hex().encode(), sorted((one, other))
    assert is_drawn(trace, limit_of(less)) <= is_drawn(trace, limit_of(more))
    assert not is_drawn(trace, limit_of(0.0))
    assert is_drawn(trace, limit_of(1.0))
