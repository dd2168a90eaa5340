"""Raw-socket peers: an upstream that runs a script, and a client that sees every byte.

Both speak bytes, so that what they say can be wrong in any way, and what they hear is what was on the wire.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Field = tuple[bytes, bytes]
PATIENCE = 25.0  # seconds any single wait may take before the test fails, with others on the cores too


class Ended(Exception):
    """The peer ended the connection: by FIN if `clean`, else by RST."""

    def __init__(self, clean: bool) -> None:
        super().__init__("closed" if clean else "reset")
        self.clean = clean


@dataclass
class Message:
    """A request or response, as received.

    Attributes:
        complete: whether the body ended as its framing requires.
        interim: heads of the 1xx responses before this response.
    """

    start: bytes
    fields: list[Field]
    body: bytes = b""
    complete: bool = False
    interim: list["Message"] = field(default_factory=list)
    trailers: list[Field] = field(default_factory=list)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: bytes) -> bytes | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name!r} stands {len(values)} times"
        return values[0] if values else None

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def method(self) -> bytes:
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]


class Connection:
    """A socket on the running loop, with a buffer."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.buffer = b""
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._loop.sock_sendall(self.sock, data)

    async def more(self, patience: float = PATIENCE) -> None:
        """Read some bytes into the buffer.

        Raises:
            Ended: the connection has ended.
            TimeoutError: no byte came in time.
        """
        try:
            async with asyncio.timeout(patience):
                data = await self._loop.sock_recv(self.sock, 256 * 1024)
        except (ConnectionResetError, BrokenPipeError):
            raise Ended(clean=False) from None
        if not data:
            raise Ended(clean=True)
        self.buffer += data

    async def until(self, mark: bytes) -> bytes:
        """The bytes up to and including a mark."""
        while mark not in self.buffer:
            await self.more()
        end = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:end], self.buffer[end:]
        return taken

    async def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            await self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    async def head(self) -> Message:
        lines = (await self.until(b"\r\n\r\n"))[:-4].split(b"\r\n")
        pairs = [line.split(b":", 1) for line in lines[1:]]
        return Message(lines[0], [(name, value.strip(b" \t")) for name, value in pairs])

    async def body(self, message: Message, *, until_close: bool = False) -> None:
        """Read a message's body, strictly by its framing."""
        codings, lengths = message.all(b"transfer-encoding"), message.all(b"content-length")
        assert len(codings) + len(lengths) <= 1, f"ambiguous framing: {message.fields}"
        if codings:
            assert codings[0].lower() == b"chunked"
            await self._chunks(message)
        elif lengths:
            message.body = await self.exactly(int(lengths[0]))
            message.complete = True
        elif until_close:
            try:
                while True:
                    await self.more()
            except Ended as end:
                message.body, self.buffer = self.buffer, b""
                message.complete = end.clean
        else:
            message.complete = True

    async def _chunks(self, message: Message) -> None:
        while True:
            size = int((await self.until(b"\r\n")).partition(b";")[0].strip(), 16)
            if size == 0:
                break
            message.body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        while (line := await self.until(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            message.trailers.append((name, value.strip()))
        message.complete = True

    async def ended(self, patience: float = PATIENCE) -> bool:
        """Wait for the peer to end the connection, dropping received bytes; return whether by FIN."""
        try:
            async with asyncio.timeout(patience):
                while True:
                    await self.more()
                    self.buffer = b""
        except Ended as end:
            return end.clean

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """End the connection by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        """End the connection as close() does, by FIN, while a coroutine reads; bytes that still come meet an RST."""
        self.sock.shutdown(socket.SHUT_RDWR)


class Client(Connection):
    """A client of the gateway."""

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> "Client":
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return cls(sock)

    async def response(self, method: bytes = b"GET") -> Message:
        """Read a response, with the interim responses before it.

        A body that is cut off leaves `complete` false; a connection that ends before a head raises Ended.
        """
        interim = []
        while True:
            message = await self.head()
            if message.status >= 200:
                break
            interim.append(message)
        message.interim = interim
        if method == b"HEAD" or message.status in (204, 304):
            message.complete = True
            return message
        try:
            await self.body(message, until_close=True)
        except Ended:
            message.complete = False
        return message

    async def ask(self, request: bytes, method: bytes = b"GET") -> Message:
        await self.send(request)
        return await self.response(method)


class Peer(Connection):
    """An accepted connection of an Upstream."""

    def __init__(self, sock: socket.socket, upstream: "Upstream") -> None:
        super().__init__(sock)
        self.upstream = upstream

    async def request(self) -> Message:
        """Read a whole request, and add it to `upstream.requests`."""
        message = await self.request_head()
        await self.body(message)
        return message

    async def request_head(self) -> Message:
        message = await self.head()
        self.upstream.requests.append(message)
        return message


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A listening socket; each connection is given to the script.

    Attributes:
        requests: all received heads in order, with the bodies that were read.
        accepted: number of accepted connections.
        open: number of connections whose script has not ended.
    """

    def __init__(self, script: Script, backlog: int = 1024, *, address: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script
        self.requests: list[Message] = []
        self.peers: list[Peer] = []
        self.accepted = self.open = 0
        self._listener = socket.create_server((address, port), backlog=backlog)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{address}:{self.port}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        # Not sock_accept(): asyncio loses the connection that comes in the turn in which the call is cancelled.
        self._loop.add_reader(self._listener, self._accept)

    def stop_listening(self) -> None:
        """Refuse new connections; open connections stay."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:  # the client has left
            return
        sock.setblocking(False)
        self.accepted += 1
        peer = Peer(sock, self)
        self.peers.append(peer)  # here, because a task that is cancelled before its first step does nothing
        task = self._loop.create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        self.open += 1
        try:
            await self.script(peer)
        except (Ended, ConnectionError):
            pass
        finally:
            self.open -= 1
            peer.close()

    async def close(self) -> None:
        self.stop_listening()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for peer in self.peers:
            peer.close()
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
                raise result


def reply(status: bytes = b"200 OK", fields: tuple[bytes, ...] = (), body: bytes = b"ok") -> bytes:
    """A response with a Content-Length."""
    lines = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + b"0\r\n\r\n"


def get(
    target: bytes, *lines: bytes, method: bytes = b"GET", body: bytes = b"", host: bytes = b"gateway.example"
) -> bytes:
    """A request; a body is framed by Content-Length."""
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + host, *lines]
    if body:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def echo(peer: Peer) -> None:
    """A script: answer each request with 200 and "ok", as long as the connection lasts."""
    while True:
        await peer.request()
        await peer.send(reply())


async def eventually(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until a condition holds, looking once per turn of the loop.

    Raises:
        TimeoutError: the condition did not hold in time.
    """
    async with asyncio.timeout(patience):
        while not holds():
            await asyncio.sleep(0.001)
