"""Certificates, TLS upstreams, and a server's side of TLS whose bytes a test controls."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trustme

from tests.support.sockets import Peer
from tornado_gateway.wire.server.certificates import Certificates, Served, ServerSide

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class TLSUpstream:
    """
    Attributes:
        accepted: connections whose handshake succeeded.
        open: those that have not ended.
        names: what each client sent as SNI.
        heads: of all requests.
    """

    port: int = 0
    accepted: int = 0
    open: int = 0
    names: list[str | None] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@asynccontextmanager
async def tls_upstream(
    authority: trustme.CA,
    script: Script | None = None,
    *hosts: str,
    clients: trustme.CA | None = None,
    address: str = "127.0.0.1",
) -> AsyncIterator[TLSUpstream]:
    """Listen on loopback with a certificate for some hosts (localhost); `script` replaces "200, ok" for each request.

    Args:
        clients: authority that must have signed the clients' certificates.
        address: to listen on.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(hosts or ("localhost", "127.0.0.1"))).configure_cert(context)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    upstream = TLSUpstream()
    context.sni_callback = lambda _, name, __: upstream.names.append(name)
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        upstream.accepted += 1
        upstream.open += 1
        try:
            while True:
                upstream.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if script:
                    await script(reader, writer)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # asyncio.streams takes a cancelled server task for an unhandled error
        finally:
            upstream.open -= 1
            writer.transport.abort()

    server = await asyncio.start_server(serve, address, 0, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class Records:
    """A server's side of TLS over a Peer: what it says is sealed first, and sent by the test, or not, or in part."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            else:
                await self._flush()
                return

    async def head(self) -> bytes:
        """Read a request's head."""
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += await self.read()
        return heard

    async def read(self) -> bytes:
        """Read plain text from the client; b"" for the closure alert."""
        while True:
            try:
                return self._ssl.read(65536)
            except ssl.SSLWantReadError:
                await self._more()

    def seal(self, *pieces: bytes) -> bytes:
        """Seal each piece in a record; return the records."""
        for piece in pieces:
            self._ssl.write(piece)
        return self._outgoing.read()

    def closure(self) -> bytes:
        """The record with the closure alert."""
        with contextlib.suppress(ssl.SSLError):  # the client's own alert is not there, and data perhaps is
            self._ssl.unwrap()
        return self._outgoing.read()

    async def _more(self) -> None:
        await self._peer.more()
        self._incoming.write(self._peer.buffer)
        self._peer.buffer = b""

    async def _flush(self) -> None:
        await self._peer.send(self._outgoing.read())


def server_context(
    authority: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *hosts: str
) -> ssl.SSLContext:
    """A server's context for a version of TLS, with a certificate for some hosts (localhost)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    authority.issue_cert(*(hosts or ("localhost",))).configure_cert(context)
    return context


def certificates(*contexts: ssl.SSLContext) -> Certificates:
    """What a listener serves: contexts that are for no name of their own, so that the first one counts."""
    begins, ends = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    for each in contexts:
        each.sslobject_class = ServerSide
    return Certificates([Served("", (), begins, ends, each) for each in contexts])


def pem_files(leaf: trustme.LeafCert, directory: Path, name: str) -> tuple[str, str]:
    """Paths of files with a certificate and its chain, and with the key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return str(certificate), str(key)


def talk(port: int, authority: trustme.CA, *pieces: bytes, last_behind: bytes = b"") -> bytes:
    """Send pieces to a TLS server at localhost; all that the server answers up to its closure alert. Blocks.

    Args:
        last_behind: what the server must have answered before the last piece is sent.

    Raises:
        ssl.SSLEOFError: the connection ended without the alert.
    """
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        *first, last = pieces
        for piece in first:
            sock.sendall(piece)
        answer = b""
        while last_behind not in answer:
            answer += sock.recv(65536)
        sock.sendall(last)
        while data := sock.recv(65536):
            answer += data
        return answer


def ca_file(authority: trustme.CA, directory: Path) -> str:
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
