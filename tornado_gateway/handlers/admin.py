"""The pages for operators.

GET /admin/stats   the figures of services and endpoints as JSON; needs a token if AUTH_REQUIRED
"""

import time

from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.policy.views.snapshot import snapshot
from tornado_gateway.policy.views.state import collect


class StatsHandler(PageHandler):
    """The figures of all services at an instant."""

    def get(self) -> None:
        gateway, epoch = self.gateway, time.time()
        now = gateway.now()
        self.send_json(
            {
                "nowMs": round(epoch * 1000),
                "uptimeSeconds": round(now - gateway.lifecycle.began, 3),
                "env": gateway.environment,
                "draining": gateway.lifecycle.draining,
                **snapshot(collect(gateway.services.shown(), gateway.durations, now), epoch),
            }
        )

    head = get
