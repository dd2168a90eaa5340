"""A Redis Cluster: which of its nodes keeps what gateways share.

All keys of gateways begin with TAG, a hash tag, so that all keys have one slot, and one node keeps them. A script can
then count a request under several keys, and every command goes to the node itself: nothing costs a second round trip.
The other nodes are there for the time when the node fails, as the replicas of Sentinels are.

The node is asked for when a connection begins, and again after each failure: a failed node, and a slot that has moved
(MOVED), look alike to a gateway.

Source: Redis Cluster specification, "Hash tags" and "Clients first connection and handling of redirections".
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from tornado_gateway.adapters.redis_url import split_url

TAG = "{gateway}"
SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}  # each with the scheme of a node's URL


class NodeNotFound(Exception):
    """No known node tells which node has the slot."""


def node_urls(url: str) -> list[str]:
    """The URLs of the nodes that the URL of a cluster names.

    >>> node_urls("rediss+cluster://:secret@a:7000,[::1]:7001?ssl_ca_certs=/ca.pem")
    ['rediss://:secret@a:7000?ssl_ca_certs=/ca.pem', 'rediss://:secret@[::1]:7001?ssl_ca_certs=/ca.pem']
    """
    parts = split_url(url)
    return [parts.of_place(each, SCHEMES[parts.scheme]) for each in parts.places]


async def find_node(url: str, connect: Callable[[str], Any]) -> Any:
    """A client of the node that has the slot of TAG.

    Args:
        url: of the cluster.
        connect: makes a client of redis-py, by the URL of a node.

    Raises:
        NodeNotFound: none of the nodes of `url` answers, or the slot has no node.
    """
    parts = split_url(url)
    for each in node_urls(url):
        async with connect(each) as node:
            with suppress(Exception):  # whatever redis-py raises; the next node may answer
                place = await _place_of_slot(node.execute_command, urlsplit(each).hostname or "")
                if place:
                    return connect(parts.of_place(place, SCHEMES[parts.scheme]))
    raise NodeNotFound


async def _place_of_slot(execute: Callable[..., Awaitable[Any]], asked: str) -> str:
    """Host and port of the node that has the slot of TAG; "" if no node has the slot.

    Args:
        asked: host of the node that is asked: a node that does not know its own address leaves the host empty.
    """
    slot: int = await execute("CLUSTER KEYSLOT", TAG)
    ranges: Sequence[Sequence[Any]] = await execute("CLUSTER SLOTS")
    for first, last, (host, port, *_), *_ in ranges:
        if first <= slot <= last:
            name = host.decode() if host else asked
            return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return ""
