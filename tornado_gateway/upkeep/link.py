"""Messages between a worker and the supervisor, over a pair of sockets that no path leads to.

    tell ──► a message without an answer
    ask ───► a question ──► an answer, or the error of whoever should have answered

A message is its length in four bytes, and JSON: number of the question, name, body. Messages of a side arrive in their
order. The number is 0 for a message without an answer, and negative for an answer.
"""

import asyncio
import inspect
import json
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

PATIENCE = 10.0  # seconds for an answer
_LENGTH = 4  # bytes

log = logging.getLogger("tornado_gateway")


class LinkError(Exception):
    """There is no answer. The text says why."""


class LinkEnded(LinkError):
    """The other process has ended, or ends: its end of the link is closed."""

    def __init__(self) -> None:
        super().__init__("the other process has ended")


class LinkSilent(LinkError):
    """The other process lives, and has not answered in time."""


class Link(asyncio.Protocol):
    """An end of the pair. Made inside a running event loop.

    Args:
        answers: by name, what answers a message: a function of the body that returns the body of the answer, or an
            awaitable of the body.
        on_lost: is called when the other end has gone.
    """

    def __init__(self, answers: Mapping[str, Callable[[Any], Any]], on_lost: Callable[[], None]) -> None:
        self._answers, self._on_lost = answers, on_lost
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> "Link":
        await self._loop.create_unix_connection(lambda: self, sock=sock)
        return self

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def tell(self, name: str, body: object = None) -> None:
        """Send a message. Without an other end, nothing happens."""
        self._send(0, name, body)

    async def ask(self, name: str, body: object = None, patience: float | None = PATIENCE) -> Any:
        """Send a question; return the answer.

        Args:
            patience: seconds to wait; None for as long as the other end lives.

        Raises:
            LinkError: there is no answer.
        """
        if not self.is_open:
            raise LinkEnded
        self._number += 1
        number = self._number
        answer = self._asked[number] = self._loop.create_future()
        self._send(number, name, body)
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError as error:
            raise LinkSilent(f"the other process has not answered {name} within {patience} s") from error
        finally:
            del self._asked[number]

    def _send(self, number: int, name: str, body: object) -> None:
        if self._transport and self.is_open:
            said = json.dumps([number, name, body], separators=(",", ":")).encode("ascii")
            self._transport.write(len(said).to_bytes(_LENGTH) + said)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._received[:_LENGTH])
            if len(self._received) < end:
                return
            said = json.loads(self._received[_LENGTH:end])
            del self._received[:end]
            self._take(*said)

    def connection_lost(self, error: Exception | None) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(LinkEnded())
        for task in self._tasks:
            task.cancel()
        self._on_lost()

    def _take(self, number: int, name: str, body: Any) -> None:
        if number < 0:
            answer = self._asked.get(-number)
            if answer and not answer.done():
                answer.set_exception(LinkError(body)) if name else answer.set_result(body)
            return
        try:
            said = self._answers[name](body)
        except Exception as error:  # the other end is told, and goes on
            self._fail(number, name, error)
            return
        if inspect.isawaitable(said):
            task = self._loop.create_task(self._await(number, name, said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(number, name, said)

    async def _await(self, number: int, name: str, awaited: Any) -> None:
        try:
            said = await awaited
        except Exception as error:  # see _take()
            self._fail(number, name, error)
            return
        self._answer(number, name, said)

    def _answer(self, number: int, name: str, said: Any) -> None:
        if not number:
            return
        try:
            self._send(-number, "", said)
        except (TypeError, ValueError) as error:  # an answer that JSON does not have
            self._fail(number, name, error)

    def _fail(self, number: int, name: str, error: Exception) -> None:
        if not isinstance(error, LinkError):
            log.error("%s of another process of the gateway has failed", name, exc_info=error)
        if number:
            self._send(-number, "failed", f"{type(error).__name__}: {error}")
