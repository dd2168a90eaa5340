"""What the gateway must live through: stalls, crowds, clients that leave, and upstreams that misbehave.

Memory is measured in a process of its own. Tests that move much, or take long, run on the one loop that is
the default; whatever could differ between the loops runs on both.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.fuzzing import fuzzing
from tests.support.journeys import CHUNKED, Start, ask, capture, flowing, plays, problem, silent
from tests.support.ports import free_port
from tests.support.sockets import (
    PATIENCE,
    Client,
    Ended,
    Peer,
    Script,
    Upstream,
    chunked,
    echo,
    eventually,
    get,
    reply,
)
from tornado_gateway.policy.upstream.endpoint import Outcome

GIB = 1024 * 1024 * 1024
MIB = 1024 * 1024
PIECE = b"a" * 65_536

# What a stalled body may cost: the transport's high-water marks on both sides, one read of 256 KiB in each
# direction, and what the allocator makes of it.
STALL_COSTS = 8 * MIB

on_one_loop = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)


# ---------------------------------------------------------------- bodies that stall


class Process:
    """A gateway in a process of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int) -> None:
        self.popen, self.port = popen, port

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s*(\d+) kB", status)[0]) * 1024


@asynccontextmanager
async def process(upstream: Upstream, event_loop: str) -> AsyncIterator[Process]:
    port = free_port()
    variables = {
        "UPSTREAMS": json.dumps({"svc": [upstream.url]}), "HOST": "127.0.0.1", "PORT": str(port),
        "EVENT_LOOP": event_loop, "ACCESS_LOG": "false", "LOG_LEVEL": "error",
    }  # fmt: skip
    popen = subprocess.Popen([sys.executable, "-m", "tornado_gateway"], env=os.environ | variables)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    client = await Client.connect(port)
                    break
                await asyncio.sleep(0.02)
        for _ in range(20):  # so that what is measured is not what Python imports at the first request
            assert (await client.ask(get(b"/api/svc/warm"))).status == 200
        client.close()
        yield Process(popen, port)
    finally:
        popen.terminate()
        assert popen.wait(PATIENCE) == 0


async def stands_still(count: Callable[[], int], seconds: float = 0.5) -> int:
    """Wait until a count has not changed for a while."""
    loop = asyncio.get_running_loop()
    last, since = count(), loop.time()
    while loop.time() - since < seconds:
        await asyncio.sleep(0.02)
        if (now := count()) != last:
            last, since = now, loop.time()
    return last


