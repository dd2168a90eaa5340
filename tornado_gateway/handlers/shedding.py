"""Refuses requests under overload, before a handler is made for the request: a refusal is to cost little.

A connection is kept behind a refusal as behind any other answer.

The Router asks Shedding while some class of requests is shed, or the event loop is late. Requests for the gateway's own
pages have no class.
"""

import itertools
from typing import Any

from tornado_gateway.errors import Shed
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.cross_origin import annotate, cors_of
from tornado_gateway.handlers.forwarding import awaits_events
from tornado_gateway.handlers.journal import record_refusal
from tornado_gateway.handlers.local_reply import PreparedError, reply
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.cors import is_preflight
from tornado_gateway.policy.http.forwarding import request_id
from tornado_gateway.policy.http.mount import MountConfig
from tornado_gateway.policy.http.unavailable import STATUS
from tornado_gateway.policy.overload import LATEST, shed_class
from tornado_gateway.policy.routing import Match
from tornado_gateway.wire.server.exchange import ServerExchange

_UNKNOWN = MountConfig()  # requests for unknown services are ordinary requests


class Shedding:
    """Sheds the requests of a Router, with refusals that are prepared."""

    __slots__ = ("_gateway", "_next_refusal")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, name = gateway, gateway.forwarding.pseudonym
        # In turn, so that clients come back spread evenly over the seconds. The errors are never raised: an exception
        # that is raised again collects tracebacks.
        refusals = [Shed("the gateway has more work than it can do", 1 + extra) for extra in range(LATEST)]
        self._next_refusal = itertools.cycle([PreparedError(each, name) for each in refusals]).__next__

    def shed(self, client: ServerExchange, match: Match[Any], handler: type[ProxiedRequest], now: float) -> bool:
        """Refuse a request if its class is shed; return whether the request is refused.

        A preflight that the gateway answers goes on: the answer costs no more than the refusal, which no page could
        read.

        Args:
            client: the exchange with the client.
            handler: what would serve the request.
            now: instant (gateway clock).
        """
        gateway, head, forwarding = self._gateway, client.head, handler.FORWARDING
        service = gateway.services.get(match.service)
        cors = gateway.cors and cors_of(gateway.cors, match.route, service)
        if cors and cors.answers and not head.body and is_preflight(head.method, head.known_fields):
            return False
        mount = match.mount.config or (service.config.mount if service else _UNKNOWN)
        is_stream = forwarding.asks_for_stream or (head.accepts_events and awaits_events(head))
        if not gateway.overload.sheds(shed_class(mount.priority, is_stream=is_stream), now):
            return False
        if cors:
            annotate(cors, client)
        refusal = self._next_refusal()
        error = refusal.error
        id_ = request_id(head.known_fields, client.connection.peer, gateway.forwarding, gateway.new_request_id)
        if is_stream and service and (mode := forwarding.mode(service)) != STATUS:
            sent = reply(gateway, client, error, id_, mode)
        else:
            sent = error.status
            refusal.send(client, id_)
        record_refusal(gateway, client, match.route.path, error, id_, sent)
        return True
