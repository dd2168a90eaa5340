"""A HeadDelegate: when its body comes, and what it may wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httputil import HTTPServerConnectionDelegate

from tests.support.serving import Listen, is_open
from tests.support.sockets import eventually, get
from tornado_gateway.errors import BadRequest
from tornado_gateway.wire.server.delegate import HeadDelegate
from tornado_gateway.wire.server.exchange import ServerExchange

EXPECTING = get(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"POST")


class Head(HeadDelegate):
    """A HeadDelegate that records its calls, and answers with the request's body.

    Args:
        waits_for: what head_received() returns.
    """

    def __init__(self, exchange: ServerExchange, waits_for: Callable[[], Awaitable[None] | None]) -> None:
        self.exchange, self._waits_for = exchange, waits_for
        self.told: list[str] = []
        self.body = b""
        exchange.set_close_callback(lambda: self.told.append("left"))

    def head_received(self) -> Awaitable[None] | None:
        self.told.append("head")
        if self.exchange.head.body is None:
            self.answer()
        return self._waits_for()

    def data_received(self, chunk: bytes) -> None:
        self.told.append("data")
        self.body += chunk

    def body_received(self) -> None:
        self.told.append("end")
        self.answer()

    def answer(self) -> None:
        block = b"Content-Length: %d\r\n" % len(self.body)
        self.exchange.start_response(200, b"", block, length=len(self.body), dated=False)
        self.exchange.write(self.body)
        self.exchange.finish()


class Heads(HTTPServerConnectionDelegate):
    """Keeps all requests."""

    def __init__(self, waits_for: Callable[[], Awaitable[None] | None] = lambda: None) -> None:
        self.waits_for = waits_for
        self.requests: list[Head] = []

    def start_request(self, server_conn: object, request_conn: Any) -> Head:  # type: ignore[override]
        self.requests.append(Head(request_conn, self.waits_for))
        return self.requests[-1]


async def until(gate: asyncio.Event, error: Exception | None = None) -> None:
    await gate.wait()
    if error:
        raise error


@pytest.mark.gen_test
async def test_a_head_delegate_is_told_of_a_body_and_its_end(listen: Listen) -> None:
    delegate = Heads()
    client = await (await listen(delegate)).client()
    assert (await client.ask(get(b"/1", method=b"POST", body=b"abc"))).body == b"abc"
    assert (await client.ask(get(b"/2"))).body == b""
    assert [request.told for request in delegate.requests] == [["head", "data", "end"], ["head"]]


@pytest.mark.gen_test
async def test_a_head_delegate_decides_itself_when_to_ask_for_the_body(listen: Listen) -> None:
    delegate = Heads()
    client = await (await listen(delegate)).client()
    await client.send(EXPECTING)
    await eventually(lambda: delegate.requests)
    assert await is_open(client)
    delegate.requests[0].exchange.write_interim(103, b"Link: </a>\r\n")
    delegate.requests[0].exchange.write_interim(100, b"")
    response = await client.ask(b"abc")
    assert [interim.status for interim in response.interim] == [103, 100]
    assert response.body == b"abc"


@pytest.mark.gen_test
async def test_no_body_is_read_while_the_head_is_waited_for(listen: Listen) -> None:
    gate = asyncio.Event()
    delegate = Heads(lambda: until(gate))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/1", method=b"POST", body=b"abc") + get(b"/2"))
    await eventually(lambda: delegate.requests and serving.connection.is_paused)
    assert [request.told for request in delegate.requests] == [["head"]]
    gate.set()
    assert (await client.response()).body == b"abc"
    assert (await client.response()).body == b""
    assert [request.told for request in delegate.requests] == [["head", "data", "end"], ["head"]]


@pytest.mark.gen_test
async def test_a_head_that_is_refused_late_is_refused(listen: Listen) -> None:
    gate = asyncio.Event()
    delegate = Heads(lambda: until(gate, BadRequest()))
    client = await (await listen(delegate)).client()
    await client.send(get(b"/1", method=b"POST", body=b"abc"))
    await eventually(lambda: delegate.requests)
    gate.set()
    assert (await client.response()).status == 400
    client.close()


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_its_head_is_waited_for_is_told_of_once(listen: Listen) -> None:
    gate = asyncio.Event()
    delegate = Heads(lambda: until(gate))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/1", b"Content-Length: 3", method=b"POST"))
    await eventually(lambda: delegate.requests)
    client.reset()

    def is_gone() -> bool:
        serving.sweep_after(0)  # a connection that is not read is looked at by the sweep
        return not serving.server.connections

    await eventually(is_gone)
    gate.set()
    await asyncio.sleep(0)
    assert delegate.requests[0].told == ["head", "left"]


@pytest.mark.parametrize(
    "call", [HeadDelegate.head_received, HeadDelegate.body_received, lambda it: it.data_received(b"")]
)
def test_a_head_delegate_has_to_do_everything_itself(call: Callable[[HeadDelegate], object]) -> None:
    with pytest.raises(NotImplementedError):
        call(HeadDelegate())


class AtOnce(HTTPServerConnectionDelegate):
    """Answers each request itself."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []

    def start_request(self, server_conn: object, request_conn: Any) -> None:  # type: ignore[override]
        target = request_conn.head.target
        self.targets.append(target)
        request_conn.respond(200, b"Content-Length: %d\r\n" % len(target), target)


@pytest.mark.gen_test
async def test_requests_that_are_answered_before_a_delegate_is_made_keep_the_connection(listen: Listen) -> None:
    client = await (await listen(AtOnce())).client()
    await client.send(get(b"/1") + get(b"/2"))  # pipelined
    assert [(await client.response()).body for _ in range(2)] == [b"/1", b"/2"]
    assert (await client.ask(get(b"/3"))).body == b"/3"


@pytest.mark.gen_test
async def test_a_request_that_is_answered_before_its_body_has_come_is_the_last(listen: Listen) -> None:
    delegate = AtOnce()
    client = await (await listen(delegate)).client()
    answer = await client.ask(get(b"/1", method=b"POST", body=b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert (answer.body, answer.get(b"connection")) == (b"/1", b"close")
    assert await client.ended()
    assert delegate.targets == [b"/1"]
