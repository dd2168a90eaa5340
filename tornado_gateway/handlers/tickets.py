"""POST /auth/ticket: a one-time ticket for a stream, in exchange for a credential.

The body is JSON that names the service, and so is the answer:

    {"service": "chat"}                                                the request
    {"ticket": "b3Blbi4uLg", "expiresInMs": 30000}                     the answer

The page needs a credential whatever AUTH_REQUIRED says. Scopes and the rule of the service are checked when the ticket
is used: routes to one service may differ in both.
"""

import secrets
import time
from typing import cast

from tornado_gateway.errors import BadRequest, GatewayError, NotFound, Unauthorized, UnknownService
from tornado_gateway.gateway import Tickets
from tornado_gateway.handlers.admission import origin_of
from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.policy.tickets.ticket import MADE, RANDOM_BYTES, Ticket, digest, read_request
from tornado_gateway.policy.upstream.service import Service


class TicketHandler(PageHandler):
    """Makes tickets."""

    @property
    def found(self) -> Service | type[GatewayError] | None:
        """The service that the ticket is for: the limits of the service count, and the origins that it lists."""
        if self.gateway.tickets is None:
            return NotFound
        try:
            name = read_request(self.request.body)
        except BadRequest:
            return None  # post() says what is wrong, to a client with a credential
        return self.gateway.services.get(name.encode("utf-8", "replace"), UnknownService)

    async def post(self) -> None:
        ticket = Ticket(
            self.admitted.principal,
            self.admitted.kind,
            read_request(self.request.body),
            origin_of(self.exchange.head),
        )
        self.journal.service = ticket.service
        seconds = ticket.seconds(time.time())
        if seconds <= 0:  # within JWT_LEEWAY_S; a stream would end at once
            raise Unauthorized("the credential is about to expire", invalid=True)
        text = await self._keep(ticket, seconds)
        self.send_json({"ticket": text, "expiresInMs": int(seconds * 1000)})

    async def _keep(self, ticket: Ticket, seconds: float) -> str:
        """Put a ticket into the store; return the text that stands for the ticket."""
        tickets, now = cast(Tickets, self.gateway.tickets), self.gateway.now()  # `found` is an error without tickets
        said, text = ticket.to_bytes(), secrets.token_urlsafe(RANDOM_BYTES)
        tickets.allowance.spend(ticket.principal.name, now)
        putting = tickets.store.put(digest(text.encode("ascii")), said, seconds, now)
        if putting is not None:
            await putting
        tickets.totals[MADE] += 1
        return text
