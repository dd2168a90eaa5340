"""For random valid messages: what arrives equals what was sent, minus and plus the documented fields."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.sockets import Field, Message, Peer, Upstream

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
# What the gateway reads, replaces or drops is left to other tests; so are names that begin like those.
RESERVED = ("connection", "content-length", "transfer-encoding", "host", "te", "trailer", "upgrade", "via", "expect",
            "keep-alive", "forwarded", "date", "proxy-", "x-forwarded", "x-re", "x-or", "http2")  # fmt: skip
FIELD = st.tuples(TOKEN, VALUE).filter(lambda pair: not pair[0].lower().startswith(RESERVED))
FIELDS = st.lists(FIELD, max_size=6).map(
    lambda pairs: [(name.encode("latin-1"), value.encode("latin-1").strip(b" ")) for name, value in pairs]
)
METHOD = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND", b"QUERY", b"BREW"])
PATH = st.text("abc/;=%25~!$&()*+,:@[]|{}^\\\"'<>`._-é", max_size=20).filter(
    lambda path: ".." not in path and "%" not in path
)
TARGET = st.tuples(PATH, st.one_of(st.just(""), PATH.map(lambda query: "?" + query + "%2e%2E?/../x"))).map(
    lambda parts: (("/" + parts[0]) + parts[1]).encode("utf-8")
)
BODY = st.one_of(st.none(), st.lists(st.binary(max_size=50), max_size=4))
FRAMING = st.sampled_from(["length", "chunks"])

MINUS_AND_PLUS = {b"host", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
                  b"x-forwarded-port", b"via", b"content-length", b"transfer-encoding", b"date",
                  b"connection"}  # fmt: skip


def framed(pieces: list[bytes] | None, framing: str) -> tuple[list[Field], bytes]:
    """The framing field and the bytes of a body."""
    if pieces is None:
        return [], b""
    body = b"".join(pieces)
    if framing == "length":
        return [(b"Content-Length", b"%d" % len(body))], body
    chunks = b"".join([b"%X;ext\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece])
    return [(b"Transfer-Encoding", b"chunked")], chunks + b"0\r\n\r\n"


def serialized(start: bytes, fields: list[Field], body: bytes) -> bytes:
    return b"\r\n".join([start, *[b"%b: %b" % field for field in fields], b"", b""]) + body


def kept(message: Message) -> list[Field]:
    return [field for field in message.fields if field[0].lower() not in MINUS_AND_PLUS]


class Bench:
    """A gateway with an upstream that answers each request with the next prepared response."""

    def __init__(self, io_loop: IOLoop, serve: Serve, upstream: Callable[..., Upstream]) -> None:
        self.run = io_loop.asyncio_loop.run_until_complete
        self.response = b""
        self.upstream: Upstream = self.run(self._start(upstream))
        self.running: Running = self.run(self._serve(serve))

    async def _start(self, upstream: Callable[..., Upstream]) -> Upstream:
        return upstream(self.script)

    async def _serve(self, serve: Serve) -> Running:
        return await serve({"svc": [self.upstream.url + "/base"]})

    async def script(self, peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(self.response)

    async def exchange(self, requests: list[bytes], cuts: int, method: bytes) -> list[Message]:
        """Send requests on one connection, each in pieces; the answers."""
        client = await self.running.client()
        answers = []
        for request in requests:
            size = max(1, len(request) // (cuts + 1))
            for at in range(0, len(request), size):
                await client.send(request[at : at + size])
                await asyncio.sleep(0)
            answers.append(await client.response(method))
        client.close()
        return answers


MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def bench(io_loop: IOLoop, serve: Serve, upstream: Callable[..., Upstream]) -> Bench:
    return Bench(io_loop, serve, upstream)


@MANY
@given(st.lists(st.tuples(METHOD, TARGET, FIELDS, BODY, FRAMING), min_size=1, max_size=3), st.integers(0, 9))
def test_the_upstream_sees_what_was_sent(
    bench: Bench, requests: list[tuple[bytes, bytes, list[Field], list[bytes] | None, str]], cuts: int
) -> None:
    bench.response = serialized(b"HTTP/1.1 200 OK", [(b"Content-Length", b"2")], b"ok")
    bench.upstream.requests.clear()
    sent = []
    for method, target, fields, pieces, framing in requests:
        framing_fields, body = framed(pieces, framing)
        start = b"%b /api/svc%b HTTP/1.1" % (method, target)
        sent.append(serialized(start, [(b"Host", b"a"), *fields, *framing_fields], body))
    answers = bench.run(bench.exchange(sent, cuts, b"GET"))
    assert [answer.status for answer in answers] == [200] * len(requests)
    for (method, target, fields, pieces, _), seen in zip(requests, bench.upstream.requests, strict=True):
        assert (seen.method, seen.target) == (method, b"/base" + target)
        assert kept(seen) == fields
        assert (seen.body, seen.complete) == (b"".join(pieces or []), True)
        assert seen.get(b"host") == b"127.0.0.1:%d" % bench.upstream.port


@MANY
@given(
    st.sampled_from([200, 201, 299, 301, 404, 418, 500, 599]), FIELDS, BODY, FRAMING, st.sampled_from([b"GET", b"HEAD"])
)
def test_the_client_sees_what_was_answered(
    bench: Bench, status: int, fields: list[Field], pieces: list[bytes] | None, framing: str, method: bytes
) -> None:
    framing_fields, body = framed(pieces if pieces is not None else [], framing)
    bench.response = serialized(
        b"HTTP/1.1 %d Some Words" % status, [*fields, *framing_fields], b"" if method == b"HEAD" else body
    )
    (answer,) = bench.run(bench.exchange([method + b" /api/svc/x HTTP/1.1\r\nHost: a\r\n\r\n"], 0, method))
    assert answer.start == b"HTTP/1.1 %d Some Words" % status
    assert [field for field in kept(answer) if field[0].lower() != b"proxy-status"] == fields
    assert answer.complete
    assert answer.body == (b"" if method == b"HEAD" else b"".join(pieces or []))
