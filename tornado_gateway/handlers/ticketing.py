"""The redemption of a ticket: the step of the admission that finds the principal by a ticket instead of a token.

A ticket is spent by the first request that shows it, whatever becomes of the request. A ticket that a request of the
wrong page, or for the wrong service, has shown may have been stolen.

Wrong tickets count for the limits by address, and for nothing else. No guess meets one of 2^192 texts, and a guess
costs one look-up. An EventSource that reconnects shows its spent ticket as a rule, so a lock would shut out offices
behind one address.
"""

import time
from collections.abc import Awaitable, Collection, Generator
from typing import Any

from tornado_gateway.errors import NOT_VALID, Unauthorized
from tornado_gateway.gateway import Gateway
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.tickets.ticket import REFUSED, USED, Ticket, Use, digest, has_form


def redeem(
    gateway: Gateway, shown: bytes, use: Use, accepted: Collection[Kind]
) -> Generator[Awaitable[Any], Any, Ticket]:
    """Take a ticket out of the store.

    Args:
        shown: what the request shows as a ticket.
        accepted: the kinds of credentials that the request needs one of.

    Raises:
        Unauthorized: the ticket is unknown, used, too old, or not for this request. The error does not say which.
        TicketsUnavailable: nobody can tell.
    """
    tickets = gateway.tickets if has_form(shown) else None
    taken = tickets.store.take(digest(shown), gateway.now()) if tickets else None
    said: bytes | None = taken if taken is None or isinstance(taken, bytes) else (yield taken)
    ticket = _ticket_of(said) if said else None
    is_good = ticket and ticket.kind in accepted and ticket.is_for(use) and ticket.seconds(time.time()) > 0
    if gateway.tickets:
        gateway.tickets.totals[USED if is_good else REFUSED] += 1
    if ticket and is_good:
        return ticket
    raise Unauthorized(NOT_VALID, invalid=True)


def _ticket_of(said: bytes) -> Ticket | None:
    try:
        return Ticket.of_bytes(said)
    except ValueError:
        return None
