"""The pages for operators.

GET /admin/stats   the figures of services and endpoints as JSON; needs a token if AUTH_REQUIRED
"""

from tornado_gateway.errors import GatewayError, NotFound
from tornado_gateway.handlers.admin_page import AdminPage


class UnknownHandler(AdminPage):
    """Every path below /admin without a page, by every method: known as unknown to those with a credential alone."""

    @property
    def found(self) -> type[GatewayError]:
        return NotFound


class StatsHandler(AdminPage):
    """The figures of all services at an instant."""

    async def get(self) -> None:
        text = await self.gateway.figures.stats.get()
        self.set_header("Content-Type", "application/json")
        self.finish(text)

    head = get
