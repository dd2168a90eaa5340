"""The record of each request in the histogram of durations and in the access log.

No other module writes to either. Requests for a service, requests for a page and local replies are recorded alike.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from tornado_gateway.adapters.access_log import AccessRecord, Refusal
from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import Gateway
from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.forwarding import client_address, request_id
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.trace import Parents, trace_id
from tornado_gateway.policy.limits.verdict import Verdict
from tornado_gateway.policy.spans import Trace
from tornado_gateway.policy.views.durations import EXAMPLES_FROM, Example
from tornado_gateway.policy.views.request_tail import Ended
from tornado_gateway.wire.server.exchange import ServerExchange

ELSEWHERE = "other"  # label of requests without a route, so that a client cannot make up labels


def record_refusal(
    gateway: Gateway, exchange: ServerExchange, label: str, error: GatewayError, request_id: bytes, sent: int
) -> None:
    """Record a request that was refused at once, before a service was chosen: the records of a Journal without its
    notes. Measured: a refusal under overload, which is to cost little, takes a tenth less.

    Args:
        exchange, label: see Journal.
        sent: status of the answer, which may differ from the error's status.
    """
    head, reason, tail, access_log = exchange.head, error.reason, gateway.tail, gateway.access_log
    gateway.durations.add(head.method, label, error.status, 0.0)
    gateway.durations.reasons["", reason] += 1
    client, trusted = exchange.connection.peer, gateway.forwarding.trusted
    if trusted:
        client = client_address(head.known_fields, client, trusted)
    if (tail.room_for_trouble or sent < 500) and tail.has_room(sent, reason, 0.0):
        ended = Ended(time.time(), sent, reason, head.method, head.target, "", "", 0, 0.0, client.text, "", request_id)
        tail.keep(ended, gateway.now())
    if access_log and access_log.has_all:
        parents = head.known_fields.get(b"traceparent", ())
        access_log.add(
            Refusal(request_id, head.method, head.target, sent, reason, exchange.body_bytes, client, parents)
        )


@dataclass(frozen=True, slots=True)
class Frames:
    """What a WebSocket has carried.

    Attributes:
        bytes_in, bytes_out: bytes of all frames from the client, and to the client.
        messages_in, messages_out: messages from the client, and to the client.
        close_code: of the Close frame that ended the WebSocket; 1006 for no Close frame (RFC 6455 §7.4.1).
    """

    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int
    close_code: int

    def put_into(self, record: AccessRecord) -> AccessRecord:
        """The record with the figures of frames instead of bodies."""
        return replace(
            record,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            close_code=self.close_code,
        )


class Refreshed(NamedTuple):
    """What became of a request in the background; see refreshing.py.

    Attributes:
        began: instant (gateway clock).
        status: of the endpoint's response; of the error if there is none.
        reason: of the GatewayError; "" for no failure.
        endpoint, attempts: see Journal.close().
        size: bytes of the response's body.
        head_seconds: seconds until the response's head; None without a response.
    """

    began: float
    status: int
    reason: str
    endpoint: str
    attempts: int
    size: int
    head_seconds: float | None


class Journal:
    """Notes of a request, from its head until the record in histogram and access log.

    Args:
        label: the path of the route; ELSEWHERE for no route.

    Attributes:
        request_id: the client's x-request-id, or a new one.
        began: instant (gateway clock) at which the request came.
        client: the client's address; None before origination.
        principal: name of the principal; "" for none, and before authentication.
        service: name of the service; "" before admission, and for a page.
        status: of the endpoint's response; 0 before the response's head.
        head_seconds: from `began` to the head of the endpoint's response; None before.
        is_stream: whether the answer is a stream. The histogram then counts `head_seconds`, because the life of a
            stream is no latency.
        frames: what a WebSocket has carried; None for everything else.
        parents: where the trace of the request is named.
        remark: the reason in the access log for a request that did not fail; "" for none.
        charge: counts the cost that a service tells in fields of its response; None where no cost counts.
        verdicts: what the rate limits have said.
        is_closed: whether histogram and access log have the request.
        trace: what is recorded of the request; None for no record. See traced.py.
    """

    trace: Trace | None = None

    __slots__ = (
        "_gateway", "_label", "began", "charge", "client", "exchange", "frames", "head_seconds", "is_closed",
        "is_stream", "parents", "principal", "remark", "request_id", "service", "status", "verdicts",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, exchange: ServerExchange, label: str) -> None:
        self._gateway, self.exchange, self._label = gateway, exchange, label
        known_fields = exchange.head.known_fields
        self.request_id = request_id(known_fields, exchange.connection.peer, gateway.forwarding, gateway.new_request_id)
        self.parents: Parents = known_fields.get(b"traceparent", ())
        self.began = gateway.now()
        self.client: Address | None = None
        self.principal = self.service = ""
        self.status = 0
        self.head_seconds: float | None = None
        self.is_stream = self.is_closed = False
        self.frames: Frames | None = None
        self.remark = ""
        self.charge: Callable[[Iterable[Field]], None] | None = None
        self.verdicts: list[Verdict] | None = None

    def close(
        self,
        status: int,
        reason: str,
        now: float,
        *,
        sent: int = 0,
        endpoint: str = "",
        attempts: int = 0,
        bytes_in: int = 0,
    ) -> None:
        """Add the request to histogram and access log. A second call changes nothing.

        Args:
            status: status for the histogram.
            reason: GatewayError.reason; "" for no failure.
            now: instant (gateway clock) of the end.
            sent: status for the access log, if different from `status`; else 0.
            endpoint: URL of the last endpoint that was asked; "" for none.
            attempts: number of exchanges begun with endpoints.
            bytes_in: bytes of the request's body.
        """
        if self.is_closed:
            return
        self.is_closed = True
        gateway, method, seconds = self._gateway, self.exchange.head.method, now - self.began
        to_count = (self.head_seconds or 0.0) if self.is_stream else seconds
        gateway.durations.add(method, self._label, status, to_count, self.service, self.is_stream)
        if seconds >= EXAMPLES_FROM and self.service and not self.is_stream:
            request, trace = self.request_id.decode("ascii"), trace_id(self.parents)
            gateway.durations.keep(self.service, Example(time.time(), seconds, request, trace))
        if reason:
            gateway.durations.reasons[self.service, reason] += 1
        tail = gateway.tail
        if tail.room or status >= 500 or reason or to_count >= tail.slow:
            self._keep(sent or status, reason or self.remark, to_count, endpoint, attempts, now)
        access_log = gateway.access_log
        if access_log is None:
            return
        is_slow = to_count >= access_log.slow
        if not (is_slow or access_log.has_all):
            return
        # By position: for a class, Python 3.11 makes a dict of arguments by name (measured: 2 % of the gateway's work).
        record = AccessRecord(
            self.request_id, method, self.exchange.head.target, self.service, endpoint, sent or status,
            reason or self.remark, attempts, bytes_in, self.exchange.body_bytes, self.head_seconds, seconds,
            self.client or self._client_of_a_refusal(), self.parents, is_slow,
        )  # fmt: skip
        access_log.add(self.frames.put_into(record) if self.frames else record)

    def _keep(self, status: int, reason: str, seconds: float, endpoint: str, attempts: int, now: float) -> None:
        """Keep the request for operators. Good answers of the gateway's own pages are of no interest."""
        tail, head = self._gateway.tail, self.exchange.head
        if (self.service or status >= 400) and tail.has_room(status, reason, seconds):
            client = self.client or self._client_of_a_refusal()
            ended = Ended(
                time.time(), status, reason, head.method, head.target, self.service, endpoint, attempts, seconds,
                client.text, self.principal, self.request_id,
            )  # fmt: skip
            tail.keep(ended, now)

    def open(self, now: float, endpoint: str, attempts: int) -> None:
        """Add the beginning of a stream to the access log, with STREAM_OPEN_LOG.

        Args:
            now: instant (gateway clock).
            endpoint, attempts: see close().
        """
        exchange, access_log = self.exchange, self._gateway.access_log
        if access_log is None or not access_log.has_openings:
            return
        record = AccessRecord(
            self.request_id, exchange.head.method, exchange.head.target, self.service, endpoint, self.status, "",
            attempts, 0, 0, self.head_seconds, now - self.began, self.client or self._client_of_a_refusal(),
            self.parents, is_open=True,
        )  # fmt: skip
        access_log.add(record)

    def note_refresh(self, told: Refreshed, now: float) -> None:
        """Add a request in the background to the access log, with the id and the client of the request that has found
        the stored response stale. The histogram has requests that somebody waits for.

        Args:
            now: instant (gateway clock) of the end.
        """
        access_log, seconds = self._gateway.access_log, now - told.began
        if access_log is None:
            return
        is_slow = seconds >= access_log.slow
        if not (is_slow or access_log.has_all):
            return
        record = AccessRecord(
            self.request_id, b"GET", self.exchange.head.target, self.service, told.endpoint, told.status, told.reason,
            told.attempts, 0, told.size, told.head_seconds, seconds, self.client or self._client_of_a_refusal(),
            self.parents, is_slow, is_refresh=True,
        )  # fmt: skip
        access_log.add(record)

    def _client_of_a_refusal(self) -> Address:
        """The client's address, for a request that was refused before origination."""
        exchange = self.exchange
        return client_address(exchange.head.known_fields, exchange.connection.peer, self._gateway.forwarding.trusted)
