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
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import Member, number, parameters, read_order, shown, text, whole
from tornado_gateway.policy.views.stream_list import KINDS, MOST, Wanted, joined, page
from tornado_gateway.upkeep.shared import in_slices

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
        query = self.request.query
        read_query(query)
        gateway = self.gateway
        said = joined(await gateway.whole.streams(query), read_query(query)[2]) if gateway.whole else None
        self.send_json(said or await page_of(gateway, query))

    head = get


class CloseHandler(ActingHandler):
    """Closes streams."""

    async def post(self) -> None:
        said = read_order(self.request.body, ORDER)
        ids, service, endpoint = said["ids"], said["service"], said["endpoint"]
        if bool(ids) is bool(service) or (endpoint and not service):
            raise BadRequest("either ids or service must be given; endpoint only with service")
        closing = sum([close_streams(self.gateway, said), *await self.tell_others("close", said)])
        spread = said["overMs"] if closing > 1 else 0
        self.deed = f"closed {closing} streams over {spread} ms: {named(said)}"
        self.send_json({"closing": closing, "overMs": spread})


def close_streams(gateway: Gateway, said: Mapping[str, Any]) -> int:
    """Close the streams of this process that an order names; return how many these are."""
    streams, loop = gateway.streams, gateway.client.loop
    chosen = streams.of_numbers(set(said["ids"])) if said["ids"] else streams.at(said["service"], said["endpoint"])
    streams.dismiss(chosen, loop.time(), said["overMs"] / 1000 if len(chosen) > 1 else 0)
    return len(chosen)


async def page_of(gateway: Gateway, query: str) -> dict[str, Any]:
    """A page of the streams of this process."""
    wanted, after, limit = read_query(query)
    streams = gateway.streams
    rows = streams.rows(0 if wanted != Wanted() else after)
    steps = page(rows, wanted, after, limit, open_=len(streams.open), now=gateway.now())
    return await in_slices(steps, gateway.now)


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