@on_one_loop
@pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("framing", ["length", "chunks", "until close"])
@pytest.mark.gen_test(timeout=40)
async def test_a_download_to_a_reader_that_stalls_is_bounded(upstream: Start, event_loop: str, framing: str) -> None:
    async def script(peer: Peer) -> None:
        nonlocal sent
        while (await peer.request()).target == b"/warm":
            await peer.send(reply())
        fields = {"length": b"Content-Length: %d\r\n" % GIB, "chunks": CHUNKED + b"\r\n", "until close": b""}[framing]
        await peer.send(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        while sent < GIB:
            await peer.send(b"10000\r\n" + PIECE + b"\r\n" if framing == "chunks" else PIECE)
            sent += len(PIECE)

    sent = 0
    async with process(upstream(script), event_loop) as gateway:
        before = gateway.memory
        client = await Client.connect(gateway.port, receive_buffer=65_536)
        await client.send(get(b"/api/svc/large"))
        await client.head()
        stalled_at = await stands_still(lambda: sent)
        assert 0 < stalled_at < 64 * MIB  # the rest is the kernel's, on both sockets
        assert gateway.memory - before < STALL_COSTS
        for _ in range(64):  # it goes on when the reader does, and memory does not
            await client.exactly(MIB)
        assert sent > stalled_at
        await stands_still(lambda: sent)
        assert gateway.memory - before < STALL_COSTS
        client.reset()


@on_one_loop
@pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.gen_test(timeout=40)
async def test_an_upload_to_an_upstream_that_stalls_is_bounded(upstream: Start, event_loop: str, framing: str) -> None:
    async def script(peer: Peer) -> None:
        while (message := await peer.request_head()).target == b"/warm":
            await peer.send(reply())
        assert message.method == b"PUT"
        await reads.wait()
        with contextlib.suppress(Ended):
            while True:
                await peer.more()
                peer.buffer = b""

    async def send() -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < GIB:
                piece = b"10000\r\n" + PIECE + b"\r\n" if framing == "chunks" else PIECE
                await asyncio.get_running_loop().sock_sendall(client.sock, piece)
                sent += len(PIECE)

    sent, reads = 0, asyncio.Event()
    async with process(upstream(script), event_loop) as gateway:
        before = gateway.memory
        client = await Client.connect(gateway.port)
        frame = CHUNKED if framing == "chunks" else b"Content-Length: %d" % GIB
        await client.send(get(b"/api/svc/large", frame, method=b"PUT"))
        sending = asyncio.ensure_future(send())
        stalled_at = await stands_still(lambda: sent)
        assert 0 < stalled_at < 64 * MIB
        assert gateway.memory - before < STALL_COSTS
        reads.set()
        await eventually(lambda: sent > stalled_at + 64 * MIB)
        assert gateway.memory - before < STALL_COSTS
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.reset()


@pytest.mark.parametrize("abrupt", [True, False])
@pytest.mark.gen_test
async def test_a_client_that_leaves_a_stalled_upload_is_noticed(serve: Serve, upstream: Start, abrupt: bool) -> None:
    async def reads_nothing(peer: Peer) -> None:
        await peer.request_head()
        await eventually(noticed.is_set)

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.get_running_loop().sock_sendall(client.sock, PIECE)

    noticed = asyncio.Event()
    running = await serve({"svc": [upstream(reads_nothing).url]})
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/api/svc/x", b"Content-Length: %d" % GIB, method=b"PUT"))
    if abrupt:
        sending = asyncio.ensure_future(send())
        await eventually(lambda: [each for each in running.app.server.connections if each.is_paused])
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.reset()
    else:  # as much as stalls the gateway, and not so much that the FIN has to wait behind it
        while not any(each.is_paused for each in running.app.server.connections):
            await client.send(PIECE)
            await asyncio.sleep(0.01)
        await stands_still(lambda: unread(running), 0.1)
        client.close()
    await eventually(lambda: running.inflight == 0)
    noticed.set()
    await eventually(lines)
    assert (lines()[0]["status"], lines()[0]["reason"], running.errors) == (499, "client_gone", 0)


def unread(running: Running) -> int:
    return sum(each.transport.get_write_buffer_size() for each in running.app.gateway.client.active)


# ---------------------------------------------------------------- crowds


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """A crowd needs four descriptors each, all in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.gen_test(timeout=30)
async def test_500_slow_requests_at_once_are_all_answered(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        nonlocal waiting
        message = await peer.request()
        waiting += 1
        await all_here.wait()
        await peer.send(reply(body=message.target))
        await peer.ended()

    waiting, all_here = 0, asyncio.Event()
    running = await serve({"svc": [upstream(script).url]}, MAX_CONNECTIONS="600")
    clients = [await running.client() for _ in range(500)]
    for number, client in enumerate(clients):
        await client.send(get(b"/api/svc/%d" % number))
    await eventually(lambda: waiting == 500, 15)
    assert running.inflight == 500
    assert (await ask(running, get(b"/healthz"))).status == 200
    all_here.set()
    answers = [await client.response() for client in clients]
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(500)]
    assert (running.inflight, running.errors) == (0, 0)


# ---------------------------------------------------------------- clients that leave


@contextlib.contextmanager
def never_connects() -> Iterator[str]:
    """The URL of an upstream whose kernel answers no SYN: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


HALF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
PHASES: dict[str, tuple[Script | None, bytes, bytes]] = {
    # the upstream, the request, and what the client has seen when it leaves
    "connecting": (None, get(b"/api/svc/x"), b""),
    "waiting for the head": (silent, get(b"/api/svc/x"), b""),
    "response silent": (plays(HALF), get(b"/api/svc/x"), b"half"),
    "response flowing": (flowing, get(b"/api/svc/x"), b"hello"),
    "uploading": (silent, get(b"/api/svc/x", b"Content-Length: 100000", method=b"PUT") + b"a" * 50_000, b""),
    "uploaded": (plays(), get(b"/api/svc/x", method=b"PUT", body=b"a" * 50_000), b""),
}
ABORTS, AT_ONCE = 84, 28  # times 6 phases and 2 loops: 1,008 clients


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.gen_test
async def test_clients_that_leave_leave_nothing_behind(serve: Serve, upstream: Start, phase: str) -> None:
    def is_in_phase() -> bool:
        if up is None:
            return len(wire.connecting) == AT_ONCE
        return len(up.requests) == AT_ONCE and (phase != "uploaded" or all(request.complete for request in up.requests))

    def is_at_rest() -> bool:
        return not (server.connections or wire.active or wire.connecting or running.inflight or (up and up.open))

    script, request, seen = PHASES[phase]
    with never_connects() as nowhere:
        up = upstream(script) if script else None
        running = await serve({"svc": [up.url if up else nowhere]})
        server, wire, lines = running.app.server, running.app.gateway.client, capture(running)
        await asyncio.sleep(0)
        tasks_before, descriptors_before = len(asyncio.all_tasks()), descriptors()
        for _ in range(ABORTS // AT_ONCE):
            clients = [await Client.connect(running.port) for _ in range(AT_ONCE)]
            for client in clients:
                await client.send(request)
            for client in clients:
                await client.until(seen)
            await eventually(is_in_phase)
            assert running.inflight == AT_ONCE
            for number, client in enumerate(clients):
                client.reset() if number % 2 else client.close()
            await eventually(is_at_rest)
            if up:
                up.requests.clear()
        await eventually(lambda: descriptors() == descriptors_before)
        await eventually(lambda: len(asyncio.all_tasks()) == tasks_before)
        await eventually(lambda: len(lines()) == ABORTS)
        said = (200, "client_closed") if seen else (499, "client_gone")
        assert {(line["status"], line["reason"]) for line in lines()} == {said}
        (endpoint,) = running.app.gateway.services[b"svc"].endpoints
        assert (endpoint.outcomes[Outcome.CLIENT_GONE], endpoint.errors_total, endpoint.load) == (ABORTS, 0, 0)


# ---------------------------------------------------------------- upstreams that misbehave


def says(data: bytes, then: str = "close") -> Script:
    """A script: read a head, say something, then close, reset or wait."""

    async def script(peer: Peer) -> None:
        await peer.request_head()
        with contextlib.suppress(ConnectionError):
            await peer.send(data)
            if then == "reset":
                peer.reset()
            elif then == "wait":
                await peer.ended()

    return script


MISBEHAVING = {
    "closes": says(b""),
    "resets": says(b"", "reset"),
    "closes within the head": says(b"HTTP/1.1 200 OK\r\nX: "),
    "resets within the head": says(b"HTTP/1.1 200 OK\r\nX: ", "reset"),
    "closes within a length": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
    "resets within a length": says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "reset"),
    "closes within chunks": says(HALF),
    "resets within chunks": says(HALF, "reset"),
    "closes within trailers": says(HALF + b"0\r\nX: y\r\n"),
    "resets until close": says(b"HTTP/1.1 200 OK\r\n\r\nhalf", "reset"),
    "bad chunks": says(HALF + b"zz\r\n", "wait"),
    "garbage": says(bytes(range(256)) * 100, "wait"),
    "zeros": says(b"\0" * 500_000, "wait"),
    "TLS": says(b"\x15\x03\x01\x00\x02\x02\x46"),
    "SMTP": says(b"220 mail.example ESMTP\r\n", "wait"),
    "a flood of 1xx": says(b"HTTP/1.1 102 Processing\r\n\r\n" * 20_000, "wait"),
    "10,000 fields": says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "wait"),
    "an endless head": says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000, "wait"),
    "10,000 trailers": says(HALF + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", "wait"),
    "an endless chunk line": says(HALF + b"1;" + b"x" * 1_000_000, "wait"),
}


