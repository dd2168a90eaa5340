"""Tickets in the supervisor: good once, in whatever worker; and no ticket while the supervisor is silent."""

import asyncio
import socket

import pytest

from tornado_gateway.errors import TicketsUnavailable
from tornado_gateway.supervisor.hub import Hub
from tornado_gateway.upkeep.link import Link
from tornado_gateway.upkeep.whole import Whole
from tornado_gateway.upkeep.whole_tickets import WholeTickets


async def worker(hub: Hub) -> tuple[Whole, Link]:
    one, other = socket.socketpair()
    whole, supervisor = Whole(), await Link(hub.answers, lambda: None).open(other)
    whole.link = await Link({}, lambda: None).open(one)
    return whole, supervisor


@pytest.mark.gen_test
async def test_a_ticket_of_one_worker_is_good_once_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    hub = Hub(lambda: now)
    (one, first), (other, second) = await worker(hub), await worker(hub)
    here, there = WholeTickets(one), WholeTickets(other)
    await here.put("digest", b'{"a": "\xe9"}', 30.0, 0.0)
    assert [await each.take("digest", 0.0) for each in (there, here, there)] == [b'{"a": "\xe9"}', None, None]
    await here.put("digest", b"late", 1.0, 0.0)
    now = 6.5
    assert await there.take("digest", 0.0) is None
    monkeypatch.setattr(hub._tickets, "_max_tickets", 0)
    with pytest.raises(TicketsUnavailable, match="as many tickets"):
        await here.put("digest", b"", 30.0, 0.0)
    for each in (first, second):
        each.close()
    await asyncio.sleep(0.01)
    with pytest.raises(TicketsUnavailable):
        await here.put("digest", b"", 30.0, 0.0)
    with pytest.raises(TicketsUnavailable):
        await there.take("digest", 0.0)
    for whole in (one, other):
        whole.link.close()
    await asyncio.sleep(0)
