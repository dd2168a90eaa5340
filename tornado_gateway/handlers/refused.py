"""Requests that the route table refuses: a path that may lead to another route, a host without such a path."""

from collections.abc import Awaitable
from typing import Any

from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admission import Admitted, Steps, admit, resume
from tornado_gateway.handlers.journal import ELSEWHERE, Journal
from tornado_gateway.handlers.local_reply import refuse
from tornado_gateway.policy.routing import Route
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange

_NOWHERE: Route[None] = Route(path=ELSEWHERE, handler=None, needs_token=False)


class RefusedRequest(HeadDelegate):
    """A request that the route table refuses: counted by the rate limits, and answered with the error. The connection
    is kept as behind any other answer.

    Args:
        error: why the route table refuses.
    """

    def __init__(self, gateway: Gateway, exchange: ServerExchange, error: GatewayError) -> None:
        self._gateway, self._exchange, self._error = gateway, exchange, error
        self._journal = Journal(gateway, exchange, ELSEWHERE)

    def head_received(self) -> Awaitable[None] | None:
        steps = admit(self._gateway, _NOWHERE, self._journal, None, self._refuse)
        try:
            waits_for = next(steps, None)
        except GatewayError as error:
            self._send(error)
            return None
        return None if waits_for is None else self._send_later(steps, waits_for)

    async def _send_later(self, steps: Steps[None], waits_for: Awaitable[Any]) -> None:
        try:
            await resume(steps, waits_for)
        except GatewayError as error:
            self._send(error)

    def _refuse(self, _: Admitted[None]) -> None:
        self._send(self._error)

    def _send(self, error: GatewayError) -> None:
        refuse(self._gateway, self._exchange, error, self._journal)
        self._journal.close(error.status, error.reason, self._gateway.now())

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return None

    def body_received(self) -> None:
        pass
