"""No message decides about another on its connection: each is what it is on a connection of its own.

Heads repeat to the byte in the most, as real clients' do, so that whatever is remembered between them is used.
"""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.fuzzing import TIMES, fuzzing
from tests.support.journeys import Start
from tests.support.sockets import Client, Ended, Message, Peer
from tornado_gateway.errors import GatewayError
from tornado_gateway.wire.http1 import RequestHead, ResponseHead, parse_request, parse_response

LINES = (
    b"Host: gw.test", b"Host: gw.test:80", b"Host: other.test", b"X: 1", b"X-Hop: 1", b"Connection: X-Hop",
    b"Connection: close", b"Connection: keep-alive", b"Content-Length: 0", b"Content-Length: 2", b"Content-Length: 02",
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: h2c", b"TE: trailers", b"Via: 1.1 x",
    b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Host: claimed.test", b"X-Request-Id: mine", b"Keep-Alive: timeout=3",
    b"Alt-Svc: clear", b"Date: d", b"bad line",
)  # fmt: skip
METHODS = (b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"BREW")
TARGETS = (
    b"/api/svc/1", b"/api/svc/2?x", b"http://evil.test/api/svc/3", b"HTTP://Evil.Test:99/api/svc/4?y", b"*", b"http://c",
    b"/ws/svc", b"http://evil.test/ws/svc", b"/healthz", b"http://evil.test/healthz", b"evil.test:443", b"/api/nobody/",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2")
STATUSES = (b"200 OK", b"204 None", b"304 Same", b"404 No", b"500 Err", b"103 Early")

blocks = st.lists(st.sampled_from(LINES), max_size=5)


def heads(*parts: tuple[bytes, ...]) -> st.SearchStrategy[list[bytes]]:
    """Two or three heads whose start lines are made of these parts, and whose fields are mostly the same."""
    starts = st.tuples(*map(st.sampled_from, parts)).map(b" ".join)
    return st.lists(blocks, min_size=1, max_size=2).flatmap(
        lambda few: st.lists(
            st.builds(lambda start, block: b"\r\n".join([start, *block, b"", b""]), starts, st.sampled_from(few)),
            min_size=2, max_size=3,
        )
    )  # fmt: skip


def outcome(parse: Callable[..., RequestHead | ResponseHead], *arguments: object) -> object:
    try:
        head = parse(*arguments)
    except GatewayError as error:
        return type(error), error.message
    said = {each.name: getattr(head, each.name) for each in dataclasses.fields(head)}
    return said | {"body": (type(head.body), getattr(head.body, "left", None))}


@fuzzing(600)
@given(heads(METHODS, TARGETS, VERSIONS))
def test_a_request_is_parsed_as_on_a_fresh_connection(sequence: list[bytes]) -> None:
    remembered = None
    for head in sequence:
        assert outcome(parse_request, head, remembered) == outcome(parse_request, head)
        try:
            remembered = parse_request(head, remembered).fields
        except GatewayError:
            remembered = None


@fuzzing(600)
@given(
    heads((b"HTTP/1.1", b"HTTP/1.0"), STATUSES), st.lists(st.sampled_from([b"GET", b"HEAD"]), min_size=3, max_size=3)
)
def test_a_response_is_parsed_as_on_a_fresh_connection(sequence: list[bytes], methods: list[bytes]) -> None:
    remembered = None
    for head, method in zip(sequence, methods, strict=False):
        assert outcome(parse_response, head, method, remembered) == outcome(parse_response, head, method)
        try:
            remembered = parse_response(head, method, remembered).fields
        except GatewayError:
            remembered = None


# ---------------------------------------------------------------- over real sockets

HANDSHAKE = (
    b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Origin: http://gw.test",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip
SOCKET_BLOCKS = (
    (b"Host: gw.test",), (b"Host: gw.test", b"X: 1", b"Via: 1.0 a"), (b"Host: gw.test", *HANDSHAKE),
    (b"Host: gw.test", b"Content-Length: 0"), (b"Host: gw.test", b"Connection: X-Hop, keep-alive", b"X-Hop: 1"),
    (b"Host: gw.test", b"X-Forwarded-For: 203.0.113.7, 203.0.113.8", b"X-Forwarded-Proto: https"),
    (b"Host: gw.test", b"Connection: close"), (b"Host: gw.test", b"Host: gw.test"), (b"Host: gw.test", b"Upgrade: h2c"),
)  # fmt: skip
requests = st.lists(st.sampled_from(SOCKET_BLOCKS), min_size=1, max_size=2).flatmap(
    lambda few: st.lists(
        st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS), st.sampled_from(few)), min_size=2, max_size=3
    )
)


def said(message: Message) -> object:
    """A message but for what is new each time."""
    new = (b"x-request-id", b"date", b"sec-websocket-key")
    fields = [(name, value) for name, value in message.fields if name.lower() not in new]
    return message.start, fields, message.body.split(b"urn:tornado-gateway:request")[0]


async def answers(peer: Peer) -> None:
    """A script: 404 to each request, also to a handshake; its head and body repeat to the byte."""
    while True:
        await peer.request()
        await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


