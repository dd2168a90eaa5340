"""What the gateway must survive: stalls, floods, garbage, and clients that leave, without growing or leaking.

Memory is measured of a gateway in a process of its own. The bound of a stalled transfer is GROWTH for
whatever its size: the transports' buffers, one read on each side, and the allocator's slack.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import LOOPS, Running, Serve
from tests.support.sockets import Client, Ended, Peer, Upstream, chunked, eventually, get, reply

GIB = 1 << 30
GROWTH = 8 * 1024  # KiB
Start = Callable[..., Upstream]
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Process:
    """A gateway in a process of its own."""

    def __init__(self, loop: str, upstream: Upstream, **variables: str) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        env = os.environ | {
            "HOST": "127.0.0.1", "PORT": str(self.port), "UPSTREAMS": json.dumps({"svc": [upstream.url]}),
            "LOG_LEVEL": "error", "EVENT_LOOP": loop, "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        } | variables  # fmt: skip
        self.popen = subprocess.Popen([sys.executable, "-m", "tornado_gateway"], env=env)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError("the gateway does not listen")

    def resident(self) -> int:
        """KiB."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def process(io_loop: IOLoop, request: pytest.FixtureRequest) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []
    loop = request.node.callspec.params["io_loop"]

    def start(upstream: Upstream, **variables: str) -> Process:
        started.append(Process(loop, upstream, **variables))
        return started[-1]

    yield start
    for each in started:
        each.close()


async def stalls(count: Callable[[], int], turns: int = 20) -> None:
    """Wait until a count has stopped growing for some looks in a row."""
    seen, same = -1, 0
    while same < turns:
        now = count()
        seen, same = now, same + 1 if now == seen else 0
        await asyncio.sleep(0.02)


# ---------------------------------------------------------------- stalls (H10, H11)


@pytest.mark.parametrize("framing", [b"Content-Length: %d" % GIB, b"Transfer-Encoding: chunked", b"X-Until: close"])
@pytest.mark.gen_test(timeout=30)
async def test_a_gibibyte_for_a_reader_that_stalls(
    process: Callable[..., Process], upstream: Start, framing: bytes
) -> None:
    sent = 0

    async def blast(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        block = b"10000\r\n%b\r\n" % bytes(65536) if b"chunked" in framing else bytes(65536)
        while sent < GIB:
            with contextlib.suppress(TimeoutError):
                await peer.send(block)
            sent += len(block)

    gateway = process(upstream(blast))
    before = gateway.resident()
    client = await Client.connect(gateway.port, receive_buffer=65536)
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: sent)
    await stalls(lambda: sent)
    assert gateway.resident() - before < GROWTH
    assert 0 < sent < GIB // 4
    client.close()


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.gen_test(timeout=30)
async def test_a_gibibyte_for_an_upstream_that_stalls(
    process: Callable[..., Process], upstream: Start, chunks: bool
) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request_head()
        await eventually(done.is_set, patience=25)

    done, sent = asyncio.Event(), 0
    gateway = process(upstream(stall))
    before = gateway.resident()
    client = await Client.connect(gateway.port)
    framing = b"Transfer-Encoding: chunked" if chunks else b"Content-Length: %d" % GIB
    await client.send(get(b"/api/svc/x", framing, method=b"PUT"))
    block = b"10000\r\n%b\r\n" % bytes(65536) if chunks else bytes(65536)
    loop = asyncio.get_running_loop()

    async def upload() -> None:
        nonlocal sent
        while sent < GIB:
            await loop.sock_sendall(client.sock, block)
            sent += len(block)

    task = asyncio.ensure_future(upload())
    await eventually(lambda: sent)
    await stalls(lambda: sent)
    assert gateway.resident() - before < GROWTH
    assert 0 < sent < GIB // 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    done.set()
    client.close()


@pytest.mark.gen_test(timeout=30)
async def test_pipelined_requests_of_a_client_that_does_not_read(
    process: Callable[..., Process], upstream: Start
) -> None:
    async def large(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(body=bytes(60_000)))

    gateway = process(upstream(large))
    before = gateway.resident()
    client = await Client.connect(gateway.port, receive_buffer=65536)
    flood = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(client.sock, get(b"/api/svc/x") * 100_000))
    await stalls(lambda: gateway.resident() // 256)
    assert gateway.resident() - before < GROWTH
    flood.cancel()
    await asyncio.gather(flood, return_exceptions=True)
    client.close()


@pytest.mark.gen_test(timeout=20)
async def test_a_flood_of_pipelined_requests_leaves_others_their_turn(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]})
    flooder, other = await running.client(), await running.client()
    answers = 0

    async def read() -> None:
        nonlocal answers
        with contextlib.suppress(Ended):
            while True:
                await flooder.more()
                answers += flooder.buffer.count(b"HTTP/1.1 404")
                flooder.buffer = b""

    reading = asyncio.ensure_future(read())
    flood = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(flooder.sock, get(b"/api/none") * 3000))
    await eventually(lambda: answers)
    assert (await other.ask(get(b"/healthz"))).status == 200
    assert answers < 2500
    for task in (flood, reading):
        task.cancel()
    await asyncio.gather(flood, reading, return_exceptions=True)


