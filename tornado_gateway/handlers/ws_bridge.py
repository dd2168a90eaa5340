"""GET /ws/<service>?path=/… and /ws/<service>/<path>, and handshakes on other routes: a WebSocket to an endpoint.

    client ──handshake──► judged ──► endpoint's handshake
    client ◄──101────────────────── 101, judged     then a Relay (wire/websocket/relay.py) carries frames
    client ◄──refusal────────────── any other status

The endpoint is asked first. So the client gets the endpoint's own refusal (401, 404, 503) and the endpoint's own
choice of subprotocol and extensions, and an endpoint without a connection is replaced before the client sees anything.
"""

import asyncio
import base64
import secrets
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from tornado_gateway.errors import BadRequest, ClientGone, GatewayError, UpstreamInvalid
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.forwarding import Forwarding
from tornado_gateway.handlers.journal import Frames, Journal
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.credentials import BEARER
from tornado_gateway.policy.http.handshake import (
    Offer,
    accept_value,
    check_answer,
    check_origin,
    fields_by_name,
    read_offer,
)
from tornado_gateway.policy.http.headers import client_fields, pairs, without
from tornado_gateway.policy.http.rewriting import REWRITTEN
from tornado_gateway.policy.http.target import websocket_target
from tornado_gateway.policy.http.unavailable import STATUS
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.exchange import ClientExchange
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.server.exchange import ServerExchange
from tornado_gateway.wire.websocket.relay import Relay

MAX_REFUSAL = 64 * 1024  # bytes of the body of an endpoint's refusal that the client gets

_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


