"""traceparent: a valid one names a trace, any other names none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.trace import trace_id

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
