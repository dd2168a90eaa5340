"""A forwarded message equals the sent message, apart from exactly the documented fields.

Random valid messages go through a gateway; what arrives on the other side is compared with
the field lists below, which say again, in few words, what the gateway's documentation promises.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.fuzzing import fuzzing
from tests.support.journeys import Start
from tests.support.sockets import Client, Field, Message, Peer, Upstream

# Fields of one hop, and those in which a stranger must not be believed: dropped.
REQUEST_DROPPED = [
    (b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"keep-alive"), (b"Proxy-Authorization", b"Basic x"),
    (b"Trailer", b"X-Sum"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAM"), (b"TE", b"gzip;q=0.5"),
    (b"Proxy", b"http://evil"), (b"Alt-Used", b"evil"), (b"X-Client-IP", b"1.2.3.4"), (b"X-Forwarded-New", b"1"),
    (b"Forwarded", b"for=1.2.3.4"), (b"X-Forwarded-For", b"1.2.3.4"), (b"x-forwarded-PROTO", b"https"),
    (b"X-Forwarded-Host", b"evil"), (b"X-Forwarded-Port", b"1"), (b"X-Forwarded-Prefix", b"/x"),
    (b"X-Real-IP", b"1.2.3.4"), (b"X-Original-URL", b"/admin"), (b"X_Forwarded_For", b"1.2.3.4"),
    (b"X_Request-ID", b"evil"), (b"Remote_User", b"admin"), (b"Connection", b"keep-alive"),
]  # fmt: skip
RESPONSE_DROPPED = [
    (b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"close"), (b"Proxy-Authenticate", b"Basic"),
    (b"Trailer", b"X-Sum"), (b"Upgrade", b"h2c"), (b"X-Request-Id", b"theirs"), (b"TE", b"x"),
    (b"Alt-Svc", b"clear"), (b"Connection", b"keep-alive"),
]  # fmt: skip
SPECIAL = {name.lower() for name, _ in REQUEST_DROPPED + RESPONSE_DROPPED} | {
    b"host", b"content-length", b"transfer-encoding", b"expect", b"via", b"date", b"connection", b"te",
    b"x-request-id", b"x-forwarded-server", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-forwarded-uri",
    b"x-forwarded-user", b"x-rewrite-url", b"x-hop",
}  # fmt: skip

TOKEN = b"!#$%&'*+-.^`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def bytes_of(alphabet: bytes, **sizes: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), **sizes).map(bytes)


VISIBLE = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
names = st.one_of(
    st.sampled_from([b"Accept", b"ACCEPT", b"accept", b"Cookie", b"Set-Cookie", b"Authorization", b"X-User-Id", b"ETag",
                     b"If-None-Match", b"Range", b"Content-Type", b"Content-Encoding", b"Server", b"traceparent",
                     b"Origin", b"Sec-WebSocket-Key", b"X_Other", b"Accept-Encoding", b"Location", b"Cache-Control"]),
    bytes_of(TOKEN, min_size=1, max_size=20).filter(lambda name: name.lower() not in SPECIAL),
)  # fmt: skip
values = st.one_of(
    st.just(b""), bytes_of(VISIBLE + b" \t", max_size=30).map(lambda value: value.strip(b" \t")),
    st.sampled_from([b"a,b;c=\"d, e\"", b"a  b", b"a\tb", b":", b"a: b", b"\xff\xfe", b"=?utf-8?q?=", b"0"]),
)  # fmt: skip
fields = st.lists(st.tuples(names, values), max_size=6)
spaces = st.sampled_from([b"", b" ", b"\t", b"  \t "])
methods = st.one_of(
    st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY", b"BREW", b"get"]),
    bytes_of(TOKEN, min_size=1, max_size=12).filter(lambda method: method not in (b"TRACE", b"CONNECT", b"HEAD")),
)
# Without "." nothing can climb, and without "#" nothing is refused; dots have their own tests.
targets = st.builds(
    lambda path, query: (b"/" + path if path is not None else b"") + (b"?" + query if query is not None else b""),
    st.none() | bytes_of(VISIBLE.translate(None, b"#?."), max_size=30),
    st.none() | bytes_of(VISIBLE.translate(None, b"#"), max_size=30),
)
bodies = st.one_of(
    st.none(), st.binary(max_size=200), st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"a" * 70_000])
)
cuts = st.lists(st.integers(1, 400), max_size=4)


@dataclass
class Sent:
    """A message to send.

    Attributes:
        dropped: fields that must not arrive, by the place at which they are put among the others.
        hop: whether X-Hop is nominated by Connection, and must not arrive.
        pieces: at which lengths the body is cut into chunks; None for another framing.
        cuts: at which lengths the whole is cut into writes.
        gaps: what stands around each value.
    """

    start: bytes
    fields: list[Field]
    dropped: list[tuple[int, Field]]
    hop: bool
    body: bytes | None
    pieces: list[int] | None
    trailers: list[Field]
    cuts: list[int]
    gaps: bytes
    until_close: bool = False
    expected: list[Field] = field(default_factory=list)

    def lines(self, *own: Field) -> list[Field]:
        """All fields as they are sent; those that must arrive are then in `expected`."""
        self.expected = list(self.fields)
        if self.body is not None and self.pieces is None and not self.until_close:
            self.expected.insert(len(self.expected) // 2, (b"Content-Length", b"%d" % len(self.body)))
        lines = [(each, True) for each in self.expected]
        for place, each in self.dropped:
            lines.insert(place % (len(lines) + 1), (each, False))
        if self.hop:
            lines = [((b"x-HOP", b"1"), False), *lines, ((b"Connection", b"x-hop"), False)]
        if self.pieces is not None:
            lines.append(((b"Transfer-Encoding", b"chunked"), False))
        return [*own, *(each for each, _ in lines)]

    def bytes(self, *own: Field) -> bytes:
        lines = [b"%b:%b%b%b" % (name, self.gaps, value, self.gaps) for name, value in self.lines(*own)]
        return b"\r\n".join([self.start, *lines]) + b"\r\n\r\n" + self.framed()

    def framed(self) -> bytes:
        if self.body is None or self.pieces is None:
            return self.body or b""
        rest, chunks = self.body, []
        for size in (*self.pieces, len(self.body)):
            if piece := rest[:size]:
                chunks.append(b"%x\r\n%b\r\n" % (len(piece), piece))
            rest = rest[size:]
        trailers = b"".join(b"%b: %b\r\n" % each for each in self.trailers)
        return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"

    async def go(self, to: Client | Peer, data: bytes) -> None:
        for cut in self.cuts:
            await to.send(data[:cut])
            await asyncio.sleep(0)
            data = data[cut:]
        await to.send(data)


def messages(starts: st.SearchStrategy[bytes], dropped: list[Field], until_close: bool) -> st.SearchStrategy[Sent]:
    return st.builds(
        Sent, starts, fields, st.lists(st.tuples(st.integers(0, 9), st.sampled_from(dropped)), max_size=3),
        st.booleans(), bodies, st.none() | cuts,
        st.lists(st.tuples(names.filter(is_trailer), values), max_size=2), cuts, spaces,
        st.booleans() if until_close else st.just(False),
    ).map(plausible)  # fmt: skip


def is_bodiless(answer: Sent) -> bool:
    return answer.start.split(b" ")[1] in (b"204", b"304")


def ends_by_close(answer: Sent) -> bool:
    return not is_bodiless(answer) and (answer.body is None or answer.until_close)


def is_trailer(name: bytes) -> bool:
    """RFC 9110 §6.5.1: of the names above; random ones mean nothing."""
    protected = (
        *(b"authorization", b"cookie", b"set-cookie", b"content-encoding", b"content-type", b"x-user-id", b"accept"),
        *(b"if-none-match", b"range", b"origin", b"sec-websocket-key", b"accept-encoding", b"location"),
        *(b"cache-control", b"traceparent"),
    )
    return name.lower() not in protected


def plausible(message: Sent) -> Sent:
    """Leave out what would contradict itself."""
    if is_bodiless(message):
        message.body, message.until_close = None, False
    if message.body is None:
        message.pieces = None
    if message.pieces is None:
        message.trailers = []
    else:
        message.until_close = False
    return message


def has(message: Message, *expected: Field) -> None:
    """All fields of a message, in order."""
    assert message.fields == list(expected)


class Stage:
    """A gateway, one upstream behind it, and what that is to answer."""

    def __init__(self, running: Running, up: Upstream) -> None:
        self.running, self.upstream = running, up


def stage(io_loop: IOLoop, serve: Serve, upstream: Start, script: Callable[[Peer], object]) -> Stage:
    async def start() -> Stage:
        up = upstream(script)
        return Stage(await serve({"svc": [up.url + "/base"]}, VIA_NAME="edge", TARGET_BYTES="forward"), up)

    return io_loop.asyncio_loop.run_until_complete(start())


# ---------------------------------------------------------------- to the upstream


requests = messages(
    st.builds(lambda method, target: b"%b /api/svc%b HTTP/1.1" % (method, target), methods, targets),
    REQUEST_DROPPED,
    False,
)


def test_an_upstream_receives_the_sent_message(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    there = stage(io_loop, serve, upstream, script)
    authority = b"127.0.0.1:%d" % there.upstream.port

    async def journey(sequence: list[Sent], trailers: bool) -> None:
        client = await there.running.client()
        own = [(b"Host", b"Public.Example:99"), (b"X-Request-Id", b"mine"), (b"via", b"1.0 first")]
        if trailers:
            own.append((b"tE", b"trailers"))
        for sent in sequence:
            there.upstream.requests.clear()
            await sent.go(client, sent.bytes(*own))
            answer = await client.response()
            assert answer.status == 200, answer
            assert answer.get(b"connection") is None
            (seen,) = there.upstream.requests
            check(sent, seen, trailers)
        client.close()
        there.running.clients.clear()

    def check(sent: Sent, seen: Message, trailers: bool) -> None:
        method, target, _ = sent.start.split(b" ")
        rest = target.removeprefix(b"/api/svc")
        assert seen.start == b"%b /base%b HTTP/1.1" % (method, rest if rest.startswith(b"/") else b"/" + rest)
        has(
            seen,
            (b"Host", authority),
            *sent.expected,
            (b"X-Forwarded-For", b"127.0.0.1"),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", b"Public.Example:99"),
            (b"X-Forwarded-Port", b"99"),
            (b"X-Forwarded-Prefix", b"/api/svc"),
            (b"X-Request-Id", b"mine"),
            (b"Via", b"1.0 first, 1.1 edge"),
            *([(b"TE", b"trailers"), (b"Connection", b"TE")] if trailers else []),
            *([(b"Transfer-Encoding", b"chunked")] if sent.pieces is not None else []),
        )
        assert (seen.body, seen.complete) == (sent.body or b"", True)
        assert seen.trailers == sent.trailers

    @fuzzing(50)
    @given(st.lists(requests, min_size=1, max_size=4), st.booleans())
    def holds(sequence: list[Sent], trailers: bool) -> None:
        io_loop.asyncio_loop.run_until_complete(journey(sequence, trailers))

    holds()


# ---------------------------------------------------------------- back to the client


reasons = st.sampled_from([b"OK", b"Not Found", b"I'm a Tea-pot", b"Odd But Fine"])
statuses = st.one_of(st.sampled_from([200, 206, 301, 404, 429, 500, 503, 599, 299]), st.integers(200, 599))
responses = messages(
    st.builds(lambda status, reason: b"HTTP/1.1 %d %b" % (status, reason), statuses, reasons), RESPONSE_DROPPED, True
)


def test_a_client_receives_the_answered_message(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    planned: list[Sent] = []

    async def script(peer: Peer) -> None:
        is_kept = True
        while is_kept:
            await peer.request()
            answer = planned.pop(0)
            await answer.go(peer, answer.bytes((b"Date", b"Mon, 01 Jan 2024 00:00:00 GMT"), (b"Via", b"1.0 origin")))
            is_kept = not ends_by_close(answer)

    there = stage(io_loop, serve, upstream, script)

    async def journey(sequence: list[Sent], trailers: bool) -> None:
        client = await there.running.client()
        te = b"TE: trailers\r\n" if trailers else b""
        for answer in sequence:
            planned[:] = [answer]
            request = b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n" + te + b"\r\n"
            check(answer, await client.ask(request), trailers)
        client.close()
        there.running.clients.clear()

    def check(answer: Sent, seen: Message, trailers: bool) -> None:
        status = int(answer.start.split(b" ")[1])
        assert seen.start == answer.start
        chunks = answer.pieces is not None or ends_by_close(answer)
        has(
            seen,
            (b"Date", b"Mon, 01 Jan 2024 00:00:00 GMT"),
            *answer.expected,
            (b"x-request-id", b"mine"),
            (b"Via", b"1.0 origin, 1.1 edge"),
            *([(b"Proxy-Status", b"edge; received-status=%d" % status)] if status >= 500 else []),
            *([(b"Transfer-Encoding", b"chunked")] if chunks else []),
        )
        assert (seen.body, seen.complete) == (answer.body or b"", True)
        assert seen.trailers == (answer.trailers if trailers else [])

    @fuzzing(50)
    @given(st.lists(responses, min_size=1, max_size=4), st.booleans())
    def holds(sequence: list[Sent], trailers: bool) -> None:
        io_loop.asyncio_loop.run_until_complete(journey(sequence, trailers))

    holds()
