"""The authenticator: made of the configuration."""

import jwt
import pytest

from tests.support.credentials import KEY as API_KEY
from tests.support.credentials import KEY_HASH, PASSWORD, credential
from tornado_gateway.adapters.authentication import AuthConfig, TokenAuthenticator
from tornado_gateway.adapters.jwt_auth import TokenConfig
from tornado_gateway.errors import Unauthorized
from tornado_gateway.policy.access import ANY, ANYTHING, Kind
from tornado_gateway.policy.hashes import NamedHash
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
    assert (plain.default, plain.claim_fields, plain.sources.hides_fields) == (ANYTHING, None, False)
    told = TokenAuthenticator(AuthConfig(True, claim_fields=(("sub", "X-User"),), hides_credentials=True))
    assert (told.default, told.sources.hides_fields) == (ANY, True)
    assert told.claim_fields and told.claim_fields.lines(b"", {"sub": "a"}) == b"X-User: a\r\n"


def test_keys_and_tokens_are_checked_as_what_they_are() -> None:
    config = AuthConfig(True, TokenConfig(secrets=(KEY,)), keys=(NamedHash("ci", KEY_HASH),))
    authenticator = TokenAuthenticator(config, ANY)
    values = {Kind.JWT: jwt.encode({"sub": "ada", "iss": "id"}, KEY).encode(), Kind.KEY: API_KEY.encode()}
    names = {Kind.JWT: "id|ada", Kind.KEY: "key:ci"}
    for kind, value in values.items():
        principal = authenticator.check(Presented(kind, value))
        assert isinstance(principal, Principal) and principal.name == names[kind]
        for other in ANY - {kind}:
            with pytest.raises(Unauthorized):
                authenticator.check(Presented(other, value))


@pytest.mark.gen_test
async def test_without_users_there_is_no_password_and_nothing_to_close() -> None:
    authenticator = TokenAuthenticator(AuthConfig())
    await authenticator.close()
    with pytest.raises(Unauthorized):
        authenticator.check(Presented(Kind.BASIC, credential("ada", PASSWORD)))
