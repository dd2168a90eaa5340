"""GET /admin/api/requests: the newest requests that are wanted, failed and slow requests first."""

from typing import Any

from tornado_gateway.errors import BadRequest
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import number, parameters, shown
from tornado_gateway.policy.views.request_tail import MOST, RANKS, Wanted, joined, page

PAGE = 100  # requests


class RequestsHandler(AdminPage):
    """The newest requests."""

    async def get(self) -> None:
        query, whole = self.request.query, self.gateway.whole
        _, limit = read_query(query)
        self.send_json(joined(await whole.requests(query), limit) if whole else requests_of(self.gateway, query))

    head = get


def requests_of(gateway: Gateway, query: str) -> dict[str, Any]:
    """A page of the requests of this process."""
    return page(gateway.tail.rows(), *read_query(query))


def read_query(query: str) -> tuple[Wanted, int]:
    """Which requests a query asks for, and how many.

    Raises:
        BadRequest: a parameter is unknown, stands twice, or has a value that is not allowed.
    """
    said = parameters(query, ("rank", "service", "text", "limit"))
    if said.get("rank", "") not in ("", *RANKS):
        raise BadRequest(f"rank is {shown(said['rank'])}, and must be one of {', '.join(RANKS)}")
    wanted = Wanted(**{name: said.get(name, "") for name in ("rank", "service", "text")})
    return wanted, number(said, "limit", 1, MOST, PAGE)
