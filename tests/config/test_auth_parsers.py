"""The variables of authentication: what is read, and how mistakes are told."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tornado_gateway.config.auth_parsers import claim_fields, public_keys, required_claims, secrets, token_sources
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import ConfigurationError, Invalid
from tornado_gateway.policy.access import RULES, Access
from tornado_gateway.policy.http.credentials import Source, Where

PEM = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
KEY = "k" * 32


@pytest.mark.parametrize(
    ("syntax", "text", "value"),
    [
        (secrets, f"{KEY}, {KEY}x", (KEY, f"{KEY}x")),
        (required_claims, "tenant, role=admin", {"tenant": "", "role": "admin"}),
        (
            token_sources,
            "header,header:X-Token,cookie:sid,query,query:t,subprotocol,ticket",
            (
                Source(Where.HEADER, b"authorization"), Source(Where.HEADER, b"x-token"), Source(Where.COOKIE, b"sid"),
                Source(Where.QUERY, b"access_token"), Source(Where.QUERY, b"t"), Source(Where.SUBPROTOCOL),
                Source(Where.TICKET, b"ticket"),
            ),
        ),
        (token_sources, "header,ticket:t", (Source(Where.HEADER, b"authorization"), Source(Where.TICKET, b"t"))),
        (
            token_sources, "cookie:authorization,query:authorization,ticket:access_token",
            (
                Source(Where.COOKIE, b"authorization"), Source(Where.QUERY, b"authorization"),
                Source(Where.TICKET, b"access_token"),
            ),
        ),
        (claim_fields, "sub:X-User-Id, tenant:X-Tenant", (("sub", "X-User-Id"), ("tenant", "X-Tenant"))),
    ],
)  # fmt: skip
def test_a_list_is_read_and_shown(syntax: Syntax[Any], text: str, value: object) -> None:
    assert syntax.parse(text) == value
    assert syntax.parse(syntax.text(value)) == value


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (secrets, f"{KEY},short"),
        (required_claims, "=a"), (required_claims, "a="), (required_claims, "a,a=b"),
        (token_sources, ","), (token_sources, "header,header"), (token_sources, "body"), (token_sources, "cookie"),
        (token_sources, "cookie:"), (token_sources, "cookie:a b"), (token_sources, "subprotocol:x"),
        (token_sources, "ticket,ticket"), (token_sources, "ticket,ticket:t"), (token_sources, "query:t,ticket:t"),
        (token_sources, "ticket:"), (token_sources, "ticket:a b"),
        (claim_fields, "sub"), (claim_fields, ":X-A"), (claim_fields, "sub:X A"), (claim_fields, "sub:X_A"),
        (claim_fields, "sub:X-A,tenant:x-a"), (claim_fields, "sub:X-Forwarded-For"), (claim_fields, "sub:Host"),
        (claim_fields, "sub:Cookie"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_list_is_told(syntax: Syntax[Any], text: str) -> None:
    with pytest.raises(Invalid) as failed:
        syntax.parse(text)
    assert KEY not in str(failed.value)


def test_public_keys_are_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_bytes(PEM)
    assert public_keys.parse(str(file)) == PEM
    assert public_keys.parse(PEM.decode().replace("\n", "\\n")) == PEM  # as one line of .env
    file.write_bytes(b"nothing")
    for text in (str(file), str(tmp_path / "missing")):
        with pytest.raises(Invalid):
            public_keys.parse(text)


def load(services: dict[str, Any], **variables: str) -> Any:
    return load_settings({"UPSTREAMS": json.dumps(services), **variables})


OPEN = ["http://127.0.0.1:1"]


def guarded(**own: object) -> dict[str, object]:
    return {"endpoints": OPEN, **own}


@pytest.mark.parametrize(
    ("services", "variables", "problem"),
    [
        ({"a": guarded(auth="jwt")}, {}, "JWT_SECRET: is not set, but a service or route asks for a token"),
        ({"a": guarded(scopes="read")}, {}, "JWT_SECRET: is not set, but a service or route asks for a token"),
        ({"a": guarded(auth="jwt")}, {"JWT_SECRET": "short"}, "JWT_SECRET=********: is shorter than 32 bytes"),
        ({"a": OPEN}, {"AUTH_REQUIRED": "true"}, "JWT_SECRET: is not set, but AUTH_REQUIRED is true"),
        ({"a": guarded(auth="maybe")}, {}, 'UPSTREAMS.a.auth="maybe": is unknown; allowed: none, jwt'),
    ],
)
def test_a_service_that_asks_for_tokens_needs_a_key(
    services: dict[str, Any], variables: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as failed:
        load(services, **variables)
    assert str(failed.value.problems[0]).startswith(problem)


def test_standard_routes_are_as_strict_as_every_route_to_the_service() -> None:
    routes = [
        {"path": "/open/*", "service": "a", "auth": "none"},
        {"path": "/admin-area/*", "service": "a", "auth": "jwt", "scopes": "admin"},
        {"path": "/b/*", "service": "b"},
    ]
    settings = load({"a": OPEN, "b": OPEN, "c": OPEN}, ROUTES=json.dumps(routes), JWT_SECRETS=KEY)
    accesses = {each.name: each.service.access for each in settings.services}
    assert accesses == {
        "a": Access(RULES["jwt"], frozenset({"admin"})), "b": Access(RULES["none"]), "c": Access(),
    }  # fmt: skip
    assert [each.access for each in settings.routes] == [
        Access(RULES["none"]), Access(RULES["jwt"], frozenset({"admin"})), Access(),
    ]  # fmt: skip
    assert [each.config for each in settings.routes] == [None, None, None]
