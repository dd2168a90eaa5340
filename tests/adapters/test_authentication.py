"""The authenticator: made of the configuration."""

import jwt
import pytest

from tornado_gateway.adapters.authentication import AuthConfig, TokenAuthenticator
from tornado_gateway.adapters.jwt_auth import TokenConfig
from tornado_gateway.errors import Unauthorized
from tornado_gateway.policy.http.credentials import Asked, Source, Where
from tornado_gateway.policy.principal import Principal

KEY = "k" * 32


def test_a_token_is_found_and_verified_as_configured() -> None:
    config = AuthConfig(True, TokenConfig(secrets=(KEY,)), (Source(Where.COOKIE, b"session"),))
    authenticator = TokenAuthenticator(config)
    token = jwt.encode({"sub": "ada"}, KEY)
    presented = authenticator.sources.find(Asked({b"cookie": [b"session=" + token.encode()]}, b"\r\n", b"/"))
    principal = authenticator.check(presented.token)
    assert isinstance(principal, Principal) and principal.subject == "ada"
    other = jwt.encode({}, "k" * 64, "HS512").encode()  # by an algorithm that no key has
    for wrong in (b"a.b.c", other):
        with pytest.raises(Unauthorized):
            authenticator.check(wrong)


def test_the_rule_and_the_claims_fields_are_as_configured() -> None:
    plain = TokenAuthenticator(AuthConfig())
    assert (plain.is_default, plain.claim_fields, plain.sources.hides_something) == (False, None, False)
    told = TokenAuthenticator(AuthConfig(True, claim_fields=(("sub", "X-User"),), hides_credentials=True))
    assert (told.is_default, told.sources.hides_something) == (True, True)
    assert told.claim_fields and told.claim_fields.lines(b"", {"sub": "a"}) == b"X-User: a\r\n"
