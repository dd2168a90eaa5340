"""Real WebSockets and event streams through a real gateway.

Clients and upstreams are what people use: the websockets library, the ws library on Node, Chromium, curl and httpx.
Debian's chromium, curl, nodejs and node-ws are installed by tests/run.
"""

import asyncio
import base64
import contextlib
import json
import os
import random
import re
import select
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pytest
import websockets.sync.client
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import (
    ENVIRONMENT,
    PATIENCE,
    PROGRAMS,
    gateway,
    node_server,
    python_server,
    until,
)

MEGABYTE = 2**20
CLIENTS = ["python", "node", "chromium"]
UPSTREAMS = ["python", "node"]

T = TypeVar("T")
Message = dict[str, str]
Job = dict[str, Any]
Outcome = dict[str, Any]
Converse = Callable[..., Outcome]


def text(content: str) -> Message:
    return {"text": content}


def binary(content: bytes) -> Message:
    return {"binary": base64.b64encode(content).decode()}


def content(message: Message) -> str | bytes:
    return message["text"] if "text" in message else base64.b64decode(message["binary"])


def message(received: str | bytes) -> Message:
    return text(received) if isinstance(received, str) else binary(received)


@dataclass
class Stage:
    """What runs for these tests: a gateway, and the ports behind it by service."""

    port: int
    websockets: dict[str, int]
    plain: dict[str, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def socket(self, upstream: str, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/{upstream}?path={quote(path, safe='')}"

    def upstream(self, upstream: str, path: str, body: str | bytes | None = None) -> bytes:
        """LeaseRequest or tell the upstream something, past the gateway."""
        url = f"http://127.0.0.1:{self.plain[upstream]}{path}"
        method = "GET" if body is None else "POST"
        return httpx.request(method, url, content=body or b"", timeout=PATIENCE, trust_env=False).content


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, tuple[int, int]]]:
    """The ports of the upstreams, for WebSockets and for HTTP."""
    with python_server() as python, node_server() as node:
        yield {"python": python, "node": node}


@contextlib.contextmanager
def staged(upstreams: dict[str, tuple[int, int]], **variables: str) -> Iterator[Stage]:
    services = {"dead": f"http://127.0.0.1:{free_port()}"}
    for name, (sockets, plain) in upstreams.items():
        services |= {name: f"http://127.0.0.1:{sockets}", f"{name}-streams": f"http://127.0.0.1:{plain}"}
    with gateway(services, **variables) as port:
        sockets_and_plain = zip(*upstreams.values(), strict=True)
        yield Stage(port, *(dict(zip(upstreams, ports, strict=True)) for ports in sockets_and_plain))


@pytest.fixture(scope="module")
def stage(upstreams: dict[str, tuple[int, int]]) -> Iterator[Stage]:
    with staged(upstreams) as stage:
        yield stage


@pytest.fixture(scope="module")
def restless(upstreams: dict[str, tuple[int, int]]) -> Iterator[Stage]:
    """A gateway that pings and beats all the time."""
    with staged(upstreams, WS_PING_INTERVAL_MS="10", SSE_HEARTBEAT_MS="50") as stage:
        yield stage


class Browser(Tab):
    """A tab for all tests."""

    def visit(self, stage: Stage) -> None:
        """Be on a page of this gateway's: an EventSource asks its own origin."""
        self.call("Page.navigate", url=f"{stage.url}/healthz")
        until(lambda: self._shows(stage.url), f"a page of {stage.url}")
        self.value((PROGRAMS / "converse.js").read_text())

    def _shows(self, origin: str) -> bool:
        with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
            return self.value(f"location.origin === '{origin}' && document.readyState") == "complete"
        return False


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """On no page."""
    with chromium(tmp_path_factory.mktemp("profile")) as devtools, tab(devtools, "about:blank") as connection:
        yield Browser(connection)


@pytest.fixture
def browser(stage: Stage, blank: Browser) -> Browser:
    """On a page of the gateway's."""
    blank.visit(stage)
    return blank


# Every client does a job (see converse.js) and tells its outcome in the same words.


