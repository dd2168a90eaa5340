"""Certificates and TLS upstreams."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

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


def ca_file(authority: trustme.CA, directory: Path) -> str:
    path = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
