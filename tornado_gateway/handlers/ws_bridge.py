"""GET /ws/<service>?path=/… and /ws/<service>/<path>: a WebSocket to one of the service's endpoints.

    client ──handshake──► judged ──► endpoint's handshake
    client ◄──101────────────────── 101, judged     then a Relay (wire/websocket/relay.py) carries frames
    client ◄──its refusal────────── anything else

The endpoint is asked first. So its refusal is a real answer (401, 404, 503), its choice of subprotocol and
extensions is its own, and an endpoint that cannot be reached is replaced before the client sees anything.
"""

import asyncio
import base64
import secrets
from dataclasses import replace

from tornado_gateway.adapters.access_log import AccessRecord
from tornado_gateway.errors import BadRequest, ClientGone, UpstreamInvalid
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.frames import ABNORMAL
from tornado_gateway.policy.http.handshake import Offer, accept_value, check_answer, check_origin, read_offer
from tornado_gateway.policy.http.headers import client_fields, pairs, without
from tornado_gateway.policy.http.target import websocket_target
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, Outcome
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.websocket.config import WebSocketConfig
from tornado_gateway.wire.websocket.relay import Relay

MAX_REFUSAL = 64 * 1024  # bytes of an endpoint's refusal that are passed on

_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


class WsBridgeHandler(ProxiedRequest):
    """A WebSocket, from its handshake until both of its connections have ended."""

    ROUTE = "/ws/<service>/*"
    PREFIX = b"/ws/"
    METHODS = (b"GET",)
    IS_STREAM = upgrades = True
    kind = Kind.WS

    _offer: Offer
    _key: bytes  # of the handshake with the endpoint
    _relay: Relay | None = None

    @property
    def _config(self) -> WebSocketConfig:
        """Of the service that was asked for.

        Raises:
            RuntimeError: it has not been found yet.
        """
        if self._service is None:
            raise RuntimeError("a WebSocket has no configuration before its service is found")
        return self._gateway.websockets[self._service.name]

    # ---- the handshake

    def begin(self) -> None:
        if self._client.head.upgrades:  # if it is refused: frames may follow, which are no request (RFC 9931)
            self._client.keep_alive = False
        super().begin()

    def _ask_for(self, rest: bytes) -> bytes:
        head = self._client.head
        if head.body:
            raise BadRequest("a WebSocket handshake has no body")
        self._offer = read_offer(pairs(head.block[:-2]), head.minor)
        return websocket_target(rest, self._gateway.forwarding.target)

    def _admit(self) -> None:
        check_origin(self._offer.origin, self._config.allowed_origins, self._origination.host)

    def _pass(self, passing: bytes) -> bytes:
        hidden = {b"sec-websocket-key"}
        if self._config.rewrites_origin:
            hidden.add(b"origin")
        return without(passing, hidden)

    def _framing(self, endpoint: Endpoint) -> bytes:
        self._key = base64.b64encode(secrets.token_bytes(16))
        lines = b"%bSec-WebSocket-Key: %b\r\n" % (_UPGRADE, self._key)
        if self._offer.origin is not None and self._config.rewrites_origin:
            lines += b"Origin: %b://%b\r\n" % (endpoint.origin.scheme.encode("ascii"), endpoint.authority)
        return lines

    # ---- the endpoint's answer

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        if head.status == 101:
            self._accept(head)
        elif head.status < 300:
            self._refuse(UpstreamInvalid("the service answered a WebSocket handshake with no upgrade"))
        else:
            self._count_answer(head.status)
            return super().on_head(head, source)
        return None

    def _count_answer(self, status: int) -> None:
        if self._attempts and self._attempts.lease and status < 400:
            self._attempts.lease.answered(self._gateway.now(), status)

    def _refuse(self, error: UpstreamInvalid) -> None:
        if self._upstream:
            self._upstream.abort()
        self.on_failure(error)

    def _accept(self, head: ResponseHead) -> None:
        """Answer 101 in turn, and let a Relay carry on."""
        gateway, client, upstream = self._gateway, self._client, self._upstream
        if upstream is None or upstream.connection is None:
            return
        try:
            rsv = check_answer(pairs(head.block[:-2]), self._offer, self._key)
        except UpstreamInvalid as error:
            self._refuse(error)
            return
        now = gateway.now()
        self._head_seconds = now - self.began
        self._count_answer(head.status)
        if self._attempts and self._attempts.lease:
            self._attempts.lease.becomes(Kind.WS, now)
        if self._service:
            self._service.websocket_totals.opened += 1
        relay = self._relay = Relay(
            self._config.relay, rsv, client.connection, upstream.connection, self._end, expiry=self._expiry
        )  # fmt: skip
        transport, from_upstream = upstream.upgrade(relay.upstream)
        from_client = client.upgrade(self._accepting(head), relay.client)
        self._keep(relay)
        connection = client.connection
        relay.start(
            connection.transport, from_client, transport, from_upstream, client_has_shut=connection.has_shut
        )  # fmt: skip

    def _accepting(self, head: ResponseHead) -> bytes:
        """The field lines of the 101 for the client: the endpoint's own, and what every answer of the gateway has."""
        passing = without(head.passing, (b"sec-websocket-accept", b"content-length"))
        lines = client_fields(passing, head.named, self._id, head.minor, self._gateway.forwarding.pseudonym)
        if self._service and self._service.affinity:
            lines += self._sticky_line(self._service.affinity)
        return b"%b%bSec-WebSocket-Accept: %b\r\n" % (lines, _UPGRADE, accept_value(self._offer.key))

    def _await_stream(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self._begin_response(head)  # a refusal is no stream, whatever its type
        return self

    def _begin_response(self, head: ResponseHead, more: bytes = b"") -> None:
        if head.length is not None and head.length > MAX_REFUSAL:
            head = replace(head, length=None, passing=without(head.passing, (b"content-length",)))
        super()._begin_response(head, more)

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        left = MAX_REFUSAL - self._client.body_bytes
        if len(chunk) <= left:
            return super().on_chunk(chunk)
        self._client.write(chunk[:left])
        if self._upstream:
            self._upstream.abort()
        self._close_whole()
        self._client.finish()
        return None

    # ---- the end

    def on_connection_close(self) -> None:
        if self._relay is None:
            super().on_connection_close()
        else:
            self._uncount_stream()  # the client may come back at once; its service may take a moment to end

    def _end(self, relay: Relay) -> None:
        """Both connections have ended."""
        if relay.at_fault == "upstream":
            outcome = Outcome.FAILURE
        else:
            outcome = Outcome.CLIENT_GONE if relay.reason == ClientGone.reason else Outcome.SUCCESS
        if self._service:
            self._service.websocket_totals.add(
                messages=(relay.client.scanner.messages, relay.upstream.scanner.messages),
                wire_bytes=(relay.client.scanner.bytes, relay.upstream.scanner.bytes),
                seconds=self._gateway.now() - self.began,
                close_code=relay.close.code if relay.close else ABNORMAL,
            )
        self._close(outcome, 101, relay.reason)

    def _record(self, status: int, reason: str, seconds: float) -> AccessRecord:
        record, relay = super()._record(status, reason, seconds), self._relay
        if relay is None:
            return record
        return replace(
            record,
            bytes_in=relay.client.scanner.bytes,
            bytes_out=relay.upstream.scanner.bytes,
            messages_in=relay.client.scanner.messages,
            messages_out=relay.upstream.scanner.messages,
            close_code=relay.close.code if relay.close else ABNORMAL,
        )
