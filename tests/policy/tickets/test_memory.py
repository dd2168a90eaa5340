"""The tickets of one process."""

import json

import pytest

from tornado_gateway.errors import TicketsUnavailable
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.tickets.ticket import TTL


def test_a_ticket_is_taken_once() -> None:
    store = MemoryTickets()
    store.put("a", b"ada", TTL, 0.0)
    store.put("b", b"eve", TTL, 0.0)
    assert [store.take(name, 1.0) for name in ("a", "a", "b", "c")] == [b"ada", None, b"eve", None]


@pytest.mark.parametrize(("seconds", "now", "found"), [(TTL, TTL - 0.001, True), (TTL, TTL, False), (5.0, 5.0, False)])
def test_a_ticket_is_good_for_its_time(seconds: float, now: float, found: bool) -> None:
    store = MemoryTickets()
    store.put("a", b"ada", seconds, 0.0)
    assert (store.take("a", now) is not None) is found
    assert store.take("a", 0.0) is None  # whether or not the ticket was good


def test_a_sweep_forgets_what_is_too_old() -> None:
    store = MemoryTickets()
    for number in range(10):
        store.put(str(number), b"", TTL, float(number))
    store.sweep(TTL + 4.0)
    assert len(store) == 5
    store.put("short", b"", 1.0, TTL + 9.0)
    store.sweep(TTL + 10.0)
    assert len(store) == 0


def test_a_full_store_keeps_what_it_has_and_takes_no_more() -> None:
    store = MemoryTickets(max_tickets=2)
    store.put("a", b"ada", TTL, 0.0)
    store.put("b", b"eve", TTL, 1.0)
    for number in range(100):
        with pytest.raises(TicketsUnavailable):
            store.put(str(number), b"", TTL, 2.0)
    assert len(store) == 2
    store.put("c", b"bob", TTL, TTL)  # the first ticket is too old by now
    assert [store.take(name, TTL) for name in ("a", "b", "c")] == [None, b"eve", b"bob"]


def test_another_process_takes_the_tickets_over() -> None:
    store, other = MemoryTickets(), MemoryTickets()
    store.put("a", b"ad\xff", TTL, 0.0)
    other.add_plain(json.loads(json.dumps(store.to_plain())))
    assert [other.take("a", each) for each in (TTL - 1.0, 0.0)] == [b"ad\xff", None]
