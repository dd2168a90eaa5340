"""The pages for operators.

GET /admin         links to the pages, and the log-out
GET /admin/stats   the figures of services and endpoints as JSON; needs a token if AUTH_REQUIRED
"""

import time

from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.views.snapshot import snapshot
from tornado_gateway.policy.views.state import collect


class HomeHandler(AdminPage):
    """Links to the pages for operators."""

    def get(self) -> None:
        self.send_html("home", who=self.admitted.principal.name, has_log_out=self.gateway.operators.asks)

    head = get


class UnknownHandler(AdminPage):
    """Every path below /admin without a page, by every method: known as unknown to those with a credential alone."""

    @property
    def found(self) -> type[GatewayError]:
        return NotFound


class StatsHandler(AdminPage):
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