class Stage:
    """A gateway and what its upstream has seen."""

    def __init__(self, running: Running, seen: list[Message]) -> None:
        self.running, self._seen = running, seen

    async def outcomes(self, heads: list[tuple[bytes, bytes]], *, fresh: bool) -> list[object]:
        """What came of each head, by method, on one connection or on a fresh one each."""
        found: list[object] = []
        client = await Client.connect(self.running.port)
        for method, head in heads:
            if fresh:
                client.close()
                client = await Client.connect(self.running.port)
            self._seen.clear()
            try:
                answer = await client.ask(head, method)
            except (Ended, ConnectionError):  # the head before was the last one
                break
            found.append((said(answer), [said(each) for each in self._seen]))
        client.close()
        return found


@pytest.mark.parametrize("variables", [{}, {"PRESERVE_HOST": "true"}, {"TRUSTED_PROXIES": "127.0.0.1"}], ids=str)
@pytest.mark.timeout(60 * TIMES)
def test_a_request_reaches_its_upstream_as_on_a_fresh_connection(
    io_loop: IOLoop, serve: Serve, upstream: Start, variables: dict[str, str]
) -> None:
    async def start() -> Stage:
        up = upstream(answers)
        settings = {"VIA_NAME": "edge", "WS_ALLOWED_ORIGINS": "same-origin", "BREAKER_FAILURES": "0", **variables}
        return Stage(await serve({"svc": [up.url]}, **settings), up.requests)

    async def check(sequence: list[tuple[bytes, bytes, tuple[bytes, ...]]]) -> None:
        heads = [
            (method, b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *lines, b"", b""]))
            for method, target, lines in sequence
        ]
        kept = await stage.outcomes(heads, fresh=False)
        assert kept == (await stage.outcomes(heads, fresh=True))[: len(kept)]

    stage = io_loop.asyncio_loop.run_until_complete(start())

    @fuzzing(120)
    @given(requests)
    def holds(sequence: list[tuple[bytes, bytes, tuple[bytes, ...]]]) -> None:
        io_loop.asyncio_loop.run_until_complete(check(sequence))

    holds()


RESPONSES = (
    b"Content-Length: 2\r\n", b"Content-Length: 2\r\nX: 1\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n", b"Content-Length: 2\r\nKeep-Alive: timeout=9\r\n",
    b"Content-Length: 2\r\nConnection: close\r\n", b"Content-Length: 02\r\nContent-Type: text/plain\r\n",
)  # fmt: skip
answered = st.lists(st.sampled_from(RESPONSES), min_size=1, max_size=2).flatmap(
    lambda few: st.lists(
        st.tuples(st.sampled_from([b"GET", b"HEAD"]), st.sampled_from(STATUSES[:5]), st.sampled_from(few)),
        min_size=2, max_size=3,
    )
)  # fmt: skip


def answer(method: bytes, status: bytes, lines: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\n%b\r\n" % (status, lines)
    if method == b"HEAD" or status[:3] in (b"204", b"304") or b"Length: 0\r" in lines:
        return head
    return head + (b"2\r\nok\r\n0\r\n\r\n" if b"chunked" in lines else b"ok")


@pytest.mark.timeout(60 * TIMES)
def test_a_response_reaches_its_client_as_from_a_fresh_connection(
    io_loop: IOLoop, serve: Serve, upstream: Start
) -> None:
    script: list[bytes] = []

    async def plays(peer: Peer) -> None:
        while True:
            asked = await peer.request()
            await peer.send(script[int(asked.target[1:])])
            if b"Connection: close" in script[int(asked.target[1:])]:
                return

    async def start() -> tuple[Running, Running]:
        urls = {"svc": [upstream(plays).url]}
        variables = {"VIA_NAME": "edge", "BREAKER_FAILURES": "0", "RETRY_ON": "off"}
        return await serve(urls, **variables), await serve(urls, UPSTREAM_MAX_IDLE="0", **variables)

    async def outcomes(running: Running, methods: list[bytes]) -> list[object]:
        found = []
        for number, method in enumerate(methods):
            client = await Client.connect(running.port)
            head = b"%b /api/svc/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (method, number)
            found.append(said(await client.ask(head, method)))
            client.close()
        return found

    kept, fresh = io_loop.asyncio_loop.run_until_complete(start())

    @fuzzing(100)
    @given(answered)
    def holds(sequence: list[tuple[bytes, bytes, bytes]]) -> None:
        script[:] = [answer(*each) for each in sequence]
        methods = [method for method, _, _ in sequence]
        both = asyncio.gather(outcomes(kept, methods), outcomes(fresh, methods))
        one, other = io_loop.asyncio_loop.run_until_complete(both)
        assert one == other

    holds()


def test_the_fuzzers_find_what_depends_on_a_start_line() -> None:
    """A memory of the authority of a target, as there once was, fails the property above."""

    def forgetful(head: bytes, like: RequestHead | None) -> RequestHead:
        parsed = parse_request(head)
        if like and like.block == parsed.block:
            parsed.host = like.host
        return parsed

    @fuzzing(500)
    @given(heads(METHODS, TARGETS, VERSIONS))
    def holds(sequence: list[bytes]) -> None:
        before = None
        for head in sequence:
            assert outcome(forgetful, head, before) == outcome(parse_request, head)
            try:
                before = forgetful(head, before)
            except GatewayError:
                before = None

    with pytest.raises(AssertionError):
        holds()