@pytest.mark.parametrize("case", MISBEHAVING)
@pytest.mark.gen_test
async def test_a_misbehaving_upstream_affects_only_its_own_requests(serve: Serve, upstream: Start, case: str) -> None:
    bad, good = upstream(MISBEHAVING[case]), upstream(echo)
    running = await serve({"bad": [bad.url], "good": [good.url]})
    descriptors_before = descriptors()
    bystander = await running.client()
    for _ in range(20):
        client = await running.client()
        try:
            answer = await client.ask(get(b"/api/bad/x", method=b"POST", body=b"hello"))
        except Ended:
            pass  # reset, and its head with it
        else:
            assert not answer.complete if answer.status == 200 else problem(answer, 502, "upstream_unavailable")
        client.close()
        assert (await bystander.ask(get(b"/api/good/x"))).status == 200
    assert running.errors == 20
    await eventually(lambda: descriptors() <= descriptors_before + 5)  # the bystander's, the kept ones'


@pytest.mark.gen_test
async def test_a_head_that_drips_has_no_more_time_than_another(serve: Serve, upstream: Start) -> None:  # H13
    async def drips(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.01)

    running = await serve({"svc": [upstream(drips).url]}, HTTP_PROXY_TIMEOUT_MS="150")
    problem(await ask(running, get(b"/api/svc/x")), 504, "upstream_timeout")


