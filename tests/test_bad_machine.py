"""Gateways as processes on a machine that does not do what it should.

IDLE_TLS=10000 python -m pytest tests/test_bad_machine.py -k idle -s     the long form
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trustme

from benchmarks.machine import raise_descriptor_limit
from tests.support.event_streams import STREAM_HEAD
from tests.support.journeys import Start, problem
from tests.support.operators import KEY, ORIGIN, bearer, cookie_of, form, token
from tests.support.ports import free_port
from tests.support.processes import gateway_process
from tests.support.redis import StartRedis
from tests.support.sockets import Client, Ended, Message, Peer, echo, eventually, get
from tests.support.tls import pem_files
from tests.support.websockets import until
from tests.test_main import CLEAN, ROOT, UPSTREAMS, Process, processes, wait_for
from tornado_gateway.errors import OutOfSockets

__all__ = ["processes"]  # a fixture

IDLE_TLS = int(os.environ.get("IDLE_TLS", "60"))  # tests/long asks for more
BYTES_OF_TLS = 64 * 1024  # memory of the gateway for a connection: OpenSSL's state and buffers
SLACK = 16 * 1024 * 1024  # of the allocators

# SIGWINCH blocks the event loop for a while: Python runs the handler between two calls of the loop.
BLOCKED = """import signal, sys, time
from tornado_gateway.__main__ import main
from tornado_gateway.upkeep.service_manager import tell

def block(*_):
    tell("blocked")
    time.sleep(0.5)
    tell("free")

signal.signal(signal.SIGWINCH, block)
sys.exit(main([]))"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_hears_of_a_loop_that_turns_and_not_of_a_blocked_loop(tmp_path: Path, workers: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        of_systemd = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        process = Process(by=("-c", BLOCKED), WEB_CONCURRENCY=workers, **of_systemd)
        try:
            assert systemd.recv(100).startswith(b"READY=1\n")
            assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process.popen.send_signal(signal.SIGWINCH)
            told = [systemd.recv(100)]
            while told[-1] != b"free":
                told.append(systemd.recv(100))
            assert told[-2:] == [b"blocked", b"free"]
            assert systemd.recv(100) == b"WATCHDOG=1"
        finally:
            assert process.end(signal.SIGTERM)[0] == 0


