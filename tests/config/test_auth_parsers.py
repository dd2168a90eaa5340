"""The variables of authentication: what is read, and how mistakes are told."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.credentials import API_KEYS, BASIC_USERS, KEY_HASH, OTHER_HASH, PASSWORD_HASH
from tornado_gateway.adapters import passwords
from tornado_gateway.config.auth_parsers import (
    api_keys,
    claim_fields,
    public_keys,
    required_claims,
    secrets,
    token_sources,
    users,
)
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import ConfigurationError, Invalid
from tornado_gateway.policy.access import RULES, Access, Kind
from tornado_gateway.policy.hashes import NamedHash
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
        (
            api_keys, f"ci:{KEY_HASH}:write,read  ci:{'a1b2c3d4' * 8}\n",
            (NamedHash("ci", KEY_HASH, frozenset({"read", "write"})), NamedHash("ci", "a1b2c3d4" * 8)),
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
        (api_keys, " "), (api_keys, f"a:{KEY_HASH} b:{KEY_HASH}"), (users, "\t"),
        (users, f"a:{PASSWORD_HASH} a:{OTHER_HASH}"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_list_is_told(syntax: Syntax[Any], text: str) -> None:
    with pytest.raises(Invalid) as failed:
        syntax.parse(text)
    assert KEY not in str(failed.value)
    assert KEY_HASH not in str(failed.value)


@pytest.mark.parametrize(
    ("variable", "text", "problems"),
    [
        (
            "API_KEYS", f"ci:{KEY_HASH} my-secret-key ci:5f4dcc3b5aa765d61d8327deb882cf99",
            ["API_KEYS[1]=********: is not a name, a colon and a hash",
             "API_KEYS[2]=********: is not a SHA-256 hash, which has 64 hexadecimal digits"],
        ),
        (
            "BASIC_USERS", f"ada:hunter2 bob:{PASSWORD_HASH.replace('t=5', 't=4')} eve:{PASSWORD_HASH}:",
            ["BASIC_USERS[0]=********: is not an Argon2id hash", "BASIC_USERS[1]=********: is too weak",
             "BASIC_USERS[2]=********: has no scopes"],
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_hashes_is_told_by_place_and_shows_nothing(variable: str, text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigurationError) as failed:
        load({"a": OPEN}, **{variable: text})
    told = list(map(str, failed.value.problems))
    assert len(told) == len(problems)
    for line, beginning in zip(told, problems, strict=True):
        assert line.startswith(beginning)
    for item in text.split():
        assert item not in str(failed.value)
        assert item.partition(":")[2] not in str(failed.value) or ":" not in item


def test_users_need_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "is_installed", lambda: False)
    with pytest.raises(ConfigurationError) as failed:
        load({"a": OPEN}, BASIC_USERS=BASIC_USERS)
    assert "BASIC_USERS=********: needs argon2-cffi, a library of requirements-extras.txt" in str(failed.value)
    assert load({"a": OPEN}, API_KEYS=API_KEYS).auth.keys


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
        (
            {"a": guarded(auth="jwt")},
            {},
            "JWT_SECRET: is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH",
        ),
        (
            {"a": guarded(scopes="read")},
            {},
            "JWT_SECRET: is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH",
        ),
        ({"a": guarded(auth="jwt")}, {"JWT_SECRET": "short"}, "JWT_SECRET=********: is shorter than 32 bytes"),
        ({"a": OPEN}, {"AUTH_REQUIRED": "true"}, "JWT_SECRET: is not set, but AUTH_REQUIRED is true"),
        (
            {"a": guarded(auth="key")},
            {"JWT_SECRET": KEY},
            "API_KEYS: is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH",
        ),
        ({"a": guarded(auth="basic")}, {"API_KEYS": API_KEYS}, "BASIC_USERS: is not set, but a service, a route"),
        (
            {"a": guarded(auth="jwt")},
            {"API_KEYS": API_KEYS},
            "JWT_SECRET: is not set, but a service, a route, ",
        ),
        (
            {"a": guarded(auth="any")},
            {},
            "JWT_SECRET: is not set, but a service, a route, ADMIN_SCOPE or METRICS_AUTH",
        ),
        ({"a": OPEN}, {"AUTH_HIDE_CREDENTIALS": "true", "JWT_SECRET": "short"}, "JWT_SECRET=********: is shorter than"),
        (
            {"a": OPEN},
            {"API_KEYS": API_KEYS, "AUTH_TOKEN_SOURCES": "header:x-api-key"},
            "AUTH_TOKEN_SOURCES: names X-API-Key, which holds a key of API_KEYS",
        ),
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


def test_each_kind_that_cannot_be_checked_is_told() -> None:
    with pytest.raises(ConfigurationError) as failed:
        load({"a": guarded(auth="key"), "b": guarded(auth="basic"), "c": guarded(auth="key")}, JWT_SECRET=KEY)
    assert [each.variable for each in failed.value.problems] == ["API_KEYS", "BASIC_USERS"]


@pytest.mark.parametrize(
    ("variables", "kinds"),
    [
        ({"API_KEYS": API_KEYS}, {Kind.KEY}),
        ({"JWT_SECRET": KEY, "API_KEYS": API_KEYS}, {Kind.JWT, Kind.KEY}),
        ({"JWKS_URL": "https://id.example/keys", "JWT_AUDIENCE": "me"}, {Kind.JWT}),
    ],
)  # fmt: skip
def test_any_kind_that_can_be_checked_is_enough(variables: dict[str, str], kinds: set[Kind]) -> None:
    for env in ({"AUTH_REQUIRED": "true"}, {"GATEWAY_ENV": "production"}):
        settings = load({"a": guarded(auth="any")}, **variables, **env)
        assert (settings.kinds, settings.auth.is_required) == (kinds, True)


@pytest.mark.parametrize("name", ["", "ops:"])
def test_the_operators_password_is_enough_for_operators_alone(name: str) -> None:
    settings = load({"a": OPEN}, ADMIN_PASSWORD_HASH=name + PASSWORD_HASH)
    assert settings.admin.password == NamedHash(name[:-1] or "admin", PASSWORD_HASH)
    assert (settings.protects_admin, settings.kinds) == (True, {Kind.SESSION})
    with pytest.raises(ConfigurationError, match="JWT_SECRET"):
        load({"a": OPEN}, ADMIN_PASSWORD_HASH=PASSWORD_HASH, AUTH_REQUIRED="true")
    with pytest.raises(ConfigurationError, match="JWT_SECRET"):
        load({"a": OPEN}, ADMIN_SCOPE="admin")
    with pytest.raises(ConfigurationError, match="METRICS_AUTH asks for a token"):
        load({"a": OPEN}, ADMIN_PASSWORD_HASH=PASSWORD_HASH, METRICS_AUTH="true")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("open sesame", "is not a name, a colon and a hash"),
        ("$argon2i$v=19$secret", "is not an Argon2id hash"),
        (f"ops:{PASSWORD_HASH}:admin", "has scopes"),
        (f"ops:{PASSWORD_HASH} ada:{PASSWORD_HASH}", "base64"),
    ],
)
def test_a_wrong_password_hash_is_an_error_that_shows_nothing(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as failed:
        load({"a": OPEN}, ADMIN_PASSWORD_HASH=text)
    (problem,) = map(str, failed.value.problems)
    assert problem.startswith("ADMIN_PASSWORD_HASH=********: ") and reason in problem
    assert text not in problem


def test_without_the_library_there_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "is_installed", lambda: False)
    with pytest.raises(ConfigurationError, match=r"ADMIN_PASSWORD_HASH.* needs argon2-cffi"):
        load({"a": OPEN}, ADMIN_PASSWORD_HASH=PASSWORD_HASH)


@pytest.mark.parametrize("name", ["gateway_session", "__Secure-gateway_session"])
def test_no_token_stands_in_the_cookie_of_operators(name: str) -> None:
    with pytest.raises(ConfigurationError, match="has the cookie of operators' sessions in it"):
        load({"a": OPEN}, AUTH_TOKEN_SOURCES=f"header,cookie:{name}")
