"""The gateway's word on itself, for orchestrators and load balancers.

GET /healthz   200 as long as the event loop turns
GET /readyz    200 when requests should be sent here; 503 while draining
"""

from tornado_gateway.errors import MethodNotAllowed, NotFound
from tornado_gateway.handlers.base import GatewayHandler


class HealthHandler(GatewayHandler):
    """Liveness: restart the process if this does not answer."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def get(self) -> None:
        self.send_json({"status": "ok"})

    head = get


class ReadyHandler(GatewayHandler):
    """Readiness: send no new requests while this is 503."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def get(self) -> None:
        if self.gateway.lifecycle.draining:
            self.send_json({"status": "draining"}, 503)
        else:
            self.send_json({"status": "ready"})

    head = get


class _Everything:
    """The set of all methods."""

    def __contains__(self, method: object) -> bool:
        return True


class NotFoundHandler(GatewayHandler):
    """Any other path, by any method."""

    SUPPORTED_METHODS = _Everything()  # type: ignore[assignment]  # Tornado only asks what is in it

    def prepare(self) -> None:
        if self.request.method in ("TRACE", "CONNECT"):
            raise MethodNotAllowed
        raise NotFound
