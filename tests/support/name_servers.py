"""Name servers on loopback that answer as a test says, over UDP and TCP, at a port of their own."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado_gateway.wire.client.resolver import ResolverConfig

A, CNAME, AAAA = 1, 5, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


@dataclass(frozen=True)
class Query:
    """
    Attributes:
        question: the bytes of its question section.
        over_tcp: whether it came over TCP.
    """

    id: bytes
    name: str
    type: int
    question: bytes
    over_tcp: bool = False

    @classmethod
    def read(cls, message: bytes, over_tcp: bool) -> "Query":
        labels, place = [], 12
        while length := message[place]:
            labels.append(message[place + 1 : place + 1 + length].decode("ascii"))
            place += 1 + length
        kind = int.from_bytes(message[place + 1 : place + 3], "big")
        return cls(message[:2], ".".join(labels), kind, message[12 : place + 5], over_tcp)

    def reply(self, *records: bytes, rcode: int = NOERROR, truncated: bool = False, **other: bytes) -> bytes:
        """A DNS message; `id` and `question` may differ from the query's."""
        flags = 0x8180 | rcode | (0x0200 if truncated else 0)
        counts = (flags, 1, len(records), 0, 0)
        return b"".join((
            other.get("id", self.id), *(count.to_bytes(2, "big") for count in counts),
            other.get("question", self.question), *records,
        ))  # fmt: skip

    def addresses(self, *addresses: str, ttl: int = 3600, of: str = "") -> list[bytes]:
        """The records of all addresses that have the query's type."""
        found = [ipaddress.ip_address(each) for each in addresses]
        wanted = {A: 4, AAAA: 6}.get(self.type)
        return [record(of or self.name, self.type, each.packed, ttl) for each in found if each.version == wanted]


def wire_name(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def record(name: str, kind: int, data: bytes, ttl: int = 3600) -> bytes:
    head = kind.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big")
    return wire_name(name) + head + data


Zone = Mapping[str, Iterable[str] | int | Callable[[Query], Iterable[bytes]] | None]


class NameServer:
    """
    Attributes:
        zone: of each name its addresses, or an rcode, or what makes the messages to send; None for silence. "*" stands
            for all others, which do not exist if it is not there.
        asked: the queries, in order.
        gate: to be set before answers go out.
    """

    def __init__(self, zone: Zone, address: str = "127.0.0.1") -> None:
        self.zone: dict[str, Any] = dict(zone)
        self.asked: list[Query] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._address = address
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a port that is free for UDP and TCP."""
        loop = asyncio.get_running_loop()
        while True:
            listener = socket.create_server((self._address, 0), family=_family(self._address))
            self.port = listener.getsockname()[1]
            datagrams = socket.socket(_family(self._address), socket.SOCK_DGRAM)
            try:
                datagrams.bind((self._address, self.port))
            except OSError:
                listener.close()
                datagrams.close()
                continue
            break
        datagrams.setblocking(False)
        self._datagrams = datagrams
        loop.add_reader(datagrams, self._receive)
        self._server = await asyncio.start_server(self._converse, sock=listener)

    async def close(self) -> None:
        self.gate.set()
        asyncio.get_running_loop().remove_reader(self._datagrams)
        self._datagrams.close()
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def line(self) -> str:
        """The nameserver line for resolv.conf."""
        address = f"[{self._address}]" if ":" in self._address else self._address
        return f"nameserver {address}:{self.port}\n"

    def names(self, kind: int = A) -> list[str]:
        """The names in queries for a type of records, in order."""
        return [query.name for query in self.asked if query.type == kind]

    def _receive(self) -> None:
        try:
            message, peer = self._datagrams.recvfrom(4096)
        except OSError:
            return
        self._spawn(self._answer_datagram(message, peer))

    async def _answer_datagram(self, message: bytes, peer: Any) -> None:
        for answer in await self._answers(Query.read(message, over_tcp=False)):
            self._datagrams.sendto(answer, peer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                for answer in await self._answers(Query.read(await reader.readexactly(length), over_tcp=True)):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answers(self, query: Query) -> list[bytes]:
        self.asked.append(query)
        await self.gate.wait()
        found = self.zone.get(query.name.lower(), self.zone.get("*", NXDOMAIN))
        if found is None:
            return []
        if callable(found):
            return list(found(query))
        if isinstance(found, int):
            return [query.reply(rcode=found)]
        return [query.reply(*query.addresses(*found))]

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def resolver_config(
    directory: Path, *servers: NameServer, conf: str = "", hosts: str = "", **config: Any
) -> ResolverConfig:
    """The config of a resolver that uses only these name servers and hosts."""
    paths = directory / "resolv.conf", directory / "hosts"
    paths[0].write_text("".join(server.line for server in servers) + conf)
    paths[1].write_text(hosts)
    return ResolverConfig(resolv_conf=str(paths[0]), hosts=str(paths[1]), **config)