# A client that neither reads nor sends on: (a) its upload is still to end, (b) its upload keeps coming.
@pytest.mark.gen_test(timeout=20)
async def test_a_client_that_only_writes_does_not_escape_its_timeout(serve: Serve, upstream: Start) -> None:
    async def mirror(peer: Peer) -> None:
        await peer.request_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.buffer = b""
            await peer.more()
            await peer.send(b"10000\r\n%b\r\n" % bytes(65536))

    running = await serve({"svc": [upstream(mirror).url]}, CLIENT_IDLE_TIMEOUT_MS="300")
    client = await running.client(receive_buffer=65536)
    await client.send(get(b"/api/svc/x", b"Transfer-Encoding: chunked", method=b"POST"))
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(8):
            while running.app.server.connections:
                await asyncio.get_running_loop().sock_sendall(client.sock, b"400\r\n%b\r\n" % bytes(1024))
                await asyncio.sleep(0.001)
    assert not running.app.server.connections


# ---------------------------------------------------------------- many at once


@pytest.mark.gen_test(timeout=30)
async def test_500_slow_requests_at_once(serve: Serve, upstream: Start) -> None:
    async def slow(peer: Peer) -> None:
        await peer.request()
        await eventually(all_here.is_set, patience=20)
        await peer.send(reply())
        await peer.ended()

    all_here = asyncio.Event()
    up = upstream(slow)
    running = await serve({"svc": [up.url]})
    clients = [await running.client() for _ in range(500)]
    asking = [asyncio.ensure_future(client.ask(get(b"/api/svc/%d" % n))) for n, client in enumerate(clients)]
    await eventually(lambda: len(up.requests) == 500, patience=20)
    assert running.inflight == 500
    all_here.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}


async def whole(peer: Peer) -> None:
    """A script for all phases: what the path asks for."""
    while True:
        message = await peer.request_head()
        if message.target != b"/upload":
            await peer.body(message)
        if message.target in (b"/silent", b"/upload"):
            await peer.ended()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if message.target == b"/stream":
            await peer.ended()
        await peer.send(b"0\r\n\r\n")


PHASES = {
    "connecting": get(b"/api/svc/whole"),
    "waiting for the head": get(b"/api/svc/silent"),
    "uploaded": get(b"/api/svc/silent", method=b"POST", body=b"hello"),
    "uploading": get(b"/api/svc/upload", b"Content-Length: 100000", method=b"POST") + b"hello",
    "uploading chunks": get(b"/api/svc/upload", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n",
    "streaming": get(b"/api/svc/stream"),
}


@pytest.mark.gen_test(timeout=50)
async def test_1000_clients_that_leave_leak_nothing(serve: Serve, upstream: Start) -> None:
    rng = random.Random(7)
    up = upstream(whole)
    running = await serve({"svc": [up.url]})

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def leave(phase: str) -> None:
        client = await Client.connect(running.port)
        seen = len(up.requests)
        await client.send(PHASES[phase])
        if phase != "connecting":
            await eventually(lambda: len(up.requests) > seen)
        if phase == "streaming":
            await client.until(b"hello")
        client.reset() if rng.random() < 0.5 else client.close()

    await leave("connecting")
    await eventually(lambda: not running.app.server.connections)
    tasks, before = len(asyncio.all_tasks()), descriptors()
    names = [name for name in PHASES for _ in range(1000 // len(PHASES) + 1)]
    rng.shuffle(names)
    for start in range(0, len(names), 20):
        await asyncio.gather(*[leave(name) for name in names[start : start + 20]])
    client_ = running.app.gateway.client
    await eventually(lambda: not running.app.server.connections and not running.inflight and not client_.active)
    client_.sweep(float("inf"))  # idle connections are no leak
    await eventually(lambda: up.open == 0)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    assert descriptors() <= before
    assert running.errors == 0


# ---------------------------------------------------------------- floods and garbage


@pytest.mark.gen_test(timeout=20)
async def test_a_megabyte_in_chunks_of_one_byte_both_ways(serve: Serve, upstream: Start) -> None:
    size = 200_000

    async def mirror(peer: Peer) -> None:
        message = await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*[b"x"] * len(message.body)))
        await peer.ended()

    running = await serve({"svc": [upstream(mirror).url]})
    client = await running.client()
    request = get(b"/api/svc/x", b"Transfer-Encoding: chunked", method=b"POST") + chunked(*[b"x"] * size)
    answer = await client.ask(request)
    assert (answer.complete, len(answer.body)) == (True, size)


@pytest.mark.gen_test(timeout=20)
async def test_a_dribbled_response_is_whole(serve: Serve, upstream: Start) -> None:
    async def dribble(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.ended()

    running = await serve({"svc": [upstream(dribble).url]})
    assert (await (await running.client()).ask(get(b"/api/svc/x"))).body == b"hello"


@pytest.mark.gen_test(timeout=20)
async def test_a_dribbled_head_has_one_timeout_for_all_its_bytes(serve: Serve, upstream: Start) -> None:
    async def dribble(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.02)

    running = await serve({"svc": [upstream(dribble).url]}, HTTP_PROXY_TIMEOUT_MS="300")
    assert (await (await running.client()).ask(get(b"/api/svc/x"))).status == 504


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.0 204 X\r\n", b"Content-Length: 3\r\n",
             b"\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
             b"X: y\r\n"]
        ),
        st.binary(max_size=20),
    ),
    max_size=8,
)  # fmt: skip


