"""The pages about open streams.

GET  /admin/api/streams         a page of the streams that are wanted
POST /admin/api/streams/close   {"ids"}, or {"service"} with "endpoint" if wanted; and "overMs" if wanted

A closed event stream ends between two events, and a WebSocket by a Close; clients come back by themselves. Revoke the
credential of a client that is to stay away, and drain an endpoint that the clients are to leave.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from tornado_gateway.errors import BadRequest
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import Member, number, parameters, read_order, shown, text, whole
from tornado_gateway.policy.views.stream_list import KINDS, MOST, Wanted, page
from tornado_gateway.upkeep.shared import in_slices
from tornado_gateway.upkeep.streams import Stream

PAGE = 100  # streams
NEWEST = 2**53  # numbers of streams that JavaScript can tell apart
LONGEST_SPREAD = 600_000  # ms
SPREAD = 5_000  # ms, so that clients do not come back all at once
LONGEST_TEXT = 2048
TEXTS = ("service", "endpoint", "client", "principal", "text")

IDS = Member(
    "ids", f"a list of 1 to {MOST} numbers of streams",
    lambda said: isinstance(said, list) and 1 <= len(said) <= MOST and all(type(each) is int for each in said),
)  # fmt: skip
ORDER = (
    IDS, text("service", LONGEST_TEXT, ""), text("endpoint", LONGEST_TEXT, ""),
    whole("overMs", 0, LONGEST_SPREAD, SPREAD),
)  # fmt: skip


class StreamsHandler(AdminPage):
    """The open streams."""

    async def get(self) -> None:
        wanted, after, limit = read_query(self.request.query)
        gateway, streams = self.gateway, self.gateway.streams
        rows = streams.rows(0 if wanted != Wanted() else after)
        steps = page(rows, wanted, after, limit, open_=len(streams.open), now=gateway.now())
        self.send_json(await in_slices(steps, gateway.now))

    head = get


class CloseHandler(ActingHandler):
    """Closes streams."""

    def post(self) -> None:
        said = read_order(self.request.body, ORDER)
        streams, chosen = self.gateway.streams, self._chosen(said)
        spread = said["overMs"] if len(chosen) > 1 else 0
        streams.dismiss(chosen, self.gateway.client.loop.time(), spread / 1000)
        self.deed = f"closed {len(chosen)} streams over {spread} ms: {named(said)}"
        self.send_json({"closing": len(chosen), "overMs": spread})

    def _chosen(self, said: Mapping[str, Any]) -> list[Stream]:
        """
        Raises:
            BadRequest: the order names no streams, or names streams twice.
        """
        ids, service, endpoint = said["ids"], said["service"], said["endpoint"]
        if bool(ids) is bool(service) or (endpoint and not service):
            raise BadRequest("either ids or service must be given; endpoint only with service")
        streams = self.gateway.streams
        if ids:
            return streams.of_numbers(set(ids))
        return streams.at(service, endpoint)


def named(said: Mapping[str, Any]) -> str:
    """The streams of an order, for the log."""
    if said["ids"]:
        more = len(said["ids"]) - 10
        return ", ".join(map(str, islice(said["ids"], 10))) + (f" and {more} more" if more > 0 else "")
    return f"{shown(said['endpoint'])} of {shown(said['service'])}" if said["endpoint"] else shown(said["service"])


def read_query(query: str) -> tuple[Wanted, int, int]:
    """What a query asks for: which streams, behind which number, and how many.

    Raises:
        BadRequest: a parameter is unknown, stands twice, or has a value that is not allowed.
    """
    said = parameters(query, ("kind", *TEXTS, "after", "limit"))
    if said.get("kind", "") not in ("", *KINDS):
        raise BadRequest(f"kind is {shown(said['kind'])}, and must be one of {', '.join(KINDS)}")
    texts = {name: said.get(name, "") for name in ("kind", *TEXTS)}
    return Wanted(**texts), number(said, "after", 0, NEWEST, 0), number(said, "limit", 1, MOST, PAGE)
