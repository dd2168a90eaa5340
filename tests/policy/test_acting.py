"""Acts: who may change something, and from where."""

import pytest

from tornado_gateway.errors import ActNotAllowed, InsufficientScope, OriginNotAllowed
from tornado_gateway.policy.acting import (
    AdminConfig,
    Asked,
    check_local,
    check_same_origin,
    check_scopes,
    is_loopback_host,
)
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.http.address import of_peer

HERE, THERE = of_peer("127.0.0.1"), of_peer("203.0.113.7")


def asked(origin: bytes | None = None, site: bytes | None = None, host: bytes = b"gw.example:8080") -> Asked:
    return Asked(origin, site, host, HERE)


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (b"http://gw.example:8080", None), (b"http://gw.example:8080", b"same-origin"), (None, b"same-origin"),
        (b"HTTP://GW.example:8080", None),
    ],
)  # fmt: skip
def test_a_page_of_the_same_origin_may_ask(origin: bytes | None, site: bytes | None, is_strict: bool) -> None:
    check_same_origin(asked(origin, site), is_strict=is_strict)


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize(
    ("origin", "site"),
    [
        (b"http://evil.example", None), (b"null", None), (b"", None), (b"http://gw.example:8081", None),
        (b"http://gw.example:8080.evil.example", None), (None, b"cross-site"), (None, b"same-site"), (None, b"none"),
        (b"http://gw.example:8080", b"cross-site"), (b"http://evil.example", b"same-origin"),
    ],
)  # fmt: skip
def test_a_page_of_another_origin_may_not(origin: bytes | None, site: bytes | None, is_strict: bool) -> None:
    with pytest.raises(OriginNotAllowed):
        check_same_origin(asked(origin, site), is_strict=is_strict)


def test_a_request_without_a_word_of_its_origin_is_a_programs() -> None:
    check_same_origin(asked(), is_strict=False)
    with pytest.raises(OriginNotAllowed):
        check_same_origin(asked(), is_strict=True)


@pytest.mark.parametrize("in_production", [False, True])
def test_every_scope_of_admin_scope_is_needed(in_production: bool) -> None:
    config = AdminConfig(frozenset({"admin", "ops"}))
    check_scopes(config, {"admin", "ops", "read"}, in_production=in_production)
    with pytest.raises(InsufficientScope) as refused:
        check_scopes(config, {"admin"}, in_production=in_production)
    assert b'scope="admin ops"' in refused.value.fields[0][1]


def test_without_admin_scope_nobody_acts_in_production() -> None:
    check_scopes(AdminConfig(), (), in_production=False)
    with pytest.raises(ActNotAllowed):
        check_scopes(AdminConfig(), {"admin"}, in_production=True)


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:80", b"127.0.0.1:8080", b"127.9.9.9", b"[::1]:8080"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
def test_without_authentication_this_machine_may_act(host: bytes, peer: str) -> None:
    check_local(Asked(None, None, host, of_peer(peer)), in_production=False)


@pytest.mark.parametrize(
    "request_",
    [
        Asked(None, None, b"localhost", THERE),
        Asked(None, None, b"localhost", of_peer("10.0.0.1")),
        Asked(None, None, b"localhost", of_peer("not an address")),
        Asked(None, None, b"rebound.example", HERE),
        Asked(None, None, b"127.0.0.1", HERE, is_forwarded=True),
    ],
    ids=["from afar", "from the network", "from nowhere", "DNS rebinding", "through a proxy"],
)
def test_without_authentication_nobody_else_may_act(request_: Asked) -> None:
    with pytest.raises(ActNotAllowed):
        check_local(request_, in_production=False)


def test_without_authentication_nobody_acts_in_production() -> None:
    with pytest.raises(ActNotAllowed):
        check_local(Asked(None, None, b"localhost", HERE), in_production=True)


@pytest.mark.parametrize(
    "host",
    [
        b"", b"localhost.", b"localhost.evil.example", b"127.0.0.1.nip.io", b"0.0.0.0", b"2130706433", b"127.1",
        b"[::]", b"[::ffff:127.0.0.1]", b"128.0.0.1", b"a b", b"10.0.0.1",
    ],
)  # fmt: skip
def test_other_hosts_are_not_this_machine(host: bytes) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("config", "asks"),
    [(AdminConfig(), False), (AdminConfig(frozenset({"a"})), True), (AdminConfig(password=NamedHash("a", "x")), True)],
)
def test_a_scope_or_a_password_asks_for_a_credential(config: AdminConfig, asks: bool) -> None:
    assert config.asks_for_credential is asks
