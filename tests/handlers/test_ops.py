"""The gateway's own pages: /healthz, /readyz, /metrics and 404."""

import asyncio
import json
from collections import Counter

import jwt
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Running, Serve
from tests.support.event_streams import Source
from tests.support.journeys import Start, ask, plays, problem
from tests.support.sockets import Client, Peer, echo, eventually, get, reply
from tornado_gateway.handlers.router import ROUTES
from tornado_gateway.policy.upstream.breaker import State
from tornado_gateway.policy.views.durations import METHODS, OTHER

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
KEY = "k" * 32


@pytest.mark.parametrize(("target", "said"), [(b"/healthz", {"status": "ok"}), (b"/readyz", {"status": "ready"})])
@pytest.mark.gen_test
async def test_healthz_answers_200(serve: Serve, target: bytes, said: dict[str, str]) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    for suffix in (b"", b"?verbose=1"):
        answer = await client.ask(get(target + suffix))
        assert (answer.status, json.loads(answer.body)) == (200, said)
        assert (answer.get(b"content-type"), answer.get(b"cache-control")) == (b"application/json", b"no-store")
    bare = await client.ask(get(target, method=b"HEAD"), b"HEAD")
    assert (bare.status, bare.get(b"content-length"), client.buffer) == (200, b"%d" % len(answer.body), b"")


