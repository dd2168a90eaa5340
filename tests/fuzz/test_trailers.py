"""Trailers over real sockets, in both directions: by any name in any spelling, what must not pass does not.

The rule is said a second time here: RFC 9110 §6.5.1, and the names in which a gateway or a service puts trust.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.fuzzing import TIMES, fuzzing
from tests.support.journeys import Start
from tests.support.sockets import Client, Field, Peer, Upstream, reply

NEVER = (
    b"content-length", b"transfer-encoding", b"trailer", b"te", b"connection", b"keep-alive", b"upgrade", b"host",
    b"proxy", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"authorization", b"cookie",
    b"set-cookie", b"www-authenticate", b"expect", b"max-forwards", b"range", b"if-match", b"cache-control", b"age",
    b"date", b"expires", b"location", b"retry-after", b"vary", b"content-type", b"content-encoding", b"content-range",
    b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-anything", b"x-real-ip",
    b"x-original-url", b"x-rewrite-url", b"x-request-id", b"x-user-id", b"remote-user", b"alt-svc", b"alt-used",
    b"sec-websocket-accept", b"access-control-allow-origin", b"x-hop",
)  # fmt: skip
ALWAYS = (b"x-sum", b"etag", b"server-timing", b"digest", b"grpc-status", b"x_own", b"x-hop-2", b"proxy-status")


def spelled(name: bytes, upper: list[bool], underscores: list[bool]) -> bytes:
    """A name in other letters, and for a CGI server the same: with some of its hyphens as underscores."""
    letters = [
        bytes([byte]).upper() if upper[at % len(upper)] else b"_" if byte == 0x2D and underscores[at % len(underscores)]
        else bytes([byte])
        for at, byte in enumerate(name)
    ]  # fmt: skip
    return b"".join(letters)


FLAGS = st.lists(st.booleans(), min_size=1, max_size=5)
NAMES = st.builds(spelled, st.sampled_from(NEVER + ALWAYS), FLAGS, FLAGS).filter(lambda name: name.lower() != b"x_hop")
VALUES = st.sampled_from([b"1", b"", b"5, 5", b"chunked", b"x-sum", b"a\xe9b", b"-", b"18446744073709551616", b"a b"])
TRAILERS = st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6)


def passing(trailers: list[Field]) -> list[Field]:
    return [(name, value) for name, value in trailers if name.lower().replace(b"_", b"-") not in NEVER]


def chunked(trailers: list[Field]) -> bytes:
    return b"2;a=b\r\nok\r\n0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"


HEAD = b"Transfer-Encoding: chunked\r\nConnection: X-Hop\r\n"


@pytest.mark.timeout(60 * TIMES)
def test_a_trailer_passes_by_one_rule_in_both_directions(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    said = b""

    async def answers(peer: Peer) -> None:
        while True:
            asked = await peer.request()
            await peer.send(said if asked.method == b"GET" else reply())

    async def start() -> tuple[Running, Upstream]:
        up = upstream(answers)
        return await serve({"svc": [up.url]}), up

    async def check(trailers: list[Field]) -> None:
        nonlocal said
        up.requests.clear()
        said = b"HTTP/1.1 200 OK\r\n" + HEAD + b"\r\n" + chunked(trailers)
        client = await Client.connect(running.port)
        for _ in range(2):  # so that the connections, on both sides, are seen to stay in step
            answer = await client.ask(b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            assert (answer.status, answer.body, answer.trailers) == (200, b"ok", passing(trailers))
            answer = await client.ask(b"POST /api/svc/x HTTP/1.1\r\nHost: a\r\n" + HEAD + b"\r\n" + chunked(trailers))
            assert answer.status == 200
            assert (up.requests[-1].body, up.requests[-1].trailers) == (b"ok", passing(trailers))
        client.close()

    running, up = io_loop.asyncio_loop.run_until_complete(start())

    @fuzzing(60)
    @given(TRAILERS)
    def holds(trailers: list[Field]) -> None:
        io_loop.asyncio_loop.run_until_complete(check(trailers))

    holds()
