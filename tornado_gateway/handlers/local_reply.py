"""Local replies: the responses that the gateway makes itself instead of a service (Envoy's term)."""

import functools
import json
from http import HTTPStatus

from tornado_gateway.errors import GatewayError
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.cross_origin import annotate
from tornado_gateway.handlers.journal import ELSEWHERE, Journal
from tornado_gateway.policy.http.cors import lines_for_anybody
from tornado_gateway.policy.http.headers import LONGEST_ID, Field
from tornado_gateway.policy.http.unavailable import STATUS, comes_back, pause, retry_line
from tornado_gateway.wire.server.exchange import ServerExchange

PROBLEM = b"application/problem+json"
LONGEST_QUOTED = 2 * LONGEST_ID  # bytes of a request's id in JSON, where each may be escaped
_OWN_LINES = b"Content-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\nx-request-id: %b\r\n"


def problem(error: GatewayError, request_id: bytes) -> bytes:
    """The body of an error: RFC 9457's members, and `error`, `message` and `requestId` for programs."""
    before, between = _around_the_id(error.status, error.code, error.message, error.type)
    quoted = _quoted(request_id)
    members = f", {json.dumps(dict(error.members))[1:-1]}".encode("ascii") if error.members else b""
    return b'%b%b%b%b"%b}\n' % (before, quoted, between, quoted, members)


def _quoted(request_id: bytes) -> bytes:
    """A request id in a JSON string, without the quotes: other characters of an id need no escape."""
    if request_id.isalnum():  # as most are; "in" takes ten times as long, because CPython tries a number first
        return request_id
    return request_id.replace(b"\\", rb"\\").replace(b'"', rb"\"")


@functools.lru_cache(maxsize=256)
def _around_the_id(status: int, code: str, message: str, problem_type: str) -> tuple[bytes, bytes]:
    """What stands in the body before the request's id, and between the id and its repetition.

    Cached: a refusal under overload is to cost little.
    """
    said = {
        "type": problem_type or f"urn:tornado-gateway:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "instance": "urn:tornado-gateway:request:",
    }
    repeated = {"error": code, "message": message, "requestId": ""}
    before, between = json.dumps(said)[: -len('"}')], json.dumps(repeated)[len("{") : -len('"}')]
    return before.encode("ascii"), f'", {between}'.encode("ascii")


def error_fields(error: GatewayError, pseudonym: bytes) -> list[Field]:
    """The header fields of an error, with its Proxy-Status (RFC 9209)."""
    return _fields(error.fields, error.proxy, pseudonym)


def _fields(own: tuple[Field, ...], proxy: str | None, pseudonym: bytes) -> list[Field]:
    status = [(b"Proxy-Status", b"%b; error=%b" % (pseudonym, proxy.encode("ascii")))] if proxy else []
    return [*own, *status]


@functools.lru_cache(maxsize=256)
def _error_lines(own: tuple[Field, ...], proxy: str | None, pseudonym: bytes) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in _fields(own, proxy, pseudonym)])


def send_error(exchange: ServerExchange, error: GatewayError, request_id: bytes, pseudonym: bytes) -> None:
    """Answer with an error.

    Args:
        pseudonym: this gateway's name in Proxy-Status.
    """
    lines = _error_lines(error.fields, error.proxy, pseudonym)
    _send(exchange, error.status, PROBLEM, problem(error, request_id), request_id, lines)


class PreparedError:
    """An error whose answers differ by the request's id alone: send_error() for a refusal that must cost little.

    Args:
        error: without `members`.
        pseudonym: see send_error().

    Attributes:
        error: see above.
    """

    __slots__ = ("_before", "_between", "_lengths", "_lines", "error")

    def __init__(self, error: GatewayError, pseudonym: bytes) -> None:
        self.error = error
        self._before, self._between = _around_the_id(error.status, error.code, error.message, error.type)
        size, own = len(problem(error, b"")), b"Content-Type: %b\r\nCache-Control: no-store\r\n" % PROBLEM
        self._lines = own + _error_lines(error.fields, error.proxy, pseudonym) + b"Content-Length: "
        self._lengths = [b"%d\r\nx-request-id: " % (size + 2 * quoted) for quoted in range(LONGEST_QUOTED + 1)]

    def send(self, exchange: ServerExchange, request_id: bytes) -> None:
        quoted = request_id if request_id.isalnum() else _quoted(request_id)  # without a call for most ids
        # Joined: a format of several values takes three times as long.
        block = b"".join((self._lines, self._lengths[len(quoted)], request_id, b"\r\n"))
        exchange.respond(self.error.status, block, b"".join((self._before, quoted, self._between, quoted, b'"}\n')))


def send_retry(
    exchange: ServerExchange, error: GatewayError, request_id: bytes, pseudonym: bytes, seconds: float
) -> None:
    """Answer 200 with an event stream that tells an EventSource when to come back; see policy/http/unavailable.py.

    Args:
        error: why no service answers; named by Proxy-Status alone.
        seconds: until the client is to come back.
    """
    # A page of another origin must be able to read the reply, or its EventSource gives up for good. Where the gateway
    # does not answer CORS, the service alone knows which origins may read, and the reply only tells when to come back.
    lines = b"" if exchange.replaced_prefix else lines_for_anybody(exchange.head.known_fields)
    if error.proxy:
        lines += b"Proxy-Status: %b; error=%b\r\n" % (pseudonym, error.proxy.encode("ascii"))
    _send(exchange, 200, b"text/event-stream", retry_line(seconds), request_id, lines)


def _send(
    exchange: ServerExchange, status: int, media_type: bytes, body: bytes, request_id: bytes, lines: bytes
) -> None:
    exchange.respond(status, _OWN_LINES % (media_type, len(body), request_id) + lines, body)


def reply(gateway: Gateway, exchange: ServerExchange, error: GatewayError, request_id: bytes, mode: str) -> int:
    """Answer with an error, or tell an EventSource to come back.

    Args:
        mode: RETRY or STATUS; see policy/http/unavailable.py.

    Returns:
        The status that was sent.
    """
    head, pseudonym = exchange.head, gateway.forwarding.pseudonym
    accept = head.known_fields.get(b"accept", ())
    if mode == STATUS or not comes_back(error, mode=mode, method=head.method, accept=accept):
        send_error(exchange, error, request_id, pseudonym)
        return error.status
    send_retry(exchange, error, request_id, pseudonym, pause(error.retry_after, gateway.rng))
    return 200


def refuse(gateway: Gateway, exchange: ServerExchange, error: GatewayError, journal: Journal) -> None:
    """Answer a request that reaches no handler with an error."""
    if gateway.cors:
        annotate(gateway.cors, exchange)
    send_error(exchange, error, journal.request_id, gateway.forwarding.pseudonym)


class LocalReply:
    """Answers requests that never reach a handler: malformed, too large, too late, too many."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, exchange: ServerExchange, error: GatewayError) -> None:
        journal = Journal(self._gateway, exchange, ELSEWHERE)
        refuse(self._gateway, exchange, error, journal)
        journal.close(error.status, error.reason, journal.began)
