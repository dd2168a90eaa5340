"""ANY /api/<service>/<path>, and the routes of ROUTES: a request of any method, with any answer."""

from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.cached_forwarding import forward
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.upstream.service import Service


class HttpProxyHandler(ProxiedRequest):
    """Forwards requests. The Content-Type of an answer says whether the answer is an event stream."""

    FORWARDING = HttpForwarding

    def forward(self, admitted: Admitted[Service]) -> HttpForwarding | None:
        gateway, client, match = self.gateway, self.client, self.match
        rest, lines = match.rest, client.head.forwarded_lines
        if admitted.authenticator and admitted.authenticator.edits_requests:
            rest, lines = admitted.visible_target(rest), admitted.visible_lines(lines)
        target = match.mount.inner_target(gateway.forwarding.target.admit(rest))
        if gateway.cache:
            return forward(gateway, client, self.journal, admitted, match, target, lines)
        return HttpForwarding(gateway, client, self.journal, admitted, match, target, lines)
