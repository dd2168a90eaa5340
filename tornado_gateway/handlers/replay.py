"""The Answerer that replays a stored response, as if an endpoint had sent the response just now."""

import asyncio
import math

from tornado_gateway.handlers.answerer import AnswerReceiver
from tornado_gateway.handlers.looking import Look
from tornado_gateway.policy.http.caching.ranges import part
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.validation import ABOUT_THE_CONTENT, is_unchanged
from tornado_gateway.policy.http.headers import without
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, Outcome
from tornado_gateway.wire.client.receivers import BodyReceiver
from tornado_gateway.wire.http1 import ResponseHead

# Bytes that are given to the receiver at once. A client that reads slowly is waited for after each piece, so that a
# large stored body is not copied for each such client.
PIECE = 64 * 1024


class Replay:
    """A response from memory, and the source of its body.

    Args:
        receiver: takes the response.
        head: of the response.
        body: the content; b"" for a response without content, as to HEAD.
    """

    __slots__ = ("_at", "_body", "_head", "_receiver", "_taker", "is_held")

    endpoint: Endpoint | None = None
    attempt_count = 0
    may_replace_stream = False
    is_blocked = False
    min_rate = 0.0
    heard_at = -math.inf

    def __init__(self, receiver: AnswerReceiver, head: ResponseHead, body: bytes) -> None:
        self._receiver, self._head, self._body = receiver, head, body
        self._taker: BodyReceiver | None = None
        self._at = 0
        self.is_held = False

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self._body)

    # ---- Answerer

    def begin(self) -> None:
        self._taker = self._receiver.on_head(self._head, self)
        self._go_on(None)

    def _go_on(self, _: "asyncio.Future[None] | None") -> None:
        """Give pieces of the body, as long as the receiver takes pieces; then the end."""
        self.is_held = False
        body = self._body
        while self._taker and self._at < len(body):
            piece = body[self._at : self._at + PIECE] if len(body) > PIECE else body
            self._at += len(piece)
            busy = self._taker.on_chunk(piece)
            if busy is not None and self._at < len(body):
                self.is_held = True
                busy.add_done_callback(self._go_on)
                return
        taker, self._taker = self._taker, None
        if taker:
            taker.on_end([])

    def abort(self) -> None:
        self._taker = None

    def close(self, outcome: Outcome, now: float) -> None:
        self._taker = None

    def becomes(self, kind: Kind) -> None:
        """Never called: an event stream is not stored."""

    def replace_stream(self) -> bool:
        return False

    # ---- BodySource

    def hand_to(self, receiver: BodyReceiver) -> None:
        self._taker = receiver

    def allow(self, seconds: float) -> None:
        """Memory does not let a client wait."""

    def forget_fields(self) -> None:
        """The fields belong to the store."""


def replay(look: Look, request: AnswerReceiver, stored: Stored, age: float) -> Replay:
    """Answer from a stored response: with the response, with 304 if the client has the response already, or with the
    parts that the client asks for."""
    answer = _replay(look, request, stored, age)
    look.cache.totals.saved += answer.size
    return answer


def _replay(look: Look, request: AnswerReceiver, stored: Stored, age: float) -> Replay:
    asked, wall = look.fields, look.cache.wall()
    if is_unchanged(asked, stored.status, stored.etag, stored.last_modified or stored.date, wall):
        return Replay(request, _head(stored, 304, b"", without(stored.lines, ABOUT_THE_CONTENT), age, 0), b"")
    if b"range" in asked and look.method == b"GET":  # RFC 9110 §14.2: Range means something in a GET alone
        some = part(stored, asked, wall, look.cache.new_boundary())
        if some:
            return Replay(request, _head(stored, some.status, b"", some.lines, age, len(some.body)), some.body)
    head = _head(stored, stored.status, stored.reason, stored.lines, age, len(stored.body))
    return Replay(request, head, b"" if look.method == b"HEAD" else stored.body)


def _head(stored: Stored, status: int, reason: bytes, lines: bytes, age: float, length: int) -> ResponseHead:
    """The head of an answer from a stored response (RFC 9111 §4, §5.1)."""
    return ResponseHead(
        status, reason, stored.minor, b"\r\n", stored.known_fields, b"%bAge: %d\r\n" % (lines, age), length, None, True,
        None,
    )  # fmt: skip