class Bench:
    """A gateway whose upstream says what the test has prepared."""

    def __init__(self, io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
        self.run = io_loop.asyncio_loop.run_until_complete
        self.pieces: list[bytes] = []
        self.started = self.run(self._start(serve, upstream))
        self.upstream, self.running = self.started

    async def _start(self, serve: Serve, upstream: Start) -> tuple[Upstream, Running]:
        up = upstream(self.script)
        return up, await serve({"svc": [up.url]}, HTTP_PROXY_TIMEOUT_MS="2000")

    async def script(self, peer: Peer) -> None:
        message = await peer.request_head()
        if message.target == b"/good":
            await peer.send(reply())
        else:
            for piece in self.pieces:
                await peer.send(piece)
                await asyncio.sleep(0)

    async def survives(self, request: bytes) -> None:
        """Send bytes, half-close nothing, and see an answer or an end; then the gateway still works."""
        client = await self.running.client()
        await client.send(request)
        with contextlib.suppress(Ended, AssertionError, ValueError):
            while (await client.response()).complete:
                break
        client.close()
        probe = await self.running.client()
        assert (await probe.ask(get(b"/api/svc/good", b"Connection: close"))).status == 200
        probe.close()


@pytest.fixture
def bench(io_loop: IOLoop, serve: Serve, upstream: Start) -> Bench:
    return Bench(io_loop, serve, upstream)


@MANY
@given(PIECES)
def test_whatever_an_upstream_says_the_client_gets_an_answer_or_an_end(bench: Bench, pieces: list[bytes]) -> None:
    bench.pieces = pieces
    bench.run(bench.survives(get(b"/api/svc/x")))


REQUESTS = st.lists(
    st.one_of(
        st.sampled_from(
            [b"GET /api/svc/smuggled HTTP/1.1\r\n", b"POST /api/svc/smuggled HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n",
             b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n",
             b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"X: y\n", b" z\r\n"]
        ),
        st.binary(max_size=20),
    ),
    max_size=8,
)  # fmt: skip


@MANY
@given(REQUESTS)
def test_whatever_a_client_says_nothing_of_a_refused_request_reaches_an_upstream(
    bench: Bench, pieces: list[bytes]
) -> None:
    async def ask() -> None:
        client = await bench.running.client()
        await client.send(b"".join(pieces) + b"\r\n\r\n")
        client.half_close()
        refused = []
        with contextlib.suppress(Ended, AssertionError, ValueError, ConnectionError):
            while True:
                refused.append((await client.response()).status in (400, 417, 431, 505))
        client.close()
        if refused[:1] == [True]:
            assert bench.upstream.requests == []
        probe = await bench.running.client()
        assert (await probe.ask(get(b"/api/svc/good", b"Connection: close"))).status == 200
        probe.close()

    bench.pieces = [reply()]
    bench.upstream.requests.clear()
    bench.run(ask())


@pytest.mark.gen_test(timeout=20)
async def test_data_from_an_upstream_whose_client_has_left_harms_nobody(serve: Serve, upstream: Start) -> None:
    async def late(peer: Peer) -> None:
        await peer.request()
        await eventually(left.is_set)
        for _ in range(50):
            await peer.send(reply(body=bytes(100_000)))

    left = asyncio.Event()
    up = upstream(late)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: up.requests)
    client.close()
    left.set()
    await eventually(lambda: up.open == 0)
    assert (await (await running.client()).ask(get(b"/healthz"))).status == 200


def test_both_event_loops_are_tried() -> None:
    assert set(LOOPS) == {"uvloop", "asyncio"}
