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
    carry_out(gateway, "act", ["/admin/api/weight", {**said, "weight": 7}])
    assert first.weight == 7
    carry_out(gateway, "act", ["/admin/api/breaker", {**said, "act": "open", "forMs": 60_000}])
    assert first.breaker.is_open
    for unknown in ({**said, "service": "mail"}, {**said, "endpoint": "http://mail"}):
        carry_out(gateway, "act", ["/admin/api/drain", unknown])
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
    assert set(ORDERS) == {"act", "close", "log-level", "revocation", "log-in", "log-out", "used", "purge", "invalid"}
