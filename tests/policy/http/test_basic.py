"""Basic credentials: one spelling, in UTF-8, without control characters."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.credentials import credential
from tornado_gateway.policy.http.basic import MAX_CREDENTIAL, read_basic


@pytest.mark.parametrize(
    ("value", "given_"),
    [
        (b"QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ("Aladdin", "open sesame")),  # RFC 7617 §2
        (b"dGVzdDoxMjPCow==", ("test", "123£")),  # RFC 7617 §2.1
        (credential("", ""), ("", "")),
        (credential("a", ":b:"), ("a", ":b:")),
        (credential("ju\u0308rgen", "pa\u0308ss"), ("j\u00fcrgen", "p\u00e4ss")),
        (credential("a", "b" * 700), ("a", "b" * 700)),
    ],
)
def test_a_name_and_a_password_are_read(value: bytes, given_: tuple[str, str]) -> None:
    assert read_basic(value) == given_


@pytest.mark.parametrize(
    "value",
    [
        b"", b"=", b"a", b"QWxhZGRpbjpvcGVuIHNlc2FtZQ", b"QWxhZGRpbjpvcGVuIHNlc2FtZQ=", b"QWxhZGRpbjpvcGVuIHNlc2FtZR==",
        b"QWxhZGRpbjpvcGVuIHNlc2FtZQ== x", b"QWxh ZGRpbjpvcGVuIHNlc2FtZQ==", b"QWxhZGRpbg==", b"YTpi\xff", b"YTpi====",
        b"YTo_", base64.b64encode(b"t:\xa3"), base64.b64encode(b"a:b\x00"), base64.b64encode(b"a\n:b"),
        base64.b64encode(b"a:\x7f"), credential("a", "b" * MAX_CREDENTIAL),
    ],
)  # fmt: skip
def test_anything_else_is_no_credential(value: bytes) -> None:
    assert read_basic(value) is None


@given(st.binary(max_size=60))
def test_a_credential_has_one_spelling(value: bytes) -> None:
    found = read_basic(value)
    if found:
        assert base64.b64encode(base64.b64decode(value)) == value
        assert ":" not in found[0]
