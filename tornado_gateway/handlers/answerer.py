"""The interface between a proxied request and the object that answers the request.

    journey ── OutboundRequest ──► Answerer      what is asked for
            ◄── AnswerReceiver ───               the head of the answer; on_head() names the receiver of the body

Attempts (attempts.py) is the Answerer that asks the endpoints of a service. An Answerer that answers from memory has
neither a lease nor a connection, so a journey learns about both only what this protocol says.
"""

from typing import Protocol

from tornado_gateway.errors import GatewayError
from tornado_gateway.handlers.upload import Upload
from tornado_gateway.policy.spans import Trace
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, Outcome
from tornado_gateway.wire.client.receivers import HeadReceiver


class OutboundRequest(Protocol):
    """A request to send to an endpoint.

    Attributes:
        kind: kind of the lease.
        upgrades: whether the request asks for another protocol.
        began: instant (gateway clock) at which the request came.
        is_repeatable: whether an endpoint may carry out the request twice; see policy/upstream/retry.py.
        awaits_stream: whether the client waits for an event stream or a WebSocket.
        key: requests with the same key belong to the same endpoint; b"" for no key.
        pinned: the endpoint that the client's session is bound to; None for any endpoint.
        upload: the request's body; None without a body.
    """

    method: bytes
    kind: Kind
    upgrades: bool
    began: float
    is_repeatable: bool
    awaits_stream: bool
    key: bytes
    pinned: Endpoint | None
    upload: Upload | None

    @property
    def trace(self) -> Trace | None:
        """The trace that records the request; None for no record."""

    def replace_line(self, line: bytes, by: bytes) -> None:
        """Send another field line, ended by CRLF, from the next exchange on."""

    def head_for(self, endpoint: Endpoint) -> bytes:
        """The bytes of the request's head for an endpoint.

        Raises:
            BadRequest: no endpoint may get the request's target.
        """


class AnswerReceiver(HeadReceiver, Protocol):
    """Takes the answer to a request; the answer need not come from an upstream."""

    def on_failure(self, error: GatewayError) -> None:
        """Called when the request fails without an answer."""


class Answerer(Protocol):
    """Answers a request. The creator of an Answerer must call `close()`."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint that answers, or that was asked last; None if no endpoint was asked."""

    @property
    def attempt_count(self) -> int:
        """The number of exchanges begun with endpoints; for the access log, which asks before close()."""

    def begin(self) -> None:
        """Begin to answer: the AnswerReceiver is called at once or later.

        Raises:
            GatewayError: the request cannot be answered.
        """

    def abort(self) -> None:
        """Stop the answer: the receivers are not called again."""

    def close(self, outcome: Outcome, now: float) -> None:
        """End the request. Later calls change nothing.

        Args:
            outcome: how the endpoint did.
        """

    # ---- what a stream needs

    def becomes(self, kind: Kind) -> None:
        """Note that the answer is a stream of this kind, and has begun."""

    @property
    def may_replace_stream(self) -> bool:
        """Whether another endpoint can be asked if an event stream turns out to have failed."""

    def replace_stream(self) -> bool:
        """Ask another endpoint after an event stream has failed, if the retry budget allows.

        Returns:
            Whether another endpoint is asked.

        Raises:
            GatewayError: there is no endpoint to ask.
        """

    # ---- backpressure

    @property
    def is_blocked(self) -> bool:
        """Whether the upstream does not read the request's body at present."""

    @property
    def is_held(self) -> bool:
        """Whether the answer is paused by its receiver."""


class Delegating:
    """The methods of an Answerer that another Answerer carries out: nothing happens while there is no other."""

    __slots__ = ()

    answerer: Answerer | None

    @property
    def endpoint(self) -> Endpoint | None:
        return self.answerer.endpoint if self.answerer else None

    @property
    def attempt_count(self) -> int:
        return self.answerer.attempt_count if self.answerer else 0

    def becomes(self, kind: Kind) -> None:
        if self.answerer:
            self.answerer.becomes(kind)

    @property
    def may_replace_stream(self) -> bool:
        return self.answerer is not None and self.answerer.may_replace_stream

    def replace_stream(self) -> bool:
        return self.answerer is not None and self.answerer.replace_stream()

    @property
    def is_blocked(self) -> bool:
        return self.answerer is not None and self.answerer.is_blocked

    @property
    def is_held(self) -> bool:
        return self.answerer is not None and self.answerer.is_held