# A gateway with few descriptors.
FEW = """import resource, sys
from tornado_gateway.__main__ import main
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
sys.exit(main([]))"""


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize(
    ("variables", "target"), [({}, b"/api/svc/x"), ({"MAX_CONNECTIONS": "10000"}, b"/healthz")],
    ids=["within the descriptors", "beyond the descriptors"],
)  # fmt: skip
@pytest.mark.gen_test(timeout=30)
async def test_more_clients_than_descriptors_cost_themselves_alone(
    upstream: Start, processes: list[Process], variables: dict[str, str], target: bytes
) -> None:
    async def ask(client: Client) -> int:
        with contextlib.suppress(Ended):
            return (await client.ask(get(target))).status
        return 0

    services = json.dumps({"svc": [upstream(echo).url]})
    process = Process(by=("-c", FEW), UPSTREAMS=services, ACCESS_LOG="false", **variables)
    processes.append(process)
    stays = await Client.connect(process.port)
    assert await ask(stays) == 200
    for _ in range(2):
        clients = [await Client.connect(process.port) for _ in range(400)]
        statuses = Counter(await asyncio.gather(*map(ask, clients)))
        assert statuses[200] > 50 and set(statuses) <= {0, 200, 503}, statuses
        assert (await stays.ask(get(b"/healthz"))).status == 200
        for each in clients:
            each.close()
        while True:  # the ends of the clients may still be on their way
            client = await Client.connect(process.port)
            status = await ask(client)
            client.close()
            if status == 200:
                break
            await asyncio.sleep(0.02)
    stays.close()
    code, _, told = await asyncio.to_thread(process.end, signal.SIGTERM)
    assert code == 0
    assert told.count("\n") < 20, told  # no line for each connection


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.parametrize(
    "variables", [{"EVENT_LOOP": "uvloop"}, {"EVENT_LOOP": "asyncio"}, {"WEB_CONCURRENCY": "2"}],
    ids=["uvloop", "asyncio", "two workers"],
)  # fmt: skip
@pytest.mark.gen_test(timeout=30)
async def test_a_lack_of_descriptors_is_told_once(processes: list[Process], variables: dict[str, str]) -> None:
    process = Process(by=("-c", FEW), ACCESS_LOG="false", MAX_CONNECTIONS="10000", **variables)
    processes.append(process)
    told = ""
    for is_first in (True, False):
        clients = [await Client.connect(process.port) for _ in range(900)]
        while is_first and "no descriptor is left of 300: connections are not accepted" not in told:
            told += await asyncio.to_thread(process.popen.stderr.readline)
        for each in clients:
            each.close()
    code, _, rest = await asyncio.to_thread(process.end, signal.SIGTERM)
    told += rest
    workers = int(variables.get("WEB_CONCURRENCY", "1"))
    assert code == 0
    assert 1 <= told.count("no descriptor is left") <= workers
    assert told.count("cannot accept") <= workers and "Traceback" not in told, told


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=30)
async def test_a_gateway_that_cannot_connect_for_want_of_descriptors_blames_no_endpoint(
    upstream: Start, processes: list[Process]
) -> None:
    async def ask(client: Client) -> Message | None:
        with contextlib.suppress(Ended):
            return await client.ask(get(b"/api/svc/x"))
        return None

    services = json.dumps({"svc": [upstream(echo).url, upstream(echo).url]})
    process = Process(by=("-c", FEW), UPSTREAMS=services, ACCESS_LOG="false", MAX_CONNECTIONS="10000")
    processes.append(process)
    descriptors = Path(f"/proc/{process.popen.pid}/fd")
    clients = [await Client.connect(process.port) for _ in range(400)]
    await eventually(lambda: len(list(descriptors.iterdir())) == 300)
    answers = [each for each in await asyncio.gather(*map(ask, clients)) if each]
    assert len(answers) > 100
    for each in answers:
        assert problem(each, 503, "overloaded")["message"] == OutOfSockets("").message
        assert each.get(b"retry-after") == b"1"
    for each in clients:
        each.close()
    await eventually(lambda: len(list(descriptors.iterdir())) < 100)
    stays = await Client.connect(process.port)
    for _ in range(20):
        assert (await stays.ask(get(b"/api/svc/x"))).status == 200
    metrics = (await stays.ask(get(b"/metrics"))).body.decode()
    for name, labels, value in (
        ("gateway_upstream_requests_total", '.*outcome="failure".*', "0.0"),
        ("gateway_breaker_openings_total", ".*", "0.0"),
        ("gateway_breaker_state", ".*", "0.0"),
        ("gateway_connect_failures_total", 'reason="out_of_sockets"', f"{len(answers)}.0"),
    ):
        assert set(re.findall(rf"^{name}{{{labels}}} (\S+)$", metrics, re.MULTILINE)) == {value}, name
    stays.close()
    code, _, told = await asyncio.to_thread(process.end, signal.SIGTERM)
    assert code == 0
    assert told.count("cannot connect to services: ") == 1, told


def answers(port: int, count: int) -> int:
    """The number of requests that a gateway has answered."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        reader = client.makefile("rb")
        for number in range(count):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            if reader.readline() != b"HTTP/1.1 200 OK\r\n":
                return number
            size = 0
            while (line := reader.readline()) != b"\r\n":
                size = int(line[15:]) if line.lower().startswith(b"content-length:") else size
            reader.read(size)
    return count


def test_a_log_on_a_full_device_costs_lines_alone(processes: list[Process]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = Process(output=full.fileno())
    processes.append(process)
    assert answers(process.port, 500) == 500
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == 0


# $0 is the folder, $1 the interpreter.
SMALL_DISK = 64 * 1024  # bytes
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=64k none "$0" && exec "$1" -m tornado_gateway >>"$0/log" 2>&1'


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_a_disk_that_is_full_for_a_while_costs_the_lines_of_that_while(tmp_path: Path) -> None:
    port = free_port()
    variables = {"HOST": "127.0.0.1", "PORT": str(port), "UPSTREAMS": UPSTREAMS}
    command = ["unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(tmp_path), sys.executable]
    popen = subprocess.Popen(command, env=CLEAN | variables, cwd=ROOT, text=True)
    try:
        wait_for(port, popen)
        log = Path(f"/proc/{popen.pid}/root{tmp_path}/log")  # the mount is the process's alone

        def is_told() -> bool:
            assert answers(port, 1) == 1  # one line, which fits once the lines that wait have gone
            text = log.read_text()
            if len(text) > SMALL_DISK - 512:  # full, or nearly so: no line is written any more
                os.truncate(log, 0)
            return "log lines were dropped" in text

        assert answers(port, 1000) == 1000
        until(is_told, "the loss is told")
    finally:
        popen.terminate()
        assert popen.wait(20) == 0


# ---------------------------------------------------------------- TLS

HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What clients trust. Made once: the authorities of the system take longer to read than a handshake."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    certificate, key = pem_files(authority.issue_cert("a.test"), tmp_path, "a.test")
    return {"TLS_CERT": certificate, "TLS_KEY": key, "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0"}


def call(port: int, trusting: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection that has had an answer."""
    sock = trusting.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname="a.test")
    ask(sock)
    return sock


