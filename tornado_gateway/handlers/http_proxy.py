"""ANY /api/<service>/<path>: a request of any method, with any answer."""

from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.upstream.service import Service


class HttpProxyHandler(ProxiedRequest):
    """Forwards requests. The Content-Type of an answer says whether the answer is an event stream."""

    FORWARDING = HttpForwarding

    def forward(self, admitted: Admitted[Service], rest: bytes) -> HttpForwarding:
        gateway, client = self.gateway, self.client
        target = gateway.forwarding.target.admit(rest)
        return HttpForwarding(gateway, client, self.journal, admitted, rest, target, client.head.forwarded_lines)