@pytest.mark.parametrize("framing", ["length", "chunks", "until close"])
@pytest.mark.gen_test
async def test_an_answer_byte_by_byte_is_an_answer(serve: Serve, upstream: Start, framing: str) -> None:
    async def drips(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await peer.request()
        body = chunked(b"hel", b"lo") if framing == "chunks" else b"hello"
        fields = {"length": b"Content-Length: 5\r\n", "chunks": CHUNKED + b"\r\n", "until close": b""}[framing]
        for byte in b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body:
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.001)

    running = await serve({"svc": [upstream(drips).url]})
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)


@pytest.mark.gen_test
async def test_a_request_byte_by_byte_is_a_request(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    client = await running.client()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in get(b"/api/svc/x", CHUNKED, method=b"POST") + chunked(b"hel", b"lo"):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.response()).status == 200
    assert up.requests[0].body == b"hello"


# aiohttp CVE-2025-69229
TINY = [b"1\r\na\r\n" * 500_000, b"1\r\na\r\n" * 500_000 + b"0\r\n\r\n"]


@pytest.mark.gen_test(timeout=30)
async def test_a_megabyte_in_one_byte_chunks_up(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    client, bystander = await running.client(), await running.client()
    await client.send(get(b"/api/svc/x", CHUNKED, method=b"POST") + TINY[0])
    assert (await bystander.ask(get(b"/healthz"))).status == 200
    await client.send(TINY[1])
    assert (await client.response()).status == 200
    assert up.requests[-1].body == b"a" * 1_000_000


@pytest.mark.gen_test(timeout=30)
async def test_a_megabyte_in_one_byte_chunks_down(serve: Serve, upstream: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n"
    running = await serve({"svc": [upstream(plays(head, *TINY)).url]})
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.body, answer.complete) == (b"a" * 1_000_000, True)


# ---------------------------------------------------------------- any bytes at all


LINES = st.sampled_from(
    [b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 99", CHUNKED, b"Connection: close",
     b"Connection: x, y", b"Keep-Alive: timeout=5", b"Upgrade: x", b"Trailer: X", b"Via: 1.1 x", b"X: \xff", b"X:\ty ",
     b" folded", b": empty", b"no colon", b"Date: now", b"Proxy-Status: x", b"X-Request-Id: y",
     b"Content-Encoding: gzip", b"Expect: 100-continue"]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"zz\r\n", b"a\r\nhel"]
)


@st.composite
def messages(draw: st.DrawFn, starts: st.SearchStrategy[bytes]) -> bytes:
    """Mostly HTTP, with a byte or two of something else."""
    lines = [draw(starts), *draw(st.lists(LINES, max_size=4))]
    data = (
        b"\r\n".join(lines)
        + draw(st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n"]))
        + draw(BODIES)
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=2)) + data[at + draw(st.integers(0, 2)) :]
    return data


responses = st.lists(
    messages(
        st.sampled_from(
            [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 103 H", b"HTTP/1.1 100 C",
             b"HTTP/1.1 304 N", b"HTTP/1.1 500 E", b"HTTP/1.1 101 S", b"HTTP/2 200"]
        )
    ) | st.binary(max_size=20),
    max_size=3,
).map(b"".join)  # fmt: skip


