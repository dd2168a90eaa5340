"""How many tickets a principal may make."""

import pytest

from tornado_gateway.errors import TooManyTickets
from tornado_gateway.policy.tickets.allowance import Allowance
from tornado_gateway.policy.tickets.ticket import TTL


def test_a_principal_makes_so_many_tickets_and_others_make_theirs() -> None:
    allowance = Allowance(of_principal=2)
    for name in ("ada", "ada", "eve", "eve"):
        allowance.spend(name, 0.0)
    for name in ("ada", "eve"):
        with pytest.raises(TooManyTickets):
            allowance.spend(name, 1.0)


def test_a_ticket_counts_for_its_life() -> None:
    allowance = Allowance(of_principal=1)
    allowance.spend("ada", 0.0)
    with pytest.raises(TooManyTickets):
        allowance.spend("ada", TTL - 0.001)
    allowance.spend("ada", TTL)
    with pytest.raises(TooManyTickets):
        allowance.spend("ada", 2 * TTL - 0.001)


def test_each_ticket_counts_for_a_life_of_its_own() -> None:
    allowance = Allowance(of_principal=2)
    allowance.spend("ada", 0.0)
    allowance.spend("ada", 1.0)
    allowance.spend("ada", TTL)
    with pytest.raises(TooManyTickets):
        allowance.spend("ada", TTL + 0.999)


def test_a_flood_of_principals_is_bounded_and_forgotten() -> None:
    allowance = Allowance(in_all=10)
    for number in range(10):
        allowance.spend(str(number), float(number))
    with pytest.raises(TooManyTickets):
        allowance.spend("another", 9.0)
    assert len(allowance) == 10
    allowance.sweep(TTL + 4.0)
    assert len(allowance) == 5
    allowance.sweep(TTL + 9.0)
    assert (len(allowance), len(allowance._counts)) == (0, 0)
