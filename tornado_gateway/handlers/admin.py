"""What there is to see of the gateway, for those who run it.

GET /admin/stats   services and endpoints as JSON; with a token, if AUTH_REQUIRED
"""

import time

from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.policy.views.snapshot import snapshot


class StatsHandler(PageHandler):
    """One moment of all services."""

    def prepare(self) -> None:
        if self.request.method != "OPTIONS":
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
