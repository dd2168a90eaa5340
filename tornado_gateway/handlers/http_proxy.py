"""ANY /api/<service>/<path>, and the routes of ROUTES: a request of any method, with any answer."""

from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.upstream.service import Service


class HttpProxyHandler(ProxiedRequest):
    """Forwards requests. The Content-Type of an answer says whether the answer is an event stream."""

    FORWARDING = HttpForwarding

    def forward(self, admitted: Admitted[Service]) -> HttpForwarding:
        gateway, client, match = self.gateway, self.client, self.match
        rest = admitted.visible_target(match.rest)
        target = match.mount.inner_target(gateway.forwarding.target.admit(rest))
        lines = admitted.visible_lines(client.head.forwarded_lines)
        return HttpForwarding(gateway, client, self.journal, admitted, match, target, lines)
