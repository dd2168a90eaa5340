"""ANY /api/<service>/<path>: an ordinary request, whatever its method and its answer."""

from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.upstream.service import Service


class HttpProxyHandler(ProxiedRequest):
    """A request that may be answered with an event stream."""

    FORWARDING = HttpForwarding

    def forward(self, admitted: Admitted[Service], rest: bytes) -> HttpForwarding:
        gateway, client = self.gateway, self.client
        target = gateway.forwarding.target.admit(rest)
        return HttpForwarding(gateway, client, self.journal, admitted, rest, target, client.head.passing)
