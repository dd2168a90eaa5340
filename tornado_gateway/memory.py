"""What a process knows that a successor must know, so that no client notices the change: as values of JSON.

Log-ins of operators, one-time tickets and revocations. What is not here begins anew in the successor: counters of rate
limits in memory, the response cache, health and breakers of endpoints, an operator's weights and drains, and figures.
"""

from collections.abc import Mapping
from typing import Any

from tornado_gateway.gateway import Gateway


def memory_of(gateway: Gateway) -> dict[str, object]:
    """What the gateway knows."""
    tickets = gateway.tickets.memory if gateway.tickets else None
    return {
        "revocations": gateway.revocations.to_plain(),
        "sessions": gateway.operators.sessions.to_plain(),
        "tickets": tickets.to_plain() if tickets is not None else [],
    }


def remember(gateway: Gateway, memory: Mapping[str, Any]) -> None:
    """Add what another process of the machine knew."""
    gateway.revocations.add_plain(memory.get("revocations", ()))
    gateway.operators.sessions.add_plain(memory.get("sessions", ()))
    if gateway.tickets and gateway.tickets.memory is not None:
        gateway.tickets.memory.add_plain(memory.get("tickets", ()))
