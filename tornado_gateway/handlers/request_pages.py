"""GET /admin/api/requests: the newest requests that are wanted, failed and slow requests first."""

from tornado_gateway.errors import BadRequest
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import number, parameters, shown
from tornado_gateway.policy.views.request_tail import MOST, RANKS, Wanted, page

PAGE = 100  # requests


class RequestsHandler(AdminPage):
    """The newest requests."""

    def get(self) -> None:
        wanted, limit = read_query(self.request.query)
        self.send_json(page(self.gateway.tail.rows(), wanted, limit))

    head = get


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