def forget(running: Running) -> None:
    """Let go of the clients of one example."""
    for client in running.clients:
        client.close()
    running.clients.clear()


def test_whatever_an_upstream_says_the_client_is_told_an_end(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    planned: list[tuple[bytes, int, str]] = []

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            data, cut, then = planned[0]
            await peer.send(data[:cut])
            await asyncio.sleep(0)
            await peer.send(data[cut:])
            if then == "close":
                return
            if then == "reset":
                peer.reset()
                return

    async def journey(method: bytes) -> None:
        client = await running.client()
        with contextlib.suppress(Ended):  # a reset is an end that can be seen
            answer = await client.ask(get(b"/api/svc/x", method=method), method)
            assert 200 <= answer.status < 600
        client.close()
        assert (await ask(running, get(b"/healthz"))).status == 200
        await eventually(lambda: not running.inflight and not running.app.gateway.client.active)
        forget(running)

    async def start() -> Running:
        return await serve({"svc": [upstream(script).url]}, HTTP_PROXY_TIMEOUT_MS="40")

    run = io_loop.asyncio_loop.run_until_complete
    running = run(start())

    @fuzzing(75)
    @given(
        responses,
        st.integers(0, 200),
        st.sampled_from(["close", "close", "reset", "wait"]),
        st.sampled_from([b"GET", b"HEAD"]),
    )
    def survives(data: bytes, cut: int, then: str, method: bytes) -> None:
        planned[:] = [(data, cut, then)]
        run(journey(method))

    survives()


requests = st.lists(
    messages(
        st.sampled_from(
            [b"GET /api/svc/x HTTP/1.1\r\nHost: a", b"POST /api/svc/x HTTP/1.1\r\nHost: a",
             b"PUT /api/svc/%2e HTTP/1.1\r\nHost: a", b"POST /api/svc HTTP/1.0",
             b"GET /healthz HTTP/1.1\r\nHost: a", b"GET http://b/api/svc/ HTTP/1.1\r\nHost: a",
             b"DELETE /api/svc/../x HTTP/1.1\r\nHost: a"]
        )
    ) | st.binary(max_size=20),
    min_size=1,
    max_size=4,
).map(b"".join)  # fmt: skip


def test_an_upstream_gets_no_request_that_is_not_answered_by_it(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    """Each whole request at an upstream is answered to its client: no bytes of a refused request reach an upstream."""
    whole = 0

    async def script(peer: Peer) -> None:
        nonlocal whole
        while True:
            message = await peer.request()
            whole += 1
            assert message.target.startswith(b"/")
            await peer.send(reply(b"299 Theirs"))

    async def answered(data: bytes, cut: int) -> int:
        """Send, and count the upstream's own answers until the connection ends by itself."""
        client, count = await Client.connect(running.port), 0
        with contextlib.suppress(Ended, ConnectionError):
            await client.send(data[:cut])
            await asyncio.sleep(0)
            await client.send(data[cut:])
            while True:
                answer = await client.response()
                assert answer.complete
                assert answer.start.startswith(b"HTTP/1.1 ")
                count += answer.status == 299
        assert client.buffer == b""
        client.close()
        return count

    async def start() -> Running:
        shortly = dict.fromkeys(("HEADER_TIMEOUT_MS", "KEEPALIVE_TIMEOUT_MS", "CLIENT_IDLE_TIMEOUT_MS"), "50")
        return await serve({"svc": [upstream(script).url]}, **shortly)

    async def journey(batch: list[tuple[bytes, int]]) -> None:
        nonlocal whole
        whole = 0
        counts = await asyncio.gather(*(answered(*each) for each in batch))
        assert whole == sum(counts)
        assert (await ask(running, get(b"/healthz"))).status == 200
        forget(running)

    run = io_loop.asyncio_loop.run_until_complete
    running = run(start())

    @fuzzing(75)
    @given(st.lists(st.tuples(requests, st.integers(0, 200)), min_size=1, max_size=8))
    def survives(batch: list[tuple[bytes, int]]) -> None:
        run(journey(batch))

    survives()
