"""A query and two subscriptions of gql on one path: graphql_client.py BASE. Prints the answers."""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urljoin

import loopback  # noqa: F401
from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport

COUNT = "subscription Count($to: Int!) { count(to: $to) }"


async def main(url: str) -> None:
    seen: dict[str, Any] = {}
    async with Client(transport=AIOHTTPTransport(url=url, timeout=30)) as session:
        query = gql("query Add($a: Int!, $b: Int!) { add(a: $a, b: $b) }")
        query.variable_values = {"a": 2, "b": 40}
        seen["query"] = await session.execute(query)
    socket = WebsocketsTransport(
        url=url.replace("http", "ws", 1), subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        connect_args={"proxy": None, "origin": urljoin(url, "/").rstrip("/")},
    )  # fmt: skip
    try:
        seen |= await subscriptions(socket)
    except TransportConnectionFailed as error:
        seen["refused"] = str(error.__cause__)
    print(json.dumps(seen))


async def subscriptions(socket: WebsocketsTransport) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with Client(transport=socket) as session:
        counting, failing = gql(COUNT), gql(COUNT)
        counting.variable_values, failing.variable_values = {"to": 100}, {"to": -1}
        seen["subscription"] = [each["count"] async for each in session.subscribe(counting)]
        try:
            seen["failure"] = [each async for each in session.subscribe(failing)]
        except TransportQueryError as error:
            seen["failure"] = str(error)
        seen["protocol"] = socket.response_headers["Sec-WebSocket-Protocol"]
    return seen


asyncio.run(main(sys.argv[1] + "/graphql"))