class WsForwarding(Forwarding):
    """A WebSocket, from the handshake with an endpoint until both connections have ended.

    Args:
        offer: the client's handshake.
    """

    __slots__ = ("_config", "_is_token_offered", "_key", "_offer", "_relay", "_rewrites_origin")

    kind = Kind.WS
    upgrades = asks_for_stream = True

    def __init__(
        self,
        gateway: Gateway,
        client: ServerExchange,
        journal: Journal,
        admitted: Admitted[Service],
        match: Match[Any],
        target: bytes,
        offer: Offer,
    ) -> None:
        self._offer, self._is_token_offered = offer, False
        if admitted.authenticator:
            protocols = admitted.authenticator.sources.visible_protocols(offer.protocols)
            self._is_token_offered = protocols != offer.protocols and offer.protocols[0].lower() == BEARER
            self._offer = replace(offer, protocols=protocols)
        self._config = admitted.found.config.websocket
        self._key = b""  # of the handshake with the endpoint that was asked last
        self._relay: Relay | None = None  # once the handshakes are done
        self._rewrites_origin = (match.mount.config or admitted.found.config.mount).rewrites_origin
        hidden = {b"sec-websocket-key", b"origin"} if self._rewrites_origin else {b"sec-websocket-key"}
        lines = without(admitted.visible_lines(client.head.forwarded_lines), hidden)
        super().__init__(gateway, client, journal, admitted, match, target, lines)

    @classmethod
    def mode(cls, service: Service) -> str:
        return STATUS  # an EventSource never asks for a WebSocket

    # ---- the handshake with an endpoint

    def head_for(self, endpoint: Endpoint) -> bytes:
        self._key = base64.b64encode(secrets.token_bytes(16))
        lines = b"%bSec-WebSocket-Key: %b\r\n" % (_UPGRADE, self._key)
        if self._offer.origin is not None and self._rewrites_origin:
            lines += b"Origin: %b://%b\r\n" % (endpoint.origin.scheme.encode("ascii"), endpoint.authority)
        return super().head_for(endpoint)[:-2] + lines + b"\r\n"

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        if head.status == 101 and isinstance(source, ClientExchange):  # nothing else can be upgraded
            self._accept(head, source)
            return None
        if head.status < 300:
            self._reject(UpstreamInvalid("the service answered a WebSocket handshake with no upgrade"))
            return None
        self._note_head(head.status)
        self._limit_time()
        if head.length is not None and head.length > MAX_REFUSAL:
            head = replace(head, length=None, forwarded_lines=without(head.forwarded_lines, (b"content-length",)))
        self._pass_head(head)
        return self

    def _reject(self, error: GatewayError) -> None:
        """End a handshake that the endpoint has answered wrongly, or too late."""
        self._answerer.abort()
        self.on_failure(error)

    def _accept(self, head: ResponseHead, upstream: ClientExchange) -> None:
        """Send the client a 101, and give both connections to a Relay."""
        client = self._client
        if upstream.connection is None:
            return
        try:
            rsv = check_answer(pairs(head.block[:-2]), self._offer, self._key)
            self._check_token()
        except GatewayError as error:
            self._reject(error)
            return
        self._note_head(101)
        self._answerer.becomes(Kind.WS)
        relay = self._relay = Relay(
            self._config.relay, rsv, client.connection, upstream.connection, self._end,
            self._service.websocket_totals, expiry=self._expiry,
        )  # fmt: skip
        transport, from_upstream = upstream.upgrade(relay.upstream)
        from_client = client.upgrade(self._accepting(head), relay.client)
        self._keep(relay)
        connection = client.connection
        relay.start(
            connection.transport, from_client, transport, from_upstream, client_half_closed=connection.has_half_closed
        )  # fmt: skip

    def _accepting(self, head: ResponseHead) -> bytes:
        """The field lines of the client's 101: the endpoint's own lines with public paths, and the gateway's."""
        if not REWRITTEN.isdisjoint(head.known_fields):
            head = self.rewritten(head, self.place)
        forwarded_lines = without(head.forwarded_lines, (b"sec-websocket-accept", b"content-length"))
        lines = client_fields(
            forwarded_lines, head.known_fields, self._journal.request_id, head.minor, self._gateway.forwarding.pseudonym
        )
        if self._service.affinity:
            lines += self._cookie_line(self._service.affinity)
        if self._is_token_offered and b"sec-websocket-protocol" not in fields_by_name(pairs(head.block[:-2])):
            lines += b"Sec-WebSocket-Protocol: bearer\r\n"  # browsers demand a protocol out of the offered ones
        return b"%b%bSec-WebSocket-Accept: %b\r\n" % (lines, _UPGRADE, accept_value(self._offer.key))

    # ---- an endpoint's refusal

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        left = MAX_REFUSAL - self._client.body_bytes
        if len(chunk) <= left:
            return super().on_chunk(chunk)
        self._client.write(chunk[:left])
        self._answerer.abort()
        self._close_whole()
        self._client.finish()
        return None

    # ---- the end

    def client_left(self) -> None:
        if self._relay is None:
            super().client_left()
        else:
            self._uncount_stream()  # the client may come back at once; its service may take a moment to end

    def _end(self, relay: Relay) -> None:
        """Both connections have ended."""
        if relay.at_fault == "upstream":
            outcome = Outcome.FAILURE
        else:
            outcome = Outcome.CLIENT_GONE if relay.reason == ClientGone.reason else Outcome.SUCCESS
        carried = relay.carried
        self._journal.frames = Frames(
            bytes_in=carried.bytes_up,
            bytes_out=carried.bytes_down,
            messages_in=carried.messages_up,
            messages_out=carried.messages_down,
            close_code=relay.close_code,
        )
        self.close(outcome, 101, relay.reason)


class WsBridgeHandler(ProxiedRequest):
    """Forwards a client's WebSocket handshake."""

    FORWARDING = WsForwarding

    def head_received(self) -> Awaitable[None] | None:
        if self.client.head.upgrades:  # if it is refused: frames may follow, which are no request (RFC 9931)
            self.client.keep_alive = False
        return super().head_received()

    def forward(self, admitted: Admitted[Service]) -> WsForwarding:
        gateway, head, match = self.gateway, self.client.head, self.match
        if head.body:
            raise BadRequest("a WebSocket handshake has no body")
        offer = read_offer(pairs(head.block[:-2]), head.minor)
        rule, rest = gateway.forwarding.target, admitted.visible_target(match.rest)
        rest = rule.admit(rest) if match.route.on_handshake else websocket_target(rest, rule)
        check_origin(offer.origin, admitted.found.config.websocket.allowed_origins, admitted.origination.host)
        target = match.mount.inner_target(rest)
        return WsForwarding(gateway, self.client, self.journal, admitted, match, target, offer)
