"""BASIC_USERS: what is read, and what the users make possible. All needs argon2-cffi."""

import json
from typing import Any

import pytest

from tests.support.credentials import BASIC_USERS, OTHER_HASH, PASSWORD_HASH
from tornado_gateway.config.auth_parsers import users
from tornado_gateway.config.help import effective
from tornado_gateway.config.ineffective import ineffective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.hashes import NamedHash


def load(service: Any = ("http://127.0.0.1:1",), **variables: str) -> tuple[Settings, list[str]]:
    env = {"UPSTREAMS": json.dumps({"a": service}), "BASIC_USERS": BASIC_USERS, **variables}
    settings = load_settings(env)
    return settings, ineffective(settings, env)


def test_users_are_read_and_shown() -> None:
    found = users.parse(f"ada:{PASSWORD_HASH}:read\tjürgen:{OTHER_HASH}")
    assert found == (NamedHash("ada", PASSWORD_HASH, frozenset({"read"})), NamedHash("jürgen", OTHER_HASH))
    assert users.parse(users.text(found)) == found


def test_users_are_enough_for_a_gateway_that_asks_for_credentials() -> None:
    for variables in ({"AUTH_REQUIRED": "true"}, {"GATEWAY_ENV": "production"}):
        settings, warnings = load(**variables)
        assert (settings.kinds, settings.auth.is_required, warnings) == ({Kind.BASIC}, True, [])


@pytest.mark.parametrize("rule", ["basic", "any"])
def test_a_service_may_ask_for_a_password(rule: str) -> None:
    assert load({"endpoints": ["http://127.0.0.1:1"], "auth": rule})[1] == []


def test_users_whom_nothing_asks_for_are_told() -> None:
    assert load()[1] == ["BASIC_USERS is set but has no effect: nothing asks for a password"]


def test_hashes_are_not_shown() -> None:
    settings, _ = load()
    assert dict(effective(settings))["BASIC_USERS"] == "********"
    assert PASSWORD_HASH not in repr(settings)
