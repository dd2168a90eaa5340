"""The gateway's word on itself."""

import asyncio
import json

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask, problem
from tests.support.sockets import Client, Peer, eventually, get, reply

NOWHERE = {"svc": ["http://127.0.0.1:1"]}


@pytest.mark.parametrize(("target", "said"), [(b"/healthz", {"status": "ok"}), (b"/readyz", {"status": "ready"})])
@pytest.mark.gen_test
async def test_a_gateway_says_that_it_is_well(serve: Serve, target: bytes, said: dict[str, str]) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    for suffix in (b"", b"?verbose=1"):
        answer = await client.ask(get(target + suffix))
        assert (answer.status, json.loads(answer.body)) == (200, said)
        assert (answer.get(b"content-type"), answer.get(b"cache-control")) == (b"application/json", b"no-store")
    bare = await client.ask(get(target, method=b"HEAD"), b"HEAD")
    assert (bare.status, bare.get(b"content-length"), client.buffer) == (200, b"%d" % len(answer.body), b"")


@pytest.mark.parametrize("target", [b"/healthz", b"/readyz"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND", b"BREW", b"get"])
@pytest.mark.gen_test
async def test_other_methods_are_told_what_is_allowed(serve: Serve, target: bytes, method: bytes) -> None:
    answer = await ask(await serve(NOWHERE), get(target, method=method))
    problem(answer, 405, "method_not_allowed")
    assert answer.get(b"allow") == b"GET, HEAD"


@pytest.mark.parametrize(
    "line", [b"If-None-Match: *", b'If-None-Match: "x"', b"If-Modified-Since: now", b"Range: bytes=0-0"]
)
@pytest.mark.gen_test
async def test_a_probe_is_never_answered_from_a_condition(serve: Serve, line: bytes) -> None:
    answer = await ask(await serve(NOWHERE), get(b"/healthz", line))
    assert (answer.status, answer.get(b"etag"), answer.complete) == (200, None, True)


@pytest.mark.parametrize(
    "target", [b"/", b"/api", b"/apix", b"/healthz/", b"/healthz/x", b"/health", b"/Healthz", b"/a%00"]
)
@pytest.mark.gen_test
async def test_any_other_path_is_a_404(serve: Serve, target: bytes) -> None:
    running = await serve(NOWHERE)
    problem(await ask(running, get(target)), 404, "not_found")


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PROPFIND", b"QUERY", b"BREW", b"x"])
@pytest.mark.gen_test
async def test_any_other_path_is_a_404_by_any_method(serve: Serve, method: bytes) -> None:
    running = await serve(NOWHERE)
    problem(await ask(running, get(b"/nothing", method=method, body=b"hello")), 404, "not_found")


@pytest.mark.parametrize("request_", [get(b"/nothing", method=b"TRACE"), get(b"a:443", method=b"CONNECT")])
@pytest.mark.gen_test
async def test_trace_and_connect_are_refused(serve: Serve, request_: bytes) -> None:  # RFC 9110 §9.3.6, §9.3.8
    answer = await ask(await serve(NOWHERE), request_)
    problem(answer, 405, "method_not_allowed")
    assert answer.get(b"allow")


@pytest.mark.gen_test
async def test_while_draining_readiness_is_refused_and_work_goes_on(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await eventually(released.is_set)
        await peer.send(b"4\r\nlast\r\n0\r\n\r\n")
        await peer.ended()

    async def quick(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.ended()

    released = asyncio.Event()
    running = await serve({"slow": [upstream(script).url], "quick": [upstream(quick).url]}, SHUTDOWN_DELAY_MS="60000")
    busy, probe = await running.client(), await running.client()
    await busy.send(get(b"/api/slow/x"))
    await busy.until(b"first\r\n")
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    refused = await probe.ask(get(b"/readyz"))
    assert (refused.status, json.loads(refused.body)) == (503, {"status": "draining"})
    assert refused.get(b"x-request-id")
    assert (await probe.ask(get(b"/readyz", method=b"HEAD"), b"HEAD")).status == 503
    assert (await probe.ask(get(b"/healthz"))).status == 200
    assert (await probe.ask(get(b"/api/quick/x"))).status == 200  # the load balancer may not know it yet
    released.set()
    assert await busy.until(b"0\r\n\r\n") == b"4\r\nlast\r\n0\r\n\r\n"
    draining.cancel()


@pytest.mark.gen_test
async def test_a_stream_in_flight_ends_well_and_then_the_gateway_is_gone(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        await eventually(lambda: running.app.server.draining)
        await peer.body(message)
        await peer.send(reply(body=message.body))
        await peer.ended()

    up = upstream(script)
    running = await serve({"svc": [up.url]})
    uploading = await running.client()
    await uploading.send(get(b"/api/svc/x", b"Content-Length: 6", method=b"POST") + b"abc")
    await eventually(lambda: up.requests)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.draining)
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(running.port)
    await uploading.send(b"def")
    answer = await uploading.response()
    assert (answer.body, answer.get(b"connection")) == (b"abcdef", b"close")
    assert await uploading.ended()
    assert await draining is True