@pytest.mark.parametrize("target", [b"/healthz", b"/readyz", b"/metrics", b"/_pressure"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PROPFIND", b"BREW", b"get"])
@pytest.mark.gen_test
async def test_a_405_names_the_allowed_methods(serve: Serve, target: bytes, method: bytes) -> None:
    answer = await ask(await serve(NOWHERE), get(target, method=method))
    problem(answer, 405, "method_not_allowed")
    assert answer.get(b"allow") == b"GET, HEAD, OPTIONS"


@pytest.mark.parametrize("auth", ["true", "false"])
@pytest.mark.parametrize("target", [b"/healthz", b"/readyz", b"/metrics", b"/_pressure", b"/admin/stats"])
@pytest.mark.gen_test
async def test_each_page_tells_its_methods(serve: Serve, target: bytes, auth: str) -> None:  # RFC 9110 §9.3.7
    """Without a token, because a browser's preflight has no credential."""
    running = await serve(NOWHERE, AUTH_REQUIRED=auth, JWT_SECRET="k" * 32)
    client = await running.client()
    for _ in range(2):
        answer = await client.ask(get(target, method=b"OPTIONS"))
        assert (answer.status, answer.get(b"allow")) == (204, b"GET, HEAD, OPTIONS")
        assert (answer.all(b"content-length"), answer.all(b"content-type"), client.buffer) == ([], [], b"")


@pytest.mark.parametrize("target", [b"*", b"http://gateway.example"])
@pytest.mark.gen_test
async def test_the_server_tells_its_methods(serve: Serve, target: bytes) -> None:  # RFC 9112 §3.2.4
    client = await (await serve(NOWHERE)).client()
    for _ in range(2):
        answer = await client.ask(get(target, method=b"OPTIONS"))
        assert (answer.status, answer.get(b"allow")) == (204, b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


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
    assert answer.get(b"connection") == (b"close" if request_.startswith(b"CONNECT") else None)


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
    assert await probe.ended()
    assert (await (await running.client()).ask(get(b"/readyz", method=b"HEAD"), b"HEAD")).status == 503
    assert (await ask(running, get(b"/healthz"))).status == 200
    assert (await ask(running, get(b"/api/quick/x"))).status == 200  # the load balancer may not know it yet
    released.set()
    assert await busy.until(b"0\r\n\r\n") == b"4\r\nlast\r\n0\r\n\r\n"
    draining.cancel()


@pytest.mark.gen_test
async def test_a_stream_in_flight_ends_well_and_then_the_gateway_is_gone(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        message = await peer.request_head()
        await eventually(lambda: running.app.server.context.draining)
        await peer.body(message)
        await peer.send(reply(body=message.body))
        await peer.ended()

    up = upstream(script)
    running = await serve({"svc": [up.url]})
    uploading = await running.client()
    await uploading.send(get(b"/api/svc/x", b"Content-Length: 6", method=b"POST") + b"abc")
    await eventually(lambda: up.requests)
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.server.context.draining)
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(running.port)
    await uploading.send(b"def")
    answer = await uploading.response()
    assert (answer.body, answer.get(b"connection")) == (b"abcdef", b"close")
    assert await uploading.ended()
    assert await draining is True


# ---------------------------------------------------------------- readiness


def take_out(running: Running, *urls: str) -> None:
    """Have the health checks of endpoints fail, wherever these urls stand."""
    for service in running.app.gateway.services.values():
        for endpoint in service.endpoints:
            service.set_health(endpoint, running.app.gateway.now(), up=endpoint.url not in urls)


async def readiness(running: Running) -> tuple[int, dict[str, object]]:
    answer = await ask(running, get(b"/readyz"))
    bare = await ask(running, get(b"/readyz", method=b"HEAD"), b"HEAD")
    assert (bare.status, bare.get(b"content-length")) == (answer.status, b"%d" % len(answer.body))
    assert answer.get(b"content-type") == b"application/json"
    return answer.status, json.loads(answer.body)


A1, A2, B1 = "http://127.0.0.1:1/a1", "http://127.0.0.1:1/a2", "http://127.0.0.1:1/b1"


@pytest.mark.parametrize(
    ("required", "out", "missing"),
    [
        ("", (), []),
        ("", (A1, A2, B1), []),
        ("a", (), []),
        ("a", (A1,), []),
        ("a", (A1, A2), ["a"]),
        ("a", (B1,), []),
        ("a", (A1, A2, B1), ["a"]),
        ("b", (A1, A2), []),
        ("b", (A1, B1), ["b"]),
        ("a,b", (B1,), ["b"]),
        ("a,b", (A1, A2, B1), ["a", "b"]),
        ("*", (), []),
        ("*", (A1,), []),
        ("*", (B1,), ["b"]),
        ("*", (B1, A2, A1), ["a", "b"]),
    ],
)
@pytest.mark.gen_test
async def test_without_any_endpoint_of_a_required_service_the_gateway_is_not_ready(
    serve: Serve, required: str, out: tuple[str, ...], missing: list[str]
) -> None:
    running = await serve({"b": [B1], "a": [A1, A2]}, READY_REQUIRES=required)
    take_out(running, *out)
    wanted = (503, {"status": "unavailable", "services": missing}) if missing else (200, {"status": "ready"})
    assert await readiness(running) == wanted
    assert (await ask(running, get(b"/healthz"))).status == 200
    take_out(running)
    assert await readiness(running) == (200, {"status": "ready"})


@pytest.mark.gen_test
async def test_that_the_gateway_drains_is_said_first(serve: Serve) -> None:
    running = await serve({"a": [A1]}, READY_REQUIRES="*")
    take_out(running, A1)
    running.app.gateway.lifecycle.draining = True
    assert await readiness(running) == (503, {"status": "draining"})


@pytest.mark.gen_test
async def test_an_endpoint_that_is_given_nothing_new_makes_no_service_ready(serve: Serve) -> None:
    running = await serve({"a": [{"url": A1, "weight": 1}, {"url": A2, "weight": 0}]}, READY_REQUIRES="a")
    assert (await readiness(running))[0] == 200
    take_out(running, A1)
    assert await readiness(running) == (503, {"status": "unavailable", "services": ["a"]})


@pytest.mark.parametrize(("count", "ready"), [(1, False), (2, True)])
@pytest.mark.gen_test
async def test_breakers_that_real_failures_open_are_seen(
    serve: Serve, upstream: Start, count: int, ready: bool
) -> None:
    urls = [upstream(plays(reply(b"500 No"), then="close")).url, upstream(echo).url][:count]
    running = await serve({"svc": {"endpoints": urls, "balancer": "round_robin"}}, READY_REQUIRES="svc")
    broken = running.app.gateway.services[b"svc"].endpoints[0]
    client = await running.client()
    while not broken.breaker.is_open:
        assert (await readiness(running))[0] == 200
        await client.ask(get(b"/api/svc/x"))
    assert ((await readiness(running))[0] == 200) == ready


@pytest.mark.parametrize(
    "settings",
    [{}, {"MAX_EJECTED_PERCENT": "100", "PANIC_PERCENT": "0"}, {"MAX_EJECTED_PERCENT": "100", "PANIC_PERCENT": "50"}],
    ids=["defaults", "ejected", "panic"],
)
@pytest.mark.gen_test
async def test_readiness_returns_without_a_request(
    serve: Serve, upstream: Start, settings: dict[str, str]
) -> None:  # which nobody sends to what is not ready; so it must be let try
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"500 No" if is_ill else b"200 OK"))

    is_ill = True
    running = await serve(
        {"svc": [upstream(script).url]}, READY_REQUIRES="svc", BREAKER_OPEN_MS="1000", RETRY_ATTEMPTS="1", **settings
    )
    gateway = running.app.gateway
    breaker = gateway.services[b"svc"].endpoints[0].breaker
    client = await running.client()
    while not breaker.is_open:
        await client.ask(get(b"/api/svc/x"))
    is_ill = False
    assert (await readiness(running))[0] == 503
    await eventually(lambda: breaker.state(gateway.now()) is State.HALF_OPEN)
    assert await readiness(running) == (200, {"status": "ready"})
    assert (await client.ask(get(b"/api/svc/x"))).status == 200
    assert breaker.state(gateway.now()) is State.CLOSED


@pytest.mark.gen_test
async def test_health_checks_that_fail_make_the_gateway_unready_and_those_that_pass_ready_again(
    serve: Serve, upstream: Start
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"503 No" if is_ill else b"200 OK"))

    is_ill = True
    running = await serve(
        {"svc": [upstream(script).url]}, READY_REQUIRES="*", HEALTH_CHECK="http", HEALTH_INTERVAL_MS="10",
        HEALTH_DOWN_INTERVAL_MS="10", HEALTH_RISE="1", HEALTH_FALL="1",
    )  # fmt: skip
    (endpoint,) = running.app.gateway.services[b"svc"].endpoints
    await eventually(lambda: not endpoint.checks_pass)
    assert await readiness(running) == (503, {"status": "unavailable", "services": ["svc"]})
    is_ill = False
    await eventually(lambda: endpoint.checks_pass)
    assert await readiness(running) == (200, {"status": "ready"})


