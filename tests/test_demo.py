"""The demo's upstreams and traffic, on a real event loop with real clients."""

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import json
import logging
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketProtocol13
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.sockets import eventually
from tornado_gateway import demo as module
from tornado_gateway.demo import Demo, banner

Services = dict[str, list[str]]


class Scripted(random.Random):
    """A source whose random() takes turns through the given values."""

    def __init__(self, *values: float) -> None:
        super().__init__(0)
        self._values = itertools.cycle(values)

    def random(self) -> float:
        return next(self._values)


def other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        _, running = await asyncio.wait(tasks, timeout=5)
        assert not running


def playing(**options: Any) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test on its own loop with a started demo, and check what stop() leaves: nothing."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        async def play(**arguments: Any) -> None:
            demo = Demo(**options)
            services = await demo.start()
            try:
                async with httpx.AsyncClient(timeout=10) as http:
                    await test(services, http, **arguments)
            finally:
                await asyncio.wait_for(demo.stop(), 2)
            assert not other_tasks()

        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            asyncio.run(play(**arguments))

        signature = inspect.signature(test)
        own = list(signature.parameters.values())[2:]
        run.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return run

    return decorate


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens to a connection, a demo does not fill its user's terminal."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


def address(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


# ---- api


@playing()
async def test_every_service_has_its_instances_on_ports_of_their_own(
    services: Services, http: httpx.AsyncClient
) -> None:
    assert {name: len(urls) for name, urls in services.items()} == {
        "api": 2,
        "slow": 2,
        "flaky": 3,
        "clock": 1,
        "chat": 1,
    }
    urls = [url for urls in services.values() for url in urls]
    assert len(set(urls)) == len(urls)
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


@playing()
async def test_both_api_instances_describe_themselves(services: Services, http: httpx.AsyncClient) -> None:
    answers = [(await http.get(url)).json() for url in services["api"]]
    assert [answer["instance"] for answer in answers] == ["api-1", "api-2"]
    assert {"GET /items", "POST /echo", "?delay=<ms>", "?status=<code>"} <= answers[0]["ask"].keys()
    assert answers[0]["ask"] == answers[1]["ask"]


@playing()
async def test_items_are_listed_and_found_by_number(services: Services, http: httpx.AsyncClient) -> None:
    url = services["api"][0]
    items = (await http.get(f"{url}/items")).json()["items"]
    last = (await http.get(f"{url}/items/{len(items)}")).json()
    assert {"id": last["id"], "name": last["name"]} == items[-1]


@pytest.mark.parametrize("path", ["/items/0", "/items/9", "/items/x", "/items/99999999999", "/nowhere"])
@playing()
async def test_what_does_not_exist_is_a_404_in_json(services: Services, http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(services["api"][0] + path)
    assert response.status_code == 404
    assert response.json()["error"] == "Not Found"


@playing()
async def test_head_answers_as_get_without_the_body(services: Services, http: httpx.AsyncClient) -> None:
    url = f"{services['api'][0]}/items"
    get, head = await http.get(url), await http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@playing()
async def test_echo_returns_the_request_as_it_arrived(services: Services, http: httpx.AsyncClient, method: str) -> None:
    url = f"{services['api'][0]}/echo?a=b%20c&a"
    echo = (await http.request(method, url, headers={"X-Two": "2"}, content="grüße".encode())).json()
    assert (echo["method"], echo["path"], echo["query"], echo["body"]) == (method, "/echo", "a=b%20c&a", "grüße")
    assert echo["headers"]["X-Two"] == "2"


@pytest.mark.parametrize("path", ["/", "/items", "/items/3", "/echo", "/bytes/5", "/nowhere"])
@pytest.mark.parametrize("status", [200, 204, 304, 418, 503, 599])
@playing()
async def test_any_path_answers_with_a_status_on_demand(
    services: Services, http: httpx.AsyncClient, path: str, status: int
) -> None:
    response = await http.get(f"{services['api'][0]}{path}?status={status}")
    assert response.status_code == status
    assert status in (204, 304) or response.json()["status"] == status


@playing()
async def test_any_path_answers_late_on_demand(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    assert (await http.get(f"{services['api'][0]}/items/1?delay=60")).json()["id"] == 1
    assert time.monotonic() - began >= 0.06


@pytest.mark.parametrize(
    "target",
    [
        *("/?delay=30001", "/?delay=-1", "/?delay=", "/?delay=soon", "/?delay=٣"),
        *("/?status=199", "/?status=600", "/?status=ok"),
        *("/bytes/1073741825", "/bytes/-1", "/bytes/many", f"/bytes/{'9' * 5000}"),
    ],
)
@playing()
async def test_a_number_out_of_bounds_is_a_400_that_says_so(
    services: Services, http: httpx.AsyncClient, target: str
) -> None:
    response = await http.get(services["api"][0] + target)
    assert response.status_code == 400
    assert "is a whole number from" in response.json()["error"]


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
@playing()
async def test_bytes_sends_as_many_as_asked(services: Services, http: httpx.AsyncClient, size: int) -> None:
    url = f"{services['api'][0]}/bytes/{size}"
    assert len((await http.get(url)).content) == size
    assert (await http.head(url)).headers["Content-Length"] == str(size)


@playing()
async def test_bytes_writes_no_faster_than_it_is_read(services: Services, http: httpx.AsyncClient) -> None:
    written = 0
    send = module.Upstream.send

    async def counted(self: module.Upstream, chunk: bytes) -> None:
        nonlocal written
        written += len(chunk)
        await send(self, chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Upstream, "send", counted)
        reader, writer = await asyncio.open_connection(*address(services["api"][0]))
        writer.write(b"GET /bytes/1073741824 HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(2**20)
        assert written < 2**26  # what was read, plus what the kernel and this reader buffer
        handlers = other_tasks()
        writer.close()
        await ended(handlers)


# ---- slow, flaky


@playing()
async def test_slow_has_a_fast_and_a_slow_instance(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    assert (await http.get(services["slow"][0])).json()["delay"] == 0.02
    between = time.monotonic()
    assert (await http.get(f"{services['slow'][1]}/any/path")).json()["delay"] == 0.3
    assert between - began >= 0.02
    assert time.monotonic() - between >= 0.3


@playing(rng=Scripted(0.49, 0.5))
async def test_the_second_flaky_instance_fails_as_chance_has_it(services: Services, http: httpx.AsyncClient) -> None:
    assert [(await http.get(services["flaky"][1])).status_code for _ in range(4)] == [503, 200, 503, 200]


@playing(rng=Scripted(0.0))
async def test_the_first_flaky_instance_never_fails(services: Services, http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{services['flaky'][0]}/any")).json() == {"instance": "flaky-1", "ok": True}


@playing()
async def test_the_third_flaky_instance_refuses_connections(services: Services, http: httpx.AsyncClient) -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address(services["flaky"][2]))


# ---- clock


async def first_blocks(services: Services, count: int, path: str = "/events", last: str = "") -> list[dict[str, str]]:
    """The stream's first blocks, each as its fields; then the client leaves and its handler with it."""
    reader, writer = await asyncio.open_connection(*address(services["clock"][0]))
    writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\nLast-Event-ID: {last}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream\r\n" in head
    blocks = [(await reader.readuntil(b"\n\n")).decode().split("\n")[:-2] for _ in range(count)]
    handlers = other_tasks()
    assert handlers
    writer.close()
    await ended(handlers)
    return [dict(line.split(": ", 1) for line in block) for block in blocks]


@playing(tick=0.001)
async def test_clock_counts_its_ticks(services: Services, http: httpx.AsyncClient) -> None:
    retry, *ticks = await first_blocks(services, 4)
    assert retry == {"retry": "1000"}
    assert [(tick["event"], tick["id"]) for tick in ticks] == [("tick", "1"), ("tick", "2"), ("tick", "3")]
    assert [json.loads(tick["data"])["tick"] for tick in ticks] == [1, 2, 3]


@pytest.mark.parametrize(("last", "following"), [("41", "42"), ("", "1"), ("x", "1"), ("-1", "1"), ("9" * 5000, "1")])
@playing(tick=0.001)
async def test_clock_continues_after_the_last_event_id(
    services: Services, http: httpx.AsyncClient, last: str, following: str
) -> None:
    assert (await first_blocks(services, 2, last=last))[1]["id"] == following


@pytest.mark.parametrize(
    ("query", "last", "following"),
    [
        pytest.param("?last_event_id=41", "", "42", id="only the query"),
        pytest.param("?last_event_id=41", "70", "71", id="the newer field too"),
        pytest.param("?last_event_id=x", "", "1", id="not a number"),
        pytest.param("?last_event_id=", "", "1", id="empty"),
    ],
)
@playing(tick=0.001)
async def test_clock_takes_the_last_event_id_from_the_query_too(
    services: Services, http: httpx.AsyncClient, query: str, last: str, following: str
) -> None:
    assert (await first_blocks(services, 2, f"/events{query}", last))[1]["id"] == following


@playing(tick=60.0)
async def test_clock_ticks_at_the_interval_asked_for(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    await first_blocks(services, 3, "/events?every=50")
    assert 0.05 <= time.monotonic() - began < 10


@pytest.mark.parametrize("every", ["49", "60001", "x"])
@playing()
async def test_clock_refuses_other_intervals(services: Services, http: httpx.AsyncClient, every: str) -> None:
    assert (await http.get(f"{services['clock'][0]}/events?every={every}")).status_code == 400


@playing()
async def test_clock_answers_head_without_a_stream(services: Services, http: httpx.AsyncClient) -> None:
    response = await http.head(f"{services['clock'][0]}/events")
    assert response.headers["Content-Type"] == "text/event-stream"


@pytest.mark.parametrize(("service", "path"), [("clock", "GET /events"), ("chat", "WebSocket /room")])
@playing()
async def test_clock_and_chat_say_what_they_are(
    services: Services, http: httpx.AsyncClient, service: str, path: str
) -> None:
    assert path in (await http.get(services[service][0])).json()["ask"]


# ---- page


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@playing()
async def test_a_browser_gets_the_page_and_nobody_else(services: Services, http: httpx.AsyncClient) -> None:
    url = services["chat"][0]
    page, head, other = await http.get(url, headers=BROWSER), await http.head(url, headers=BROWSER), await http.get(url)
    assert page.headers["Content-Type"] == head.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert head.headers["Content-Length"] == page.headers["Content-Length"]
    refusing = await http.get(url, headers={"Accept": "text/html;q=0, */*"})
    assert other.json()["instance"] == refusing.json()["instance"] == "chat-1"
    assert page.headers["Vary"] == other.headers["Vary"] == "Accept"


@playing()
async def test_the_page_needs_nothing_from_elsewhere_and_may_not_ask_for_it(
    services: Services, http: httpx.AsyncClient
) -> None:
    page = await http.get(services["chat"][0], headers=BROWSER)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert re.findall(r'(?:src|href)=(?!"data:).*', page.text) == []
    assert "@import" not in page.text
    assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write", page.text)


@playing()
async def test_without_its_file_the_page_is_what_other_clients_get(
    services: Services, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE", tmp_path / "demo.html")
        assert (await http.get(services["chat"][0], headers=BROWSER)).json()["instance"] == "chat-1"


# ---- chat


def enter(services: Services, path: str, **options: Any) -> connect:
    host, port = address(services["chat"][0])
    return connect(f"ws://{host}:{port}{path}", ping_interval=None, **options)


async def hear(member: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(member.recv(), 5)


async def hear_many(member: ClientConnection, count: int) -> set[str | bytes]:
    return {await hear(member) for _ in range(count)}


@playing()
async def test_the_echo_keeps_text_and_binary_apart(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/echo", origin="https://gateway.example") as client:
        for message in ("grüße", b"\x00\xff", "", b"", "x" * 200_000):
            await client.send(message)
            assert await hear(client) == message


@playing()
async def test_the_room_tells_all_members_who_comes_speaks_and_leaves(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter(services, "/room") as one:
        assert await hear(one) == "* guest-1 joined"
        async with enter(services, "/room") as two:
            assert [await hear(one), await hear(two)] == ["* guest-2 joined"] * 2
            await two.send("hello")
            assert [await hear(one), await hear(two)] == ["guest-2: hello"] * 2
            await one.send(b"bytes \xff")
            assert [await hear(one), await hear(two)] == ["guest-1: bytes \ufffd"] * 2
        assert await hear(one) == "* guest-2 left"


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ("Ada", "Ada"),
        ("J%C3%BCrgen%20O.-2", "Jürgen O.-2"),
        ("x" * 24, "x" * 24),
        *[(bad, "guest-1") for bad in ("", "x" * 25, "*%20Ada", "Ada:", "a%0Ab", "%20", "%3Cb%3E")],
    ],
)
@playing()
async def test_a_member_is_called_as_it_asks_if_that_is_a_name(
    services: Services, http: httpx.AsyncClient, asked: str, called: str
) -> None:
    async with enter(services, f"/room?name={asked}") as member:
        assert await hear(member) == f"* {called} joined"
        await member.send("hello")
        assert await hear(member) == f"{called}: hello"


@playing()
async def test_the_room_and_the_echo_do_not_hear_each_other(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/echo") as echo, enter(services, "/room") as member:
        await hear(member)
        await echo.send("mine")
        assert await hear(echo) == "mine"
        await member.send("ours")
        assert await hear(member) == "guest-1: ours"


@playing()
async def test_a_long_line_is_cut(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/room") as member:
        await hear(member)
        await member.send("x" * 10_000)
        assert await hear(member) == f"guest-1: {'x' * module.ROOM_LINE}"


@playing()
async def test_a_burst_longer_than_the_backlog_reaches_everybody(services: Services, http: httpx.AsyncClient) -> None:
    lines = [f"guest-1: {n}" for n in range(4 * module.ROOM_BACKLOG)]
    async with enter(services, "/room") as one, enter(services, "/room") as two:
        assert [await hear(one), await hear(one), await hear(two)] == [
            *("* guest-1 joined", "* guest-2 joined"),
            "* guest-2 joined",
        ]
        sending = asyncio.gather(*(one.send(line.removeprefix("guest-1: ")) for line in lines))
        for line in lines:
            assert [await hear(one), await hear(two)] == [line, line]
        await sending


# Together far more than the kernel holds for a reader who does not come.
LONG_LINE = "\N{MUSICAL SYMBOL G CLEF}" * module.ROOM_LINE
MANY = 4_000


def enter_without_reading(services: Services, **options: Any) -> connect:
    """Enter the room as somebody whose kernel and library buffer little until recv() is called."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(address(services["chat"][0]))
    return enter(services, "/room", sock=narrow, max_queue=1, **options)


@playing()
async def test_a_member_who_does_not_read_is_let_go_and_holds_up_nobody(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
        await hear(fast)
        for _ in range(MANY):
            await fast.send(LONG_LINE)
            assert await hear(fast) == f"guest-2: {LONG_LINE}"
        lines = 0
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await hear(slow)
                lines += 1
        assert lines < MANY
        assert closed.value.rcvd
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "too slow")
        assert await hear(fast) == "* guest-1 left"


@playing()
async def test_a_member_who_vanishes_with_lines_on_their_way_is_only_a_member_that_left(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
        await hear(fast)
        for _ in range(MANY):
            await fast.send(LONG_LINE)
            await hear(fast)
        slow.transport.abort()
        assert await hear(fast) == "* guest-1 left"
    gc.collect()  # would log an exception that nobody has seen


@playing()
async def test_a_member_who_speaks_without_listening_waits_for_itself(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter(services, "/room") as two:
        await hear(two)
        async with enter_without_reading(services, write_limit=2**24) as one:
            await hear(two)
            for _ in range(MANY):
                await one.send(LONG_LINE)
            heard = 0
            with contextlib.suppress(TimeoutError):  # as far as the room goes while "one" does not listen
                while True:
                    await asyncio.wait_for(two.recv(), 0.3)
                    heard += 1
            assert heard < MANY
            assert await hear(one) == "* guest-2 joined"
            to_one, to_two = await asyncio.gather(hear_many(one, MANY), hear_many(two, MANY - heard))
            assert to_one | to_two == {f"guest-2: {LONG_LINE}"}


# ---- stop


async def refuses(base_url: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address(base_url))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def test_stop_ends_whatever_is_under_way() -> None:
    async def scenario() -> None:
        demo = Demo(tick=60.0, slow=(60.0,))
        services = await demo.start()
        demo.start_traffic(services["api"][0])
        busy = [
            (services["api"][0], b"GET /items?delay=30000"),
            (services["api"][1], b"GET /bytes/1073741824"),
            (services["slow"][0], b"GET /"),
            (services["clock"][0], b"GET /events"),
            (services["api"][0], b"POST /echo HTTP/1.1\r\nContent-Length: 9"),
        ]
        writers = []
        for url, head in busy:
            reader, writer = await asyncio.open_connection(*address(url))
            rest = b"\r\nHost: x\r\n\r\n" if b"HTTP/1.1" in head else b" HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(head + rest)
            writers.append(writer)
            if b"bytes" in head or b"events" in head:
                await reader.readline()
        async with enter(services, "/echo") as echo, enter(services, "/room") as one, enter(services, "/room") as two:
            await hear(one)
            await asyncio.wait_for(demo.stop(), 2)
            for client in (echo, one, two):
                with pytest.raises(ConnectionClosed):
                    while True:
                        await hear(client)
        for writer in writers:
            writer.close()
        assert not other_tasks()
        assert all([await refuses(url) for urls in services.values() for url in urls])

    asyncio.run(scenario())


def test_stop_does_not_wait_for_a_member_that_was_let_go() -> None:
    async def scenario() -> None:
        demo = Demo()
        services = await demo.start()
        async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
            await hear(fast)
            for _ in range(MANY):
                await fast.send(LONG_LINE)
                await hear(fast)
            await asyncio.wait_for(demo.stop(), 2)
            slow.transport.abort()
        assert not other_tasks()

    asyncio.run(scenario())


def test_stop_may_come_twice_or_before_start_and_start_may_follow() -> None:
    async def scenario() -> None:
        demo = Demo()
        await demo.stop()
        for _ in range(2):
            services = await demo.start()
            assert not await refuses(services["api"][0])
            await demo.stop()
            await demo.stop()
            assert await refuses(services["api"][0])

    asyncio.run(scenario())


# ---- traffic


class Gateway:
    """A stand-in for the gateway: notes targets by connection and answers as told.

    Attributes:
        connections: of each connection, the targets of its visits.
        held: the targets of what would be long-lived.
    """

    def __init__(self, answer: bytes, *, closing: bool = False, wanted: int = 1) -> None:
        self.connections: list[list[str]] = []
        self.held: list[str] = []
        self._answer, self._closing, self._wanted = answer, closing, wanted
        self._enough = asyncio.Event()

    async def enough(self) -> None:
        await asyncio.wait_for(self._enough.wait(), 5)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        targets: list[str] = []
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split()[1].decode()
                (targets if target.startswith("/api/") else self.held).append(target)
                if targets == [target]:
                    self.connections.append(targets)
                if sum(map(len, self.connections)) >= self._wanted:
                    self._enough.set()
                writer.write(self._answer)
                if self._closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()


async def visited(gateway: Gateway, **options: Any) -> None:
    """Let traffic run until the gateway has seen enough of it."""
    demo = Demo(random.Random(7), pause=0.001, **options)
    async with await asyncio.start_server(gateway.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        demo.start_traffic(f"http://127.0.0.1:{port}")
        try:
            await gateway.enough()
        finally:
            await demo.stop()
    await ended(other_tasks())


def test_traffic_visits_every_service_over_connections_that_last() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 503 Any\r\ncontent-LENGTH: 5\r\n\r\nhello", wanted=200)
        await visited(gateway, visitors=3)
        assert len(gateway.connections) == 3
        targets = {target for connection in gateway.connections for target in connection}
        assert {"/api/slow/", "/api/flaky/", "/api/api/items"} <= targets

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "closing"),
    [
        pytest.param(b"", True, id="no answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", True, id="cut answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, id="closed after the answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, id="no length"),
        pytest.param(b"x" * 200_000, False, id="no end of the head"),
    ],
)
def test_traffic_comes_back_after_a_bad_answer(answer: bytes, closing: bool) -> None:
    async def scenario() -> None:
        gateway = Gateway(answer, closing=closing, wanted=6)
        await visited(gateway, visitors=1)
        assert len(gateway.connections) >= 6

    asyncio.run(scenario())


def test_traffic_waits_for_a_gateway_that_is_not_there_yet() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        demo = Demo(pause=0.001, visitors=1)
        demo.start_traffic(f"http://127.0.0.1:{port}")
        assert await refuses(f"http://127.0.0.1:{port}")
        async with await asyncio.start_server(gateway.serve, "127.0.0.1", port):
            await gateway.enough()
            await demo.stop()
        await ended(other_tasks())

    asyncio.run(scenario())


def test_traffic_tries_a_stream_and_a_websocket_again_with_longer_and_longer_pauses() -> None:
    async def scenario() -> None:
        gateway = Gateway(b"HTTP/1.1 503 Any\r\nContent-Length: 0\r\n\r\n", closing=True, wanted=400)
        await visited(gateway, visitors=1)
        for target in (module.STREAM, module.SOCKET):
            assert 3 <= gateway.held.count(target) < 20

    asyncio.run(scenario())


class Streams:
    """The demo's own stream and echo at the gateway's paths; everything else is a 404."""

    def __init__(self) -> None:
        self.sockets: set[module.EchoSocket] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        routes = [("/sse/clock/events", module.Clock), ("/ws/chat", module.EchoSocket)]
        self.server = HTTPServer(
            Application(
                list(routes), log_function=lambda _: None, sockets=self.sockets, tasks=self.tasks, tick=0.001, about={}
            )
        )

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        sockets = bind_sockets(0, "127.0.0.1", socket.AF_INET)
        self.server.add_sockets(sockets)
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.server.stop()
        await self.server.close_all_connections()

    @property
    def running(self) -> set[asyncio.Task[Any]]:
        """The handlers of streams and WebSockets that are open."""
        return {task for task in self.tasks if not task.done()}

    async def both_open(self) -> None:
        await eventually(lambda: len(self.sockets) == 1 and len(self.running) == 2)


def test_traffic_keeps_one_stream_and_one_websocket_open_and_replaces_them() -> None:
    async def scenario() -> None:
        gateway, demo = Streams(), Demo(pause=0.001, visitors=0)
        async with gateway.listening() as url:
            demo.start_traffic(url)
            for _ in range(3):
                await gateway.both_open()
                before = gateway.running
                for talking in gateway.sockets:
                    talking.close(1001, "going away")
                await gateway.server.close_all_connections()
                await ended(before)
            await gateway.both_open()
            handlers = gateway.running
            await asyncio.wait_for(demo.stop(), 2)
            await ended(handlers)
        await ended(other_tasks())

    asyncio.run(scenario())


def test_the_traffic_s_websocket_talks_and_says_goodbye() -> None:
    async def scenario() -> None:
        heard: asyncio.Queue[str | bytes] = asyncio.Queue()
        codes: list[int | None] = []

        async def converse(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    heard.put_nowait(await connection.recv())
            codes.append(connection.close_code)

        demo = Demo(pause=0.001, visitors=0)
        silent = logging.getLogger("silent")
        silent.disabled = True  # the traffic asks this server for an event stream too
        async with serve(converse, "127.0.0.1", 0, logger=silent) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            async with asyncio.timeout(5):
                assert [await heard.get() for _ in range(3)] == ["hello 1", "hello 2", "hello 3"]
            await demo.stop()
            await eventually(lambda: codes == [1000])

    asyncio.run(scenario())


def test_stop_does_not_wait_for_an_answer_to_its_goodbye() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()
        greeted = asyncio.Event()

        async def accept_and_ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if key := re.search(rb"(?i)sec-websocket-key: (.*)\r\n", head):
                answer = WebSocketProtocol13.compute_accept_value(key[1])
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: %b\r\n\r\n" % answer.encode()
                )
                await reader.readexactly(1)
                greeted.set()
                await reader.read()
                gone.set()
            writer.close()

        demo = Demo(visitors=0)
        async with await asyncio.start_server(accept_and_ignore, "127.0.0.1", 0) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await asyncio.wait_for(greeted.wait(), 5)
            await asyncio.wait_for(demo.stop(), 2)
            await asyncio.wait_for(gone.wait(), 2)
        await ended(other_tasks())

    asyncio.run(scenario())


def test_stop_does_not_wait_for_a_gateway_that_does_not_answer() -> None:
    async def scenario() -> None:
        asked: list[asyncio.StreamWriter] = []
        demo = Demo(visitors=1)
        async with await asyncio.start_server(lambda _, writer: asked.append(writer), "127.0.0.1", 0) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await eventually(lambda: len(asked) == 3)
            await asyncio.wait_for(demo.stop(), 2)
            assert other_tasks() == set()
            for writer in asked:
                writer.close()

    asyncio.run(scenario())


@playing()
async def test_what_the_traffic_asks_for_exists(services: Services, http: httpx.AsyncClient) -> None:
    for visit in module.VISITS:
        _, service, path = visit.split("/", 2)
        response = await http.get(f"{services[service][0]}/{path}")
        assert response.status_code == (404 if visit == "/api/items/99" else 200)
        assert "Content-Length" in response.headers


# ---- banner


def test_the_banner_names_only_routes_that_this_release_has() -> None:
    text = banner("http://127.0.0.1:8080/")
    routes = set(re.findall(r"http://127\.0\.0\.1:8080/([a-z]+)", text))
    assert routes == {"api", "sse", "healthz", "readyz"}
    first, second, third = text.partition("\n\n")[2].splitlines()[:3]
    assert "open http://127.0.0.1:8080/api/chat/ in a browser " in first
    assert "curl -N http://127.0.0.1:8080/sse/clock/events " in second
    assert "python -m websockets 'ws://127.0.0.1:8080/ws/chat?path=/echo' " in third


@playing()
async def test_every_request_of_the_banner_works(services: Services, http: httpx.AsyncClient) -> None:
    asked = re.findall(
        r"http://gateway/(?:api|sse)/([a-z]+)(/[^\s']*)", banner("http://gateway").replace("delay=2000", "delay=1")
    )
    assert {service for service, _ in asked} == {"api", "slow", "flaky", "clock", "chat"}
    for service, target in asked:
        async with http.stream("POST" if "echo" in target else "GET", services[service][0] + target) as response:
            assert response.status_code == (503 if "status=503" in target else 200)