def ask(sock: ssl.SSLSocket) -> None:
    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a.test\r\n\r\n")
    told = b""
    while b"}" not in told:
        piece = sock.recv(4096)
        assert piece, told
        told += piece
    assert told.startswith(b"HTTP/1.1 200 "), told


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=40)
async def test_handshakes_that_never_go_on_end_and_take_nothing_from_others(
    trusting: ssl.SSLContext, tls: dict[str, str]
) -> None:
    async with gateway_process({"svc": ["http://127.0.0.1:1"]}, **tls, HEADER_TIMEOUT_MS="1000") as gateway:
        (await asyncio.to_thread(call, gateway.port, trusting)).close()
        before, halves = gateway.memory, [await Client.connect(gateway.port) for _ in range(300)]
        for each in halves:
            await each.send(HALF_A_HELLO)
        (await asyncio.to_thread(call, gateway.port, trusting)).close()
        assert gateway.memory - before < 300 * BYTES_OF_TLS + SLACK
        for each in halves:
            await each.ended()
            each.close()
        (await asyncio.to_thread(call, gateway.port, trusting)).close()


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=60 + IDLE_TLS / 20)
async def test_idle_connections_over_tls_cost_little(trusting: ssl.SSLContext, tls: dict[str, str]) -> None:
    raise_descriptor_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    variables = {"KEEPALIVE_TIMEOUT_MS": "3600000", "WEB_CONCURRENCY": str(-(-2 * IDLE_TLS // (soft - 1000)))}
    async with gateway_process({"svc": ["http://127.0.0.1:1"]}, **tls, **variables) as gateway:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(await asyncio.to_thread(call, gateway.port, trusting))
            before = gateway.memory
            others = [await asyncio.to_thread(call, gateway.port, trusting) for _ in range(IDLE_TLS)]
            for each in others:
                stack.enter_context(each)
            grown = gateway.memory - before
            sys.stdout.write(f"{IDLE_TLS} idle connections over TLS: {grown / IDLE_TLS / 1024:.1f} KiB each\n")
            assert grown < IDLE_TLS * BYTES_OF_TLS + SLACK
            for each in (first, *others[:: max(1, IDLE_TLS // 100)]):
                await asyncio.to_thread(ask, each)


# ---------------------------------------------------------------- Redis


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=40)
async def test_three_gateways_answer_while_redis_is_killed_starts_again_and_stands_still(
    upstream: Start, redis_server: StartRedis
) -> None:
    async def load(port: int) -> None:
        client = await Client.connect(port)
        while not is_over:
            statuses[(await client.ask(get(b"/api/svc/x"))).status] += 1
            await asyncio.sleep(0.002)
        client.close()

    async def all_are(up: float) -> None:
        while [await each.figure("gateway_rate_limit_store_up") for each in gateways] != [up] * 3:
            await asyncio.sleep(0.05)

    is_over, statuses, server = False, Counter[int](), redis_server()
    services = {"svc": [upstream(echo).url]}
    variables = {"RATE_LIMITS": "1000000/d", "REDIS_URL": server.url, "CACHE_ENABLED": "true"}
    async with contextlib.AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(gateway_process(services, **variables)) for _ in range(3)]
        loads = asyncio.gather(*[load(each.port) for each in gateways])
        for take, give in ((server.stop, server.start), (server.freeze, server.thaw)):
            await all_are(1.0)
            take()
            await all_are(0.0)
            seen = statuses.total()
            await eventually(lambda seen=seen: statuses.total() > seen + 100)
            await asyncio.to_thread(give)
            await all_are(1.0)
        is_over = True
        await loads
        assert set(statuses) == {200}, statuses


# ---------------------------------------------------------------- watching

# SIGWINCH sets the clock of the day: an hour forward, then two hours back.
STEPPED = """import signal, sys, time
real, steps, now = time.time, iter([3600.0, -3600.0]), 0.0

def step(*_):
    global now
    now = next(steps)
    print("stepped", flush=True)

time.time = lambda: real() + now
signal.signal(signal.SIGWINCH, step)
from tornado_gateway.__main__ import main
sys.exit(main([]))"""


async def ticks(peer: Peer) -> None:
    """An event stream."""
    await peer.request()
    await peer.send(STREAM_HEAD)
    with contextlib.suppress(Ended, ConnectionError):
        while True:
            await peer.send(b"6\r\ndata: \r\n")
            await asyncio.sleep(0.02)


def numbers_of(said: object) -> list[float]:
    """Each number of what a page says."""
    if isinstance(said, dict | list):
        return [each for one in (said.values() if isinstance(said, dict) else said) for each in numbers_of(one)]
    return [said] if isinstance(said, int | float) else []


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=30)
async def test_a_clock_that_is_set_ends_nothing_and_renews_no_limit(upstream: Start, processes: list[Process]) -> None:
    services = json.dumps({"svc": [upstream(echo).url], "events": [upstream(ticks).url]})
    variables = {"RATE_LIMITS": "1000/d", "AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "ACCESS_LOG": "false"}
    process = Process(by=("-c", STEPPED), UPSTREAMS=services, **variables)
    processes.append(process)
    client, events, viewer = [await Client.connect(process.port) for _ in range(3)]
    logged_in = await client.ask(form(b"/admin/login", ORIGIN, credential=token()))
    assert logged_in.status == 303
    session = cookie_of(logged_in)
    await events.send(get(b"/sse/events/x", bearer()))
    await viewer.send(get(b"/admin/events", session))
    await viewer.until(b"event: whole")
    left = 1000
    for _ in range(2):
        process.popen.send_signal(signal.SIGWINCH)
        assert await asyncio.to_thread(process.popen.stdout.readline) == "stepped\n"
        answer = await client.ask(get(b"/api/svc/x", bearer()))
        remaining = int(answer.get(b"x-ratelimit-remaining") or -1)
        assert answer.status == 200 and 0 < remaining < left, answer
        left = remaining
        events.buffer = b""
        await events.until(b"data: ")
        viewer.buffer = b""
        await viewer.until(b"event: change")
        stats = await client.ask(get(b"/admin/stats", session))
        assert stats.status == 200 and min(numbers_of(json.loads(stats.body))) >= 0
    for each in (client, events, viewer):
        each.close()
    assert (await asyncio.to_thread(process.end, signal.SIGTERM))[0] == 0


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=30)
async def test_a_viewer_that_never_reads_takes_little_memory_and_is_let_go() -> None:
    services = {f"service-{number}": ["http://127.0.0.1:1"] for number in range(100)}
    async with gateway_process(services, CLIENT_IDLE_TIMEOUT_MS="500") as gateway:
        reads = await Client.connect(gateway.port)
        await reads.send(get(b"/admin/events"))
        await reads.until(b"event: change")
        before = gateway.memory
        stalled = [await Client.connect(gateway.port, receive_buffer=2048) for _ in range(20)]
        for each in stalled:
            await each.send(get(b"/admin/events"))
        while await gateway.figure("gateway_client_connections") < 20 + 2:
            await asyncio.sleep(0.02)
        most = gateway.memory
        while await gateway.figure("gateway_client_connections") > 2:
            most = max(most, gateway.memory)
            await asyncio.sleep(0.1)
        assert most - before < 20 * 2**20
        reads.buffer = b""
        await reads.until(b"event: change")
        for each in (reads, *stalled):
            each.close()
