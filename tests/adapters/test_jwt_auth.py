"""Tokens: only those signed with our secret, by an algorithm we chose, and valid now."""

import base64
import json
import math
import time
from typing import Any

import jwt
import pytest

from tornado_gateway.adapters.jwt_auth import MAX_TOKEN, JwtAuthenticator
from tornado_gateway.errors import BadRequest, Unauthorized

SECRET = "s" * 32
LONG_SECRET = "s" * 64


def token(claims: dict[str, Any] | None = None, secret: str = SECRET, algorithm: str = "HS256", **header: Any) -> bytes:
    return jwt.encode(claims or {}, secret, algorithm=algorithm, headers=header or None).encode()


def unsigned(header: dict[str, Any], claims: bytes = b"{}") -> bytes:
    parts = (json.dumps(header).encode(), claims, b"")
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer " + token(),
        b"bearer " + token(),
        b"BEARER  " + token({"exp": time.time() + 3600}),
        b"Bearer " + token({"aud": "other", "sub": 7, "iat": time.time() + 600}),  # the Node gateway's tokens
    ],
)
def test_a_valid_token_is_accepted(value: bytes) -> None:
    assert JwtAuthenticator(SECRET).check([value]).expiry > 0


@pytest.mark.parametrize("seconds", [1.5, 3600])
def test_the_expiry_of_a_token_is_told(seconds: float) -> None:
    exp = time.time() + seconds
    assert JwtAuthenticator(SECRET).check([b"Bearer " + token({"exp": exp})]).expiry == exp  # with its part of a second


@pytest.mark.parametrize("claims", [{}, {"sub": "a", "nbf": 0}, {"exp": 10**400}])
def test_a_token_without_an_end_is_valid_for_ever(claims: dict[str, Any]) -> None:
    assert JwtAuthenticator(SECRET).check([b"Bearer " + token(claims)]).expiry == math.inf


def test_a_token_tells_its_principal() -> None:
    claims = {"sub": "ada", "scope": "read write", "tenant": 7}
    principal = JwtAuthenticator(SECRET).check([b"Bearer " + token(claims)])
    assert (principal.subject, principal.scopes, principal.claims) == ("ada", {"read", "write"}, claims)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_long_secret_allows_every_hmac(algorithm: str) -> None:
    signed = token(secret=LONG_SECRET, algorithm=algorithm)
    assert JwtAuthenticator(LONG_SECRET).check([b"Bearer " + signed]).expiry == math.inf


@pytest.mark.parametrize("values", [[], [b""], [b"Bearer"], [b"Bearer "], [b"Basic abc"]])
def test_no_token_is_refused_without_an_error_word(values: list[bytes]) -> None:
    with pytest.raises(Unauthorized) as refused:
        JwtAuthenticator(SECRET).check(values)
    assert dict(refused.value.fields) == {b"WWW-Authenticate": b'Bearer realm="gateway"'}


@pytest.mark.parametrize(
    "bad",
    [
        token({"exp": time.time() - 60}),
        token({"nbf": time.time() + 3600}),
        token({"exp": "soon"}),
        token(secret="t" * 32),
        token()[:-2],
        unsigned({"alg": "none"}),
        unsigned({"alg": "HS256"}),
        unsigned({"alg": "RS256"}),
        token(crit=["x"], x=1),
        b"a.b.c",
        b"\xff\xfe.\xff.\xff",
        b"a" * (MAX_TOKEN + 1),
        unsigned({"alg": "HS256"}, b'{"exp":1e400}'),
    ],
)
def test_an_invalid_token_is_refused_and_the_reason_is_not_told(bad: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        JwtAuthenticator(SECRET).check([b"Bearer " + bad])
    assert refused.value.status == 401
    assert dict(refused.value.fields) == {b"WWW-Authenticate": b'Bearer realm="gateway", error="invalid_token"'}
    assert refused.value.message in ("the token is not valid", "the token is too long")


def test_two_tokens_are_no_request_at_all() -> None:
    for values in ([b"Bearer a", b"Bearer b"], [b"Bearer " + token()] * 2, [b"", b""]):
        with pytest.raises(BadRequest, match="more than one Authorization field"):
            JwtAuthenticator(SECRET).check(values)


def test_a_short_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="shorter than 32 bytes"):
        JwtAuthenticator("s" * 31)
