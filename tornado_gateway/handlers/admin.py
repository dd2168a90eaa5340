"""What there is to see of the gateway, for those who run it.

GET /admin/stats   services and endpoints as JSON; with a token, if AUTH_REQUIRED
"""

import time

from tornado_gateway.handlers.base import GatewayHandler
from tornado_gateway.policy.snapshot import snapshot


class StatsHandler(GatewayHandler):
    """One moment of all services."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def prepare(self) -> None:
        self.authenticate()

    def get(self) -> None:
        gateway, epoch = self.gateway, time.time()
        now = gateway.now()
        self.send_json(
            {
                "nowMs": round(epoch * 1000),
                "uptimeSeconds": round(now - gateway.lifecycle.began, 3),
                "env": gateway.environment,
                "draining": gateway.lifecycle.draining,
                **snapshot(gateway.services.values(), now, epoch),
            }
        )

    head = get
