"""Tickets that the supervisor of several workers has, so that a ticket that one worker has made is used in another.

While the supervisor does not answer, no ticket is made, and none is accepted: another worker may have taken the ticket.
"""

from tornado_gateway.errors import TicketsUnavailable, WorkersUnavailable
from tornado_gateway.policy.tickets.ticket import TTL
from tornado_gateway.upkeep.whole import Whole


class WholeTickets:
    """A TicketStore in the supervisor; see there."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole

    async def put(self, digest: str, ticket: bytes, seconds: float, _: float) -> None:
        """As TicketStore.put()."""
        try:
            is_kept = await self._whole.keep_ticket(digest, ticket.decode("latin-1"), seconds)
        except WorkersUnavailable:
            raise TicketsUnavailable from None
        if not is_kept:
            raise TicketsUnavailable("there are as many tickets as there may be", retry_after=TTL)

    async def take(self, digest: str, _: float) -> bytes | None:
        """As TicketStore.take()."""
        try:
            ticket = await self._whole.take_ticket(digest)
        except WorkersUnavailable:
            raise TicketsUnavailable from None
        return None if ticket is None else ticket.encode("latin-1")
