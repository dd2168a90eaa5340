"""A proxied handler works as a Tornado handler on first use."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.web import RequestHandler

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, capture, only_line, plays, problem, silent
from tests.support.sockets import echo, eventually, get
from tornado_gateway.handlers.http_proxy import HttpProxyHandler
from tornado_gateway.handlers.router import Router
from tornado_gateway.policy.routing import Route, RouteTable


async def serve_with(serve: Serve, url: str, answer: Callable[[HttpProxyHandler], object]) -> Running:
    """A gateway whose /api handler answers by itself."""

    class Answering(HttpProxyHandler):
        def head_received(self) -> Awaitable[None] | None:
            answer(self)
            return None

    running = await serve({"svc": [url]})
    standard = Route(path="/api/<service>/*", handler=Answering)
    running.app.server.delegate = Router(running.app.gateway, RouteTable([standard], standard), ())
    return running


def tea(handler: HttpProxyHandler) -> None:
    handler.set_status(203)
    handler.set_header("X-Tea", "green")
    handler.add_header("Set-Cookie", "a=1")
    assert handler.get_status() == 203
    handler.write({"tea": True})
    handler.finish()


@pytest.mark.parametrize("body", [b"", b"hello"])
@pytest.mark.gen_test
async def test_a_subclass_may_answer_as_any_handler_does(serve: Serve, upstream: Start, body: bytes) -> None:
    up = upstream(echo)
    running = await serve_with(serve, up.url, tea)
    lines = capture(running)
    answer = await ask(running, get(b"/api/svc/x?a=1", method=b"POST" if body else b"GET", body=body))
    assert (answer.status, json.loads(answer.body), answer.complete) == (203, {"tea": True}, True)
    assert (answer.get(b"x-tea"), answer.all(b"set-cookie"), answer.get(b"server")) == (b"green", [b"a=1"], None)
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["bytesOut"]) == (203, "", len(answer.body))
    assert line["requestId"].encode() == answer.get(b"x-request-id")
    ((key, _),) = running.app.gateway.durations
    assert (key.route, key.status) == ("/api/<service>/*", "203")
    assert (up.accepted, running.inflight) == (0, 0)


@pytest.mark.gen_test
async def test_a_subclass_may_answer_piece_by_piece(serve: Serve) -> None:
    def count(handler: HttpProxyHandler) -> None:
        for number in range(3):
            handler.write(b"%d" % number)
            handler.flush()
        handler.finish(b"end")

    running = await serve_with(serve, "http://127.0.0.1:1", count)
    answer = await ask(running, get(b"/api/svc/x"))
    assert (answer.status, answer.body, answer.get(b"transfer-encoding")) == (200, b"012end", b"chunked")


@pytest.mark.gen_test
async def test_a_subclass_may_redirect(serve: Serve) -> None:
    running = await serve_with(serve, "http://127.0.0.1:1", lambda handler: handler.redirect("/api/svc/y"))
    client = await running.client()
    for _ in range(2):  # the connection stays
        answer = await client.ask(get(b"/api/svc/x"))
        assert (answer.status, answer.get(b"location")) == (302, b"/api/svc/y")


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (500, "internal_error")])
@pytest.mark.gen_test
async def test_an_error_that_a_subclass_sends_is_a_problem(serve: Serve, status: int, code: str) -> None:
    running = await serve_with(serve, "http://127.0.0.1:1", lambda handler: handler.send_error(status))
    lines = capture(running)
    problem(await ask(running, get(b"/api/svc/x")), status, code)
    assert (await only_line(lines))["reason"] == code


@pytest.mark.gen_test
async def test_a_subclass_may_answer_although_an_endpoint_was_asked(serve: Serve, upstream: Start) -> None:
    handlers = list[HttpProxyHandler]()

    def ask_and_wait(handler: HttpProxyHandler) -> None:
        handlers.append(handler)
        HttpProxyHandler.head_received(handler)

    up = upstream(silent)
    running = await serve_with(serve, up.url, ask_and_wait)
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: up.requests)
    handlers[0].finish("enough")
    assert (await client.response()).body == b"enough"
    await eventually(lambda: up.open == 0)
    line = await only_line(lines)
    assert (line["status"], line["service"], line["attempts"]) == (200, "svc", 1)
    assert (running.inflight, running.errors) == (0, 0)


@pytest.mark.gen_test
async def test_an_unknown_attribute_of_a_handler_raises_attribute_error(serve: Serve) -> None:
    seen = list[object]()

    def look(handler: HttpProxyHandler) -> None:
        seen.append(getattr(handler, "no_such_thing", "missing"))
        seen.append(getattr(handler, "__no_such_thing__", "missing"))
        handler.finish()

    running = await serve_with(serve, "http://127.0.0.1:1", look)
    assert (await ask(running, get(b"/api/svc/x"))).status == 200
    assert seen == ["missing", "missing"]


@pytest.mark.gen_test
async def test_a_handler_is_told_once_that_its_client_has_left(serve: Serve) -> None:
    handlers = list[HttpProxyHandler]()
    running = await serve_with(serve, "http://127.0.0.1:1", handlers.append)
    lines = capture(running)
    client = await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: handlers)
    handlers[0].set_header("X-Late", "yes")
    client.reset()
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (499, "client_gone")


@pytest.mark.gen_test
async def test_a_forwarded_request_does_not_run_tornados_constructor(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a forwarded request needs no part of it")

    monkeypatch.setattr(RequestHandler, "__init__", fail)
    up = upstream(plays(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    running = await serve({"svc": [up.url], "down": ["http://127.0.0.1:1"]})
    client = await running.client()
    assert (await client.ask(get(b"/api/svc/x", method=b"POST", body=b"hello"))).status == 200
    assert (await client.ask(get(b"/api/none/x"))).status == 404
    assert (await client.ask(get(b"/api/down/x"))).status == 502
