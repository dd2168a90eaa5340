"""ANY /api/<service>/<path>: an ordinary request, whatever its method and its answer."""

from tornado_gateway.handlers.proxied import ProxiedRequest


class HttpProxyHandler(ProxiedRequest):
    """A request that may become an event stream, if that is what the service answers."""

    ROUTE = "/api/<service>/*"
    PREFIX = b"/api/"