async def converse_in_python(job: Job) -> Outcome:
    options = {"compression": "deflate" if job["deflate"] else None, "subprotocols": job["protocols"] or None}
    received: list[Message] = []
    async with connected(job["url"], **options) as socket:

        async def receive() -> None:
            with contextlib.suppress(ConnectionClosed):
                while job["close"] is None or len(received) < job["expect"]:
                    received.append(message(await socket.recv()))

        receiving = asyncio.create_task(receive())
        for each in job["send"]:
            await socket.send(content(each))
        await receiving
        if job["close"] is not None:
            await socket.close(*job["close"] or [None])
        await socket.wait_closed()
    return {
        "received": received, "protocol": socket.subprotocol or "", "deflate": bool(socket.protocol.extensions),
        "close": [socket.close_code, socket.close_reason], "wasClean": socket.close_code != 1006,
    }  # fmt: skip


def within(talk: Coroutine[Any, Any, T]) -> T:
    """What is talked, unless that takes too long."""
    return asyncio.run(asyncio.wait_for(talk, 2 * PATIENCE))


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url, max_size=None, proxy=None, **options) as socket:
        yield socket


def converse_in_node(job: Job) -> Outcome:
    command = ["node", str(PROGRAMS / "streams_client.js")]
    given = json.dumps(job).encode()
    done = subprocess.run(command, input=given, env=ENVIRONMENT, capture_output=True, timeout=2 * PATIENCE, check=True)
    assert not done.stderr, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def converse(request: pytest.FixtureRequest) -> Converse:
    """Do a job with a client: `converse("node", url, send=[…], expect=1, close=[1000])`."""

    def start(client: str, url: str, **job: Any) -> Outcome:
        job = {"url": url, "protocols": [], "deflate": False, "send": [], "expect": 0, "close": [1000]} | job
        if client == "python":
            return within(converse_in_python(job))
        if client == "node":
            return converse_in_node(job)
        page = request.getfixturevalue("browser")
        return dict(page.value(f"converse((url, protocols) => new WebSocket(url, protocols), {json.dumps(job)})"))

    return start


def ending(stage: Stage, upstream: str, name: str) -> dict[str, Any]:
    """How a conversation ended as its upstream knows it."""
    url = f"ws://127.0.0.1:{stage.websockets[upstream]}/ending?of={name}"
    with websockets.sync.client.connect(url, proxy=None) as socket:
        return dict(json.loads(socket.recv(PATIENCE)))


