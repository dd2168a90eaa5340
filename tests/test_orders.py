"""What a worker does on the word of another. The acts themselves are tested with the pages that act."""

import json
import time

import pytest

from tests.conftest import Serve
from tests.handlers.test_control import URLS
from tornado_gateway.orders import ORDERS, carry_out
from tornado_gateway.policy.principal import Principal
from tornado_gateway.policy.revocations import By, Revocation
from tornado_gateway.policy.sessions import SessionStore


@pytest.mark.gen_test
async def test_orders_are_carried_out(serve: Serve) -> None:
    running = await serve({"billing": list(URLS)})
    gateway = running.app.gateway
    (first, *_) = gateway.services[b"billing"].endpoints
    said = {"service": "billing", "endpoint": first.url}
    (told,) = carry_out(gateway, "act", ["", 0.0, "k", "weight", ["ada", {**said, "weight": 7}]])
    assert (first.weight, told["weight"], told["endpoint"]) == (7, 7, first.url)
    carry_out(gateway, "act", ["", 0.0, "k", "breaker", ["ada", {**said, "act": "open", "forMs": 60_000}]])
    assert first.breaker.is_open
    for unknown in ({**said, "service": "mail"}, {**said, "endpoint": "http://mail"}):
        assert carry_out(gateway, "act", ["", 0.0, "k", "drain", ["ada", unknown]]) == []
    carry_out(gateway, "log-level", "info")
    assert carry_out(gateway, "close", {"ids": [1], "service": "", "endpoint": "", "overMs": 0}) == 0

    now = time.time()
    ada = Principal("id|ada", "id|ada", {}, frozenset(), now + 900)
    carry_out(gateway, "revocation", ["jti", "a1", now, now + 60, False])
    assert list(gateway.revocations) == [Revocation(By.JTI, "a1", now, now + 60)]
    elsewhere = SessionStore(gateway.operators.config.sessions)
    elsewhere.open(b"token", ada, gateway.now(), now)
    row = json.loads(json.dumps(elsewhere.plain_of(b"token")))
    carry_out(gateway, "log-in", row)
    carry_out(gateway, "used", [row[0], gateway.now() + 5])
    assert len(gateway.operators.sessions) == 1
    carry_out(gateway, "log-out", row[0])
    assert len(gateway.operators.sessions) == 0

    carry_out(gateway, "health", ["billing", first.url, False, "500"])
    assert (first.checks_pass, first.last_check) == (False, "500")
    carry_out(gateway, "health", ["billing", first.url, True, "200"])
    second = gateway.services[b"billing"].endpoints[1]
    until = gateway.now() + 60
    carry_out(gateway, "breaker", ["billing", second.url, until, 2])
    assert (second.breaker.is_open, second.breaker.open_until) == (True, until)
    carry_out(gateway, "breaker", ["billing", second.url, None, 2])
    assert not second.breaker.is_open
    carry_out(gateway, "events", [[now, "note", "another worker has said so"]])
    await gateway.observer.look()
    assert gateway.observer.board.events[-1].text == "another worker has said so"
    carry_out(gateway, "password-attempt", ["192.0.2.1", now, True])  # nobody asks for passwords here
    for name, unknown in (
        ("health", ["mail", "http://mail", True, ""]),
        ("breaker", ["billing", "http://mail", None, 0]),
    ):
        carry_out(gateway, name, unknown)
    assert set(ORDERS) == {
        "act", "close", "log-level", "revocation", "log-in", "log-out", "used", "purge", "invalid", "health", "breaker",
        "events", "password-attempt",
    }  # fmt: skip


@pytest.mark.gen_test
async def test_what_another_worker_purges_or_makes_invalid_leaves_this_cache(serve: Serve) -> None:
    without = await serve({"billing": list(URLS)})
    order = {"service": "billing", "url": "/a", "prefix": "", "tags": [], "soft": False}
    assert await carry_out(without.app.gateway, "purge", order) == (0, 0)
    carry_out(without.app.gateway, "invalid", "billing /a")
    running = await serve({"billing": list(URLS)}, CACHE_ENABLED="true")
    cache = running.app.gateway.cache
    assert cache
    before = cache.store.changes
    assert await carry_out(running.app.gateway, "purge", order) == (0, 0)
    carry_out(running.app.gateway, "invalid", "billing /a")
    assert not cache.store.is_current(b"billing /a", None, before)
    assert cache.totals.purges == 0  # an order counts in the worker that got it
