"""The authenticator: made of the configuration."""

import jwt
import pytest

from tornado_gateway.adapters.authentication import AuthConfig, TokenAuthenticator
from tornado_gateway.adapters.jwt_auth import TokenConfig
from tornado_gateway.errors import Unauthorized
from tornado_gateway.policy.access import ANY, ANYTHING, Kind
from tornado_gateway.policy.http.credentials import Asked, Presented, Source, Where
from tornado_gateway.policy.principal import Principal

KEY = "k" * 32


def test_a_token_is_found_and_verified_as_configured() -> None:
    config = AuthConfig(True, TokenConfig(secrets=(KEY,)), (Source(Where.COOKIE, b"session"),))
    authenticator = TokenAuthenticator(config)
    token = jwt.encode({"sub": "ada"}, KEY)
    presented = authenticator.sources.find(Asked({b"cookie": [b"session=" + token.encode()]}, b"\r\n", b"/"), ANY)
    principal = authenticator.check(presented)
    assert isinstance(principal, Principal) and principal.subject == "ada"
    other = jwt.encode({}, "k" * 64, "HS512").encode()  # by an algorithm that no key has
    for wrong in (b"a.b.c", other):
        with pytest.raises(Unauthorized):
            authenticator.check(Presented(Kind.JWT, wrong))


def test_the_rule_and_the_claims_fields_are_as_configured() -> None:
    plain = TokenAuthenticator(AuthConfig())
    assert (plain.default, plain.claim_fields, plain.sources.hides_something) == (ANYTHING, None, False)
    told = TokenAuthenticator(AuthConfig(True, claim_fields=(("sub", "X-User"),), hides_credentials=True))
    assert (told.default, told.sources.hides_something) == (ANY, True)
    assert told.claim_fields and told.claim_fields.lines(b"", {"sub": "a"}) == b"X-User: a\r\n"
