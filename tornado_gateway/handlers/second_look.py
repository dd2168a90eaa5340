"""The Answerer of a request that memory has no fresh response for, and the shared store may have one.

    memory ──► nothing fresh ──► SecondLook ──► shared store ──► memory ──► the Answerer by what memory has by now

The look costs a round trip to Redis, and is made once for all who ask for the same at the same time.
"""

import asyncio
from collections.abc import Callable

from tornado_gateway.errors import GatewayError
from tornado_gateway.handlers.answerer import Answerer, AnswerReceiver, Delegating
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.upstream.endpoint import Outcome

Found = Callable[[Token | None], Answerer]


class SecondLook(Delegating):
    """Waits for the shared store, and lets another Answerer answer.

    Args:
        looking: is done when memory has what the shared store has.
        receiver: gets the answer.
        found: makes the other Answerer; may raise a GatewayError.
    """

    __slots__ = ("answerer", "_found", "_looking", "_receiver")

    def __init__(self, looking: "asyncio.Future[Token | None]", receiver: AnswerReceiver, found: Found) -> None:
        self._looking, self._receiver = looking, receiver
        self._found: Found | None = found  # None once the request has ended, or the other answers
        self.answerer: Answerer | None = None

    def begin(self) -> None:
        self._looking.add_done_callback(self._go_on)

    def _go_on(self, looking: "asyncio.Future[Token | None]") -> None:
        found, self._found = self._found, None
        if found is None:
            return
        try:
            self.answerer = found(None if looking.cancelled() else looking.result())
            self.answerer.begin()
        except GatewayError as error:
            self._receiver.on_failure(error)

    # ---- Answerer

    def abort(self) -> None:
        self._found = None
        if self.answerer:
            self.answerer.abort()

    def close(self, outcome: Outcome, now: float) -> None:
        self._found = None
        if self.answerer:
            self.answerer.close(outcome, now)
