"""What a successor of a process knows."""

import json

import pytest

from tests.conftest import Serve
from tornado_gateway.memory import memory_of, remember
from tornado_gateway.policy.principal import ANYBODY
from tornado_gateway.policy.revocations import By, Revocation

TOKENS = {"AUTH_REQUIRED": "true", "JWT_SECRET": "k" * 40, "AUTH_TOKEN_SOURCES": "ticket:ticket"}
REVOKED = Revocation(By.JTI, "7", 1.0, 9e9)


@pytest.mark.gen_test
async def test_log_ins_tickets_and_revocations_are_remembered(serve: Serve) -> None:
    before = (await serve({"svc": ["http://127.0.0.1:1"]}, **TOKENS)).app.gateway
    after = (await serve({"svc": ["http://127.0.0.1:1"]}, **TOKENS)).app.gateway
    before.revocations.take(REVOKED)
    before.operators.sessions.open(b"token", ANYBODY, before.now(), 1.0)
    assert before.tickets and before.tickets.memory is not None and after.tickets and after.tickets.memory is not None
    before.tickets.memory.put("digest", b"ticket", 9.0, before.now())
    remember(after, json.loads(json.dumps(memory_of(before))))
    assert list(after.revocations) == [REVOKED]
    assert after.operators.sessions.use(b"token", after.now(), 1.0)
    assert after.tickets.memory.take("digest", after.now()) == b"ticket"


@pytest.mark.gen_test
async def test_a_predecessor_without_tickets_gives_none(serve: Serve) -> None:
    before = (await serve({"svc": ["http://127.0.0.1:1"]})).app.gateway
    after = (await serve({"svc": ["http://127.0.0.1:1"]})).app.gateway
    remember(after, memory_of(before))
    remember(after, {})
    assert after.revocations.count == len(after.operators.sessions) == 0