# ---------------------------------------------------------------- metrics


async def requests_counted(running: Running) -> Counter[tuple[str, str, int]]:
    """How many requests there have been, by method, route and status."""
    answer = await ask(running, get(b"/metrics"))
    assert answer.status == 200
    found = Counter[tuple[str, str, int]]()
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            if sample.name == "gateway_http_request_duration_seconds_count":
                labels = sample.labels
                assert set(labels) == {"method", "route", "status_code"}
                found[labels["method"], labels["route"], int(labels["status_code"])] = int(sample.value)
    return found


@pytest.mark.gen_test
async def test_metrics_are_text_unless_open_metrics_is_asked_for(serve: Serve) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    for lines, media_type, parse in (
        ((), b"text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        ((b"Accept: application/openmetrics-text",), b"application/openmetrics-text; version=1.0.0; charset=utf-8",
         open_metrics),
        ((b"Accept: application/openmetrics-text;q=0",), b"text/plain; version=0.0.4; charset=utf-8",
         text_string_to_metric_families),
        ((b"Accept: text/plain;q=0.5", b"ACCEPT: ,Application/OpenMetrics-Text"),
         b"application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics),
    ):  # fmt: skip
        answer = await client.ask(get(b"/metrics", *lines))
        assert (answer.status, answer.get(b"content-type")) == (200, media_type)
        assert (answer.get(b"cache-control"), answer.get(b"etag")) == (b"no-store", None)
        assert "gateway_upstream_requests" in {family.name for family in parse(answer.body.decode())}
        bare = await client.ask(get(b"/metrics", *lines, method=b"HEAD"), b"HEAD")
        assert (bare.status, bare.get(b"content-type"), client.buffer) == (200, media_type, b"")
        assert int(bare.get(b"content-length") or 0) > 1000


@pytest.mark.parametrize(
    "accept",
    [
        b"application/openmetrics-text; version=abc",
        b"application/openmetrics-text; version=1.0.0.x",
        b"text/plain; version=x",
        b"application/openmetrics-text; version=1.0.0.\xe9",
        b"\xff",
        b",,;;==",
    ],
)
@pytest.mark.gen_test
async def test_metrics_are_told_whatever_is_accepted(serve: Serve, accept: bytes) -> None:
    answer = await ask(await serve(NOWHERE), get(b"/metrics", b"Accept: " + accept))
    assert answer.status == 200
    assert (answer.get(b"content-type") or b"").split(b";")[0] in (b"text/plain", b"application/openmetrics-text")
    assert (answer.get(b"content-type") or b"").isascii()


@pytest.mark.gen_test
async def test_every_request_is_counted_once_by_method_route_and_status(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    asked: dict[bytes, tuple[int, tuple[str, str, int]]] = {
        get(b"/api/svc/x"): (3, ("GET", "/api/<service>/*", 200)),
        get(b"/api/svc/y?z=/healthz", method=b"POST", body=b"hello"): (2, ("POST", "/api/<service>/*", 200)),
        get(b"/api/none/x"): (2, ("GET", "/api/<service>/*", 404)),
        get(b"/sse/svc/x"): (1, ("GET", "/sse/<service>/*", 200)),
        get(b"/sse/svc/x", method=b"PUT"): (1, ("PUT", "/sse/<service>/*", 405)),
        get(b"/ws/svc"): (1, ("GET", "/ws/<service>/*", 426)),
        get(b"/healthz"): (4, ("GET", "/healthz", 200)),
        get(b"/healthz?x=1"): (1, ("GET", "/healthz", 200)),
        get(b"/readyz", method=b"DELETE"): (1, ("DELETE", "/readyz", 405)),
        get(b"/admin/stats"): (2, ("GET", "/admin/stats", 200)),
        get(b"/metrics"): (2, ("GET", "/metrics", 200)),
        get(b"/nothing"): (2, ("GET", "other", 404)),
        get(b"/healthz/x", method=b"BREW"): (1, ("OTHER", "other", 404)),
        get(b"/api/svc/x", method=b"BREW"): (1, ("OTHER", "/api/<service>/*", 200)),
    }
    wanted = Counter[tuple[str, str, int]]()
    for request, (count, labels) in asked.items():
        for _ in range(count):
            assert (await ask(running, request)).status == labels[2], request
        wanted[labels] += count
    await eventually(lambda: not running.inflight)
    assert await requests_counted(running) == wanted
    wanted["GET", "/metrics", 200] += 1  # that one
    assert await requests_counted(running) == wanted


@pytest.mark.gen_test
async def test_clients_cannot_make_series(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    asked = 0
    for number in range(10):
        for target in (
            b"/x%d", b"/api/svc/%d", b"/api/none-%d/x", b"/sse/none-%d", b"/ws/none-%d/x", b"/metrics/%d",
            b"/healthz?%d", b"/admin/%d", b"/api%d", b"//%d", b"/METRICS%d", b"/metrics;%d", b"/%%6detrics%d",
            b"http://gateway.example/%d", b"http://host-%d/healthz",
        ):  # fmt: skip
            for method in (b"GET", b"M%d" % number):
                await ask(running, get(target % number if b"%d" in target else target, method=method))
                asked += 1
    counted = await requests_counted(running)
    assert {method for method, _, _ in counted} == {"GET", OTHER.decode()}
    assert {route for _, route, _ in counted} <= {route.path for route in ROUTES} | {"other"}
    assert OTHER not in METHODS
    assert sum(counted.values()) == asked


async def any_status(peer: Peer) -> None:
    """Answers with the status that the path names."""
    while True:
        status = (await peer.request()).target.rpartition(b"/")[2]
        await peer.send(reply(b"%b Status" % status))


@pytest.mark.gen_test(timeout=30)
async def test_a_flood_of_names_makes_the_metrics_no_longer(serve: Serve, upstream: Start) -> None:
    limits = {"RATE_LIMITS": "1000000/h", "AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
    running = await serve({"svc": [upstream(any_status).url]}, **limits)
    client = await running.client()

    async def flood(first: int, last: int) -> set[str]:
        """The series behind requests each of which has names of its own."""
        for number in range(first, last):
            name = b"name-%d" % number
            made_up = jwt.encode({"sub": f"sub-{number}", "iss": f"iss-{number}", "jti": f"{number}"}, KEY).encode()
            forged = jwt.encode({"sub": f"sub-{number}"}, "f" * 32, headers={"kid": f"kid-{number}"}).encode()
            told = [b"X-Request-Id: " + name, b"User-Agent: " + name, b"Origin: http://" + name, name + b": x"]
            for target, method, bearer in (
                (b"/api/svc/%d" % number, b"GET", made_up), (b"/api/svc/%d" % number, name.upper(), made_up),
                (b"/api/%b/x" % name, b"GET", made_up), (b"/sse/%b" % name, b"GET", made_up),
                (b"/%b" % name, b"GET", made_up), (b"/admin/api/%b" % name, b"GET", made_up),
                (b"/api/svc/x", b"GET", forged), (b"/admin/api/streams?service=%b" % name, b"GET", made_up),
            ):  # fmt: skip
                await client.ask(get(target, b"Authorization: Bearer " + bearer, *told, method=method, host=name))
        text = (await ask(running, get(b"/metrics"))).body.decode()
        assert "name-" not in text and "NAME-" not in text and "sub-" not in text and "kid-" not in text
        return {line.rpartition(" ")[0] for line in text.splitlines()}

    await ask(running, get(b"/metrics"))  # whose series are there at the next look
    before = await flood(600, 650)  # statuses without a name
    assert await flood(650, 700) == before


# ---------------------------------------------------------------- /_pressure


@pytest.mark.gen_test
async def test_pressure_tells_the_figures_of_the_process(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(plays()).url], "events": [upstream(Source()).url]})
    waiting, stream = await running.client(), await running.client()
    await waiting.send(get(b"/api/svc/x"))
    await stream.send(get(b"/sse/events/x"))
    await eventually(lambda: running.inflight == 2 and running.app.gateway.streams.open)
    client = await running.client()
    answer = await client.ask(get(b"/_pressure"))
    said = json.loads(answer.body)
    assert (answer.status, answer.get(b"content-type"), said.pop("status")) == (200, b"application/json", "ok")
    assert (said.pop("shedding"), said.pop("shedTotal"), said.pop("bufferedBytes")) == ([], 0, 0)
    assert said.pop("active") == {"requests": 1, "waiting": 0, "eventStreams": 1, "webSockets": 0}
    assert set(said.pop("eventLoopDelay")) == {"p50Ms", "p99Ms"}
    descriptors, queue = said.pop("descriptors"), said.pop("acceptQueue")
    assert 0 < descriptors["used"] <= descriptors["allowed"]
    assert said.pop("rssBytes") > 10_000_000
    assert queue["waiting"] == 0 < queue["limit"]
    assert said == {}
    head = await client.ask(get(b"/_pressure", method=b"HEAD"), b"HEAD")
    assert (head.status, client.buffer) == (200, b"")


@pytest.mark.parametrize("query", [b"?heap", b"?heap=1", b"?a=b&heap"])
@pytest.mark.gen_test
async def test_the_heap_is_told_if_asked_for(serve: Serve, query: bytes) -> None:
    said = json.loads((await ask(await serve(NOWHERE), get(b"/_pressure" + query))).body)
    assert set(said["heap"]) == {"mallocBytes", "pymallocBlocks"}
    assert said["heap"]["pymallocBlocks"] > 1000
    assert said["heap"]["mallocBytes"] is None or said["heap"]["mallocBytes"] > 0


@pytest.mark.gen_test
async def test_bytes_that_a_client_does_not_take_are_told(serve: Serve, upstream: Start) -> None:
    large = reply(body=b"x" * 32 * 1024 * 1024)
    running = await serve({"svc": [upstream(plays(large)).url]})
    client, probe = await running.client(receive_buffer=4096), await running.client()
    await client.send(get(b"/api/svc/x"))
    await eventually(lambda: running.app.server.buffered_bytes)
    assert json.loads((await probe.ask(get(b"/_pressure"))).body)["bufferedBytes"] > 0
    client.reset()


@pytest.mark.gen_test
async def test_the_accept_queue_is_told(serve: Serve) -> None:
    running = await serve(NOWHERE)
    queue = running.app.server.accept_queue()
    if queue is None:  # not Linux
        return
    client = await running.client()  # connected by the kernel; the gateway has not accepted
    after = running.app.server.accept_queue()
    assert after and after["waiting"] in (0, 1)
    await client.ask(get(b"/healthz"))
    assert running.app.server.accept_queue() == {"waiting": 0, "limit": queue["limit"]}


FIGURES = [b"/metrics", b"/_pressure"]


@pytest.mark.parametrize("target", FIGURES)
@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({}, 200),
        ({"AUTH_REQUIRED": "true"}, 200),
        ({"METRICS_AUTH": "true"}, 200),
        ({"METRICS_AUTH": "true", "AUTH_REQUIRED": "true"}, 401),
    ],
    ids=["neither", "AUTH_REQUIRED", "METRICS_AUTH", "both"],
)
@pytest.mark.gen_test
async def test_figures_need_a_token_if_both_variables_say_so(
    serve: Serve, target: bytes, variables: dict[str, str], status: int
) -> None:
    running = await serve(NOWHERE, JWT_SECRET="k" * 32, **variables)
    assert (await ask(running, get(target))).status == status
    token = b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, "k" * 32).encode()
    assert (await ask(running, get(target, token))).status == 200
    assert (await ask(running, get(target, method=b"OPTIONS"))).status == 204
    assert (await ask(running, get(b"/healthz"))).status == 200