def various() -> list[Message]:
    """Messages of each kind and size, compressible and not."""
    chance = random.Random(7)
    return [
        text("grüße, 世界 🎉\0"), text(""), binary(b""), binary(bytes(range(256))), text("x" * 125), text("y" * 126),
        binary(b"\xff" * 65535), binary(b"\xfe" * 65536), text("word " * (MEGABYTE // 5)),
        text(chance.randbytes(MEGABYTE // 2).hex()), binary(chance.randbytes(MEGABYTE)),
        *(text(str(n)) if n % 3 else binary(str(n).encode()) for n in range(300)),
    ]  # fmt: skip


# (client, upstream, path, whether permessage-deflate is offered, whether it is agreed on)
ECHOES = [
    *((client, upstream, "/echo", True, True) for client in CLIENTS for upstream in UPSTREAMS),
    *((client, upstream, "/echo", False, False) for client in ("python", "node") for upstream in UPSTREAMS),
    *((client, "node", "/plain", True, False) for client in CLIENTS),
]


@pytest.mark.parametrize(("client", "upstream", "path", "offered", "agreed"), ECHOES)
def test_messages_of_every_kind_come_back_as_they_went(
    stage: Stage, converse: Converse, client: str, upstream: str, path: str, offered: bool, agreed: bool
) -> None:
    sent = various()
    outcome = converse(
        client, stage.socket(upstream, path),
        deflate=offered, protocols=["chat.v9", "chat.v2"], send=sent, expect=len(sent),
    )  # fmt: skip
    assert outcome.pop("received") == sent
    assert outcome == {"protocol": "chat.v2", "deflate": agreed, "close": [1000, ""], "wasClean": True}


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize(
    ("deflate", "least", "most"), [(True, 100, MEGABYTE // 20), (False, MEGABYTE, MEGABYTE + 4096)]
)
def test_compression_holds_on_both_legs_and_both_ways(
    stage: Stage, upstream: str, deflate: bool, least: int, most: int
) -> None:
    name = uuid.uuid4().hex

    class Counting(ClientConnection):
        count = 0

        def data_received(self, data: bytes) -> None:
            self.count += len(data)
            super().data_received(data)

    async def talk() -> int:
        url = stage.socket(upstream, f"/echo?id={name}")
        async with connected(url, compression="deflate" if deflate else None, create_connection=Counting) as socket:
            await socket.send("a" * MEGABYTE)
            assert await socket.recv() == "a" * MEGABYTE
        assert isinstance(socket, Counting)
        return socket.count

    assert least < within(talk()) < most
    assert least < ending(stage, upstream, name)["bytes"] < most


@pytest.mark.parametrize("deflate", ["deflate", None])
@pytest.mark.parametrize(
    "fragments",
    [["a", "", "grüße", "z" * 70_000], [b"", b"\0" * 126, b"\xff" * 200_000, b""], ["one"], [b"x"] * 500],
    ids=["text", "binary", "single", "many"],
)
def test_fragments_stay_fragments(stage: Stage, fragments: list[str] | list[bytes], deflate: str | None) -> None:
    async def talk() -> list[str | bytes]:
        async with connected(stage.socket("python", "/fragments"), compression=deflate) as socket:
            await socket.send(fragments)
            return [fragment async for fragment in socket.recv_streaming()]

    back = within(talk())
    last = type(fragments[0])()  # the library ends what it sends from an iterable with an empty fragment, twice here
    assert back == [*fragments, last, last]


@pytest.mark.parametrize("deflate", ["deflate", None])
def test_what_node_sends_in_fragments_arrives_in_them(stage: Stage, deflate: str | None) -> None:
    async def talk() -> list[str | bytes]:
        async with connected(stage.socket("node", "/fragments"), compression=deflate) as socket:
            await socket.send("0123456789" * 450)
            return [fragment async for fragment in socket.recv_streaming()]

    back = within(talk())
    assert [len(fragment) for fragment in back] == [1000, 1000, 1000, 1000, 500]
    assert "".join(map(str, back)) == "0123456789" * 450


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_fragments_make_one_message(stage: Stage, converse: Converse, client: str, upstream: str) -> None:
    sent = [text("ü" * 2600), binary(bytes(5000)), text("short")]
    outcome = converse(client, stage.socket(upstream, "/fragments"), deflate=True, send=sent, expect=3)
    assert outcome["received"] == sent


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", ["python", "node"])
def test_a_clients_ping_is_answered_by_the_upstream(stage: Stage, client: str, upstream: str) -> None:
    name = uuid.uuid4().hex
    url = stage.socket(upstream, f"/echo?id={name}")

    async def ping() -> None:
        async with connected(url) as socket:
            await (await socket.ping("are you there?"))

    if client == "python":
        within(ping())
    else:
        job = {"url": url, "protocols": [], "send": [], "expect": 1, "close": None, "ping": "are you there?"}
        assert converse_in_node(job)["pong"] == "are you there?"
    assert ending(stage, upstream, name)["pings"] == ["are you there?"]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_an_upstreams_ping_is_answered_by_the_client(
    stage: Stage, converse: Converse, client: str, upstream: str
) -> None:
    outcome = converse(client, stage.socket(upstream, "/ping?payload=hello"), expect=1)
    assert outcome["received"] == [text("answered hello")]


CLOSES = [
    (1000, ""), (1001, "going"), (1003, "no such thing"), (1007, "not UTF-8"), (1008, "policy ✗"), (1009, "too big"),
    (1011, "r" * 123), (1012, "restart"), (1013, "later"), (3000, ""), (4999, "ü" * 61), (None, ""),
]  # fmt: skip
FROM_BROWSERS = [(1000, ""), (1000, "done"), (3000, ""), (4999, "ü" * 61), (None, "")]
FROM_LIBRARIES = [*FROM_BROWSERS, (1001, "leaving"), (1003, ""), (1008, "r" * 123), (1011, "oh")]


@pytest.mark.parametrize(("code", "reason"), CLOSES)
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_an_upstreams_close_arrives_as_sent(
    stage: Stage, converse: Converse, client: str, upstream: str, code: int | None, reason: str
) -> None:
    asked = f"&code={code}&reason={quote(reason)}" if code else ""
    outcome = converse(client, stage.socket(upstream, f"/close?{asked}"), close=None)
    assert outcome["close"] == [code or 1005, reason]
    assert outcome["wasClean"]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize(
    ("client", "code", "reason"),
    [
        *((client, *close) for client in ("python", "node") for close in FROM_LIBRARIES),
        *(("chromium", *close) for close in FROM_BROWSERS),
    ],
)
def test_a_clients_close_arrives_as_sent(
    stage: Stage, converse: Converse, client: str, upstream: str, code: int | None, reason: str
) -> None:
    name = uuid.uuid4().hex
    outcome = converse(client, stage.socket(upstream, f"/echo?id={name}"), close=[code, reason] if code else [])
    assert outcome["wasClean"]
    assert ending(stage, upstream, name)["close"] == [code or 1005, reason]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_browser_that_leaves_its_page_says_so(stage: Stage, browser: Browser, upstream: str) -> None:
    name = uuid.uuid4().hex
    browser.value(f"""(async () => {{
        const frame = document.body.appendChild(document.createElement("iframe"));
        const socket = new frame.contentWindow.WebSocket("{stage.socket(upstream, f"/echo?id={name}")}");
        await new Promise(resolve => socket.onopen = resolve);
        frame.remove();
    }})()""")
    assert ending(stage, upstream, name)["close"] == [1001, ""]


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_client_that_vanishes_has_gone_away(stage: Stage, upstream: str) -> None:
    name = uuid.uuid4().hex

    async def vanish() -> None:
        async with connected(stage.socket(upstream, f"/echo?id={name}")) as socket:
            await socket.send("hello")
            await socket.recv()
            socket.transport.abort()

    within(vanish())
    assert ending(stage, upstream, name)["close"][0] == 1001


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_an_upstream_that_vanishes_is_an_error(stage: Stage, converse: Converse, client: str, upstream: str) -> None:
    outcome = converse(client, stage.socket(upstream, "/vanish"), send=[text("go")], close=None)
    assert outcome["close"][0] == 1011


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_many_messages_keep_their_order(stage: Stage, converse: Converse, client: str, upstream: str) -> None:
    outcome = converse(client, stage.socket(upstream, "/count?n=5000"), deflate=True, close=None)
    assert outcome["received"] == [binary(str(n).encode()) if n % 2 else text(str(n)) for n in range(5000)]
    assert outcome["close"] == [1000, ""]


def test_conversations_at_once_do_not_mix(stage: Stage) -> None:
    async def talk(number: int) -> None:
        compression = "deflate" if number % 3 else None
        async with connected(stage.socket(UPSTREAMS[number % 2], "/echo"), compression=compression) as socket:
            sent = [f"{number}: {n} " + "x" * (n * number % 3000) for n in range(40)]
            for each in sent:
                await socket.send(each)
            assert [await socket.recv() for _ in sent] == sent

    async def talk_all() -> None:
        await asyncio.gather(*(talk(number) for number in range(80)))

    within(talk_all())


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_refusal_is_what_the_client_library_sees(stage: Stage, browser: Browser, upstream: str) -> None:
    url, refused = stage.socket(upstream, "/refuse"), (401, 'Bearer realm="streams"', '{"error":"who are you?"}')
    assert refusal(url) == refused
    job = {"url": url, "protocols": [], "send": [], "expect": 0, "close": [1000]}
    assert tuple(converse_in_node(job)["refused"]) == refused
    outcome = browser.value(f"converse((url, protocols) => new WebSocket(url, protocols), {json.dumps(job)})")
    assert outcome == {"received": [], "close": [1006, ""], "wasClean": False}


@pytest.mark.parametrize(
    ("service", "status", "error"), [("nobody", 404, "unknown_service"), ("dead", 502, "upstream_unavailable")]
)
def test_the_gateways_own_refusal_is_what_the_client_library_sees(
    stage: Stage, service: str, status: int, error: str
) -> None:
    seen, _, body = refusal(stage.socket(service, "/echo"))
    assert seen == status
    assert json.loads(body)["error"] == error


def refusal(url: str) -> tuple[int, str | None, str]:
    """Status, WWW-Authenticate and body, with the websockets library."""
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(url, proxy=None)
    response = refused.value.response
    return response.status_code, response.headers.get("WWW-Authenticate"), response.body.decode()


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS)
def test_pongs_for_the_gateways_pings_do_not_pass(
    stage: Stage, restless: Stage, converse: Converse, client: str, upstream: str
) -> None:
    """Both sides answer them; the messages between them are whole, and the pongs go no further."""
    sent, name = various() * 2, uuid.uuid4().hex
    url = restless.socket(upstream, f"/echo?id={name}")
    outcome = converse(client, url, deflate=True, send=sent, expect=len(sent))
    assert outcome["received"] == sent
    assert outcome["close"] == [1000, ""]
    assert "pong" not in outcome
    ended = ending(stage, upstream, name)
    assert ended["close"] == [1000, ""]
    assert ended["pings"]


# Event streams. The tests are their authors: what an upstream sends next is posted to it, past the gateway, so that
# an event that arrives has been held back by nobody.

STEPS = [
    b"data: one\n\n", b": a comment\n\n", "id: 7\ndata: zwei ü\n".encode(), b"\n",
    b"event: x\r\ndata: a\r\ndata: b\r\n\r\n", b"data: " + b"0123456789" * 20_000 + b"\n\n",
    b"data: no end yet", b"\r", b"\r", b"data: [DONE]\n\n",
]  # fmt: skip
PROMPT = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "grüße"}]})


class Curl:
    """`curl -N`, whose output is read as it comes."""

    def __init__(self, url: str, *options: str) -> None:
        self.process = subprocess.Popen(
            ["curl", "-sSN", "-m", "50", *options, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.seen = b""

    def read(self, size: int) -> bytes:
        """This many bytes more, or what there was until the end."""
        assert self.process.stdout
        read = b""
        deadline = time.monotonic() + PATIENCE
        while len(read) < size:
            left = deadline - time.monotonic()
            assert select.select([self.process.stdout], [], [], max(left, 0))[0], f"only {read[-100:]!r}"
            if not (piece := os.read(self.process.stdout.fileno(), size - len(read))):
                break
            read += piece
        self.seen += read
        return read

    def end(self) -> int:
        """Its exit code, once there is nothing more to read."""
        assert self.read(1) == b""
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def curl(url: str, *options: str) -> Iterator[Curl]:
    curl = Curl(url, *options)
    try:
        yield curl
    finally:
        curl.process.kill()
        curl.process.wait()
        assert curl.process.stdout
        curl.process.stdout.close()


class Httpx:
    """A stream of httpx, as curl's."""

    def __init__(self, response: httpx.Response) -> None:
        self._pieces = response.iter_raw()
        self._left = b""

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left += piece
        read, self._left = self._left[:size], self._left[size:]
        return read

    def end(self) -> int:
        assert self.read(1) == b""
        return 0


@contextlib.contextmanager
def reading(client: str, method: str, url: str) -> Iterator[Curl | Httpx]:
    if client == "curl":
        post = ["-H", "Content-Type: application/json", "-H", "Authorization: Bearer sk-1", "-d", PROMPT]
        with curl(url, *(post if method == "POST" else [])) as process:
            yield process
    else:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-1"}
        options: dict[str, Any] = {"content": PROMPT, "headers": headers} if method == "POST" else {}
        with httpx.stream(method, url, timeout=PATIENCE, trust_env=False, **options) as response:
            assert response.status_code == 200
            yield Httpx(response)


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", ["curl", "httpx"])
@pytest.mark.parametrize(("method", "route"), [("GET", "sse"), ("GET", "api"), ("POST", "api")])
def test_each_piece_of_a_stream_arrives_before_the_next_is_sent(
    stage: Stage, client: str, upstream: str, method: str, route: str
) -> None:
    name = uuid.uuid4().hex
    with reading(client, method, f"{stage.url}/{route}/{upstream}-streams/v1/chat/completions?id={name}") as stream:
        request = json.loads(stage.upstream(upstream, f"/request?id={name}"))
        if method == "POST":
            assert request["body"] == PROMPT
            assert request["headers"]["authorization"] == "Bearer sk-1"
        for step in STEPS:
            stage.upstream(upstream, f"/step?id={name}", step)
            assert stream.read(len(step)) == step
        stage.upstream(upstream, f"/end?id={name}", b"")
        assert stream.end() == 0


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_head_of_a_stream_comes_at_once_and_forbids_buffering(stage: Stage, upstream: str, method: str) -> None:
    url = f"{stage.url}/sse/{upstream}-streams/events?id={uuid.uuid4().hex}"
    with httpx.stream(method, url, timeout=PATIENCE, trust_env=False) as response:  # asks for gzip
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-accel-buffering"] == "no"
        assert "no-transform" in response.headers["cache-control"]
        assert "x-request-id" in response.headers
        assert not {"content-length", "content-encoding"} & set(response.headers)


@pytest.mark.parametrize("phase", ["silent from the start", "between events", "within an event"])
@pytest.mark.parametrize("route", ["sse", "api"])
def test_a_client_that_leaves_ends_the_upstreams_stream(stage: Stage, route: str, phase: str) -> None:
    name = uuid.uuid4().hex
    with curl(f"{stage.url}/{route}/node-streams/events?id={name}") as process:
        stage.upstream("node", f"/request?id={name}")
        if step := {"between events": b"data: one\n\n", "within an event": b"data: on"}.get(phase):
            stage.upstream("node", f"/step?id={name}", step)
            process.read(len(step))
    assert json.loads(stage.upstream("node", f"/departure?id={name}")) == {"finished": False}


@pytest.mark.parametrize("step", [b"data: one\n\n", b"data: on"])
@pytest.mark.parametrize("route", ["sse", "api"])
def test_a_stream_that_breaks_does_not_look_complete(stage: Stage, route: str, step: bytes) -> None:
    for client in ("curl", "httpx"):
        name = uuid.uuid4().hex
        with reading(client, "GET", f"{stage.url}/{route}/node-streams/events?id={name}") as stream:
            stage.upstream("node", f"/request?id={name}")
            stage.upstream("node", f"/step?id={name}", step)
            assert stream.read(len(step)) == step
            stage.upstream("node", f"/break?id={name}", b"")
            if client == "curl":
                assert stream.end() in {18, 56}  # a partial file, or a failure to receive
            else:
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    stream.read(1)


LISTEN = """new Promise(resolve => {
    const seen = [], source = new EventSource("%s");
    for (const type of ["message", "end"])
        source.addEventListener(type, event => {
            seen.push([type, event.lastEventId, event.data]);
            if (type === "end") { source.close(); resolve(seen); }
        });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("closed"); };
})"""


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("route", ["sse", "api"])
def test_an_event_source_goes_on_where_it_was(stage: Stage, browser: Browser, upstream: str, route: str) -> None:
    name = uuid.uuid4().hex
    seen = browser.value(LISTEN % f"/{route}/{upstream}-streams/resume?id={name}")
    assert seen == [*(["message", str(n), f"event {n}"] for n in range(1, 7)), ["end", "6", ""]]
    assert [json.loads(stage.upstream(upstream, f"/request?id={name}"))["last"] for _ in range(2)] == [None, "3"]


def test_an_event_source_does_not_come_back_after_a_refusal(browser: Browser) -> None:
    assert browser.value(LISTEN % "/sse/nobody/events") == "closed"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_heartbeats_stand_between_events_and_a_browser_ignores_them(
    stage: Stage, restless: Stage, browser: Browser, upstream: str
) -> None:
    quiet, broken, heard = (uuid.uuid4().hex for _ in range(3))
    urls = [f"{restless.url}/sse/{upstream}-streams/events?id={name}" for name in (quiet, broken, heard)]
    browser.visit(restless)
    browser.value(
        f"window.seen = []; window.source = new EventSource('{urls[2]}');"
        "window.opened = new Promise(resolve => source.onopen = resolve);"
        "window.over = new Promise(resolve => source.onmessage = e => seen.push(e.data) == 2 && resolve()); 0"
    )
    with curl(urls[0]) as between, curl(urls[1]) as within_event:
        for name in (quiet, broken, heard):
            stage.upstream(upstream, f"/request?id={name}")
        stage.upstream(upstream, f"/step?id={heard}", b"data: one\n\n")
        stage.upstream(upstream, f"/step?id={broken}", b"data: on")
        while not within_event.seen.endswith(b"data: on"):
            within_event.read(1)
        assert re.fullmatch(rb"(:.*\n)*data: on", within_event.seen)
        while between.seen.count(b"\n") < 10:  # in that time the other stream would have had some
            between.read(1)
        assert re.fullmatch(rb"(:.*\n)+", between.seen)
        stage.upstream(upstream, f"/step?id={broken}", b"e\n\n")
        assert within_event.read(3) == b"e\n\n"
        assert within_event.read(1) == b":"
        stage.upstream(upstream, f"/step?id={heard}", b"data: two\n\n")
    assert browser.value("opened.then(() => over).then(() => { source.close(); return seen; })") == ["one", "two"]
