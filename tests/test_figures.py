"""The figures after a load: /metrics, /admin/stats, the load generator and the services say the same, exactly."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, Origin, age, frozen
from tests.support.caching import ask as ask_cache
from tests.support.event_streams import LAST_CHUNK, STREAM_HEAD, chunk
from tests.support.figures import whole
from tests.support.journeys import Start
from tests.support.redis import StartRedis
from tests.support.sockets import Client, Peer, Upstream, echo, eventually, get, reply
from tests.support.tickets import AUTH, made, used
from tests.support.websockets import HANDSHAKE, Side, accepting, close, text
from tornado_gateway.policy.revocations import By
from tornado_gateway.policy.upstream.statistics import Minute
from tornado_gateway.policy.views.history import Totals

WORKERS = 12
EACH = 100  # requests of a worker
EVENTS = 7
MESSAGES = 5
ALWAYS_RETRIES = {"BREAKER_FAILURES": "0", "RETRY_BACKOFF_MS": "0", "RETRY_BUDGET_PERCENT": "1000"}

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Service:
    """A service: each target says what to do.

    Attributes:
        asked: requests that came, by target.
        waiting: targets of requests that get no answer.
    """

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()
        self.waiting: set[bytes] = set()
        self._failed: set[bytes | None] = set()

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request_head()
            await peer.body(request)
            action = request.target.split(b"/")[1].partition(b"?")[0]
            self.asked[action] += 1
            if action == b"flaky" and (its := request.get(b"x-request-id")) not in self._failed:
                self._failed.add(its)
                peer.reset()  # the second attempt is answered
                return
            if action == b"never":
                self.waiting.add(request.target)
                await peer.ended()
                return
            if action == b"stream":
                await self._stream(peer)
            elif action == b"ws":
                await self._websocket(peer, accepting(request))
                return
            else:
                await peer.send(reply(b"%b Status" % (action if action.isdigit() else b"200")))

    async def _stream(self, peer: Peer) -> None:
        events = b"".join(b"%x\r\ndata: %02d\n\n\r\n" % (10, number) for number in range(EVENTS))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(events + b"0\r\n\r\n")

    async def _websocket(self, peer: Peer, head: bytes) -> None:
        await peer.send(head)
        side = Side(peer, masks=False)
        while (frame := await side.frame()).opcode != 8:
            await side.send(frame, frame)  # two messages for each
        await side.send(frame)


class Load:
    """A load generator.

    Attributes:
        got: what clients got, by status; 499 where the client left.
        streams, websockets, flaky: requests of these kinds.
        codes: close codes that clients sent.
        body_bytes: of the event streams.
    """

    def __init__(self, running: Running, service: Service, seed: int) -> None:
        self._running, self._service, self._rng = running, service, random.Random(seed)
        self.got: Counter[int] = Counter()
        self.streams = self.websockets = self.body_bytes = self.flaky = 0
        self.codes: Counter[int] = Counter()

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(WORKERS)))

    async def _work(self) -> None:
        client = await Client.connect(self._running.port)
        actions: list[Callable[[Client], Awaitable[bool]]] = [
            self._plain, self._plain, self._plain, self._plain, self._flaky, self._leave, self._stream, self._websocket,
        ]  # fmt: skip
        for _ in range(EACH):
            if not await self._rng.choice(actions)(client):
                client.close()
                client = await Client.connect(self._running.port)
        client.close()

    async def _plain(self, client: Client) -> bool:
        status = self._rng.choice([200, 200, 201, 301, 404, 429, 500])
        answer = await client.ask(get(b"/api/svc/%d" % status))
        assert answer.status == status
        self.got[status] += 1
        return True

    async def _flaky(self, client: Client) -> bool:
        answer = await client.ask(get(b"/api/svc/flaky"))
        assert answer.status == 200
        self.got[200] += 1
        self.flaky += 1
        return True

    async def _leave(self, client: Client) -> bool:
        target = b"/never/%032x" % self._rng.getrandbits(128)
        await client.send(get(b"/api/svc" + target))
        await eventually(lambda: target in self._service.waiting)
        self.got[499] += 1
        return False

    async def _stream(self, client: Client) -> bool:
        answer = await client.ask(get(b"/sse/svc/stream"))
        assert answer.body.count(b"\n\n") == EVENTS
        self.got[200] += 1
        self.streams += 1
        self.body_bytes += len(answer.body)
        return True

    async def _websocket(self, client: Client) -> bool:
        await client.send(get(b"/ws/svc/ws", *HANDSHAKE))
        assert (await client.head()).status == 101
        side, code = Side(client, masks=True), self._rng.choice([1000, 1001, 3456, 4401, 4999])
        for number in range(MESSAGES):
            await side.send(text(f"{number}"))
            await side.frame(), await side.frame()
        await side.send(close(code))
        assert (await side.told())[0] == code
        self.got[101] += 1
        self.websockets += 1
        self.codes[code] += 1
        await side.ended()
        return False


async def figures(running: Running, accept: bytes) -> tuple[Values, dict[str, Any]]:
    """The values of /metrics by series, and /admin/stats."""
    client = await running.client()
    page = (await client.ask(get(b"/metrics", b"Accept: " + accept))).body.decode()
    parse = open_metrics if b"openmetrics" in accept else text_format
    values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(page)
        for sample in family.samples
    }
    return values, json.loads((await client.ask(get(b"/admin/stats"))).body)


def total(values: Values, name: str, **labels: str) -> float:
    """The sum of the series of a name that have these labels."""
    return sum(value for (each, its), value in values.items() if each == name and labels.items() <= dict(its).items())


def by(values: Values, name: str, label: str, **labels: str) -> dict[str, float]:
    """The values of the series of a name, without zeros, by a label."""
    found = {dict(its).get(label, ""): total(values, name, **{label: dict(its).get(label, "")}, **labels)
             for each, its in values if each == name}  # fmt: skip
    return {key: value for key, value in found.items() if value}


@pytest.mark.gen_test(timeout=120)
async def test_all_counts_agree_after_a_load(serve: Serve, upstream: Callable[..., Upstream]) -> None:
    service = Service()
    running = await serve({"svc": [upstream(service).url, upstream(service).url]}, **ALWAYS_RETRIES)
    load = Load(running, service, seed=1)
    await load.run()
    await eventually(lambda: not running.inflight and not running.app.gateway.streams.open)
    values, stats = await figures(running, b"text/plain")
    asked = service.asked
    (of,) = stats["services"].values()

    # Clients.
    requests = WORKERS * EACH
    assert load.got.total() == requests
    assert by(values, "gateway_http_request_duration_seconds_count", "status_code", route="/api/<service>/*") == {
        str(status): count - (load.streams if status == 200 else 0)
        for status, count in load.got.items()
        if status != 101
    }
    classes = Counter[str]()
    for status, count in load.got.items():
        classes[f"{status // 100}xx"] += count
    assert by(values, "gateway_service_requests_total", "status_class") == classes == of["requests"]
    durations = total(values, "gateway_service_request_duration_seconds_count")
    assert durations == requests - load.streams - load.websockets
    assert by(values, "gateway_failed_requests_total", "reason")["client_gone"] == load.got[499]

    # Services.
    leases = total(values, "gateway_upstream_requests_total")
    repeats = asked.total() - leases  # over a new connection, since a kept connection had ended
    assert leases == sum(each["requestsTotal"] for each in of["upstreamDetails"])
    assert leases - total(values, "gateway_upstream_retries_total") == requests
    assert total(values, "gateway_upstream_retries_total") == sum(
        each["retriesTotal"] for each in of["upstreamDetails"]
    )
    outcomes = by(values, "gateway_upstream_requests_total", "outcome")
    assert outcomes["client_gone"] == load.got[499] == asked[b"never"]
    assert outcomes["failure"] + repeats == load.flaky + load.got[500]
    assert total(values, "gateway_upstream_sent_total") == asked.total()
    answered = requests - asked[b"never"]
    assert total(values, "gateway_upstream_responses_total") == answered
    assert total(values, "gateway_upstream_head_seconds_count") == answered

    # Streams.
    for kind, count in (("sse", load.streams), ("ws", load.websockets)):
        assert total(values, "gateway_streams_opened_total", kind=kind) == count
        assert total(values, "gateway_stream_duration_seconds_count", kind=kind) == count
        assert total(values, "gateway_streams_open", kind=kind) == 0
    assert total(values, "gateway_stream_first_event_seconds_count") == load.streams
    messages = {"sse": (0, EVENTS * load.streams), "ws": (MESSAGES * load.websockets, 2 * MESSAGES * load.websockets)}
    for kind, (up, down) in messages.items():
        assert total(values, "gateway_stream_messages_total", kind=kind, direction="up") == up
        assert total(values, "gateway_stream_messages_total", kind=kind, direction="down") == down
        shown = of["eventStreams" if kind == "sse" else "websockets"]
        assert shown["messages"] == {"up": up, "down": down}
    assert total(values, "gateway_stream_bytes_total", kind="sse") == load.body_bytes
    labels = {1000: "1000", 1001: "1001", 3456: "3xxx", 4401: "4401", 4999: "4xxx"}
    closed = {labels[code]: count for code, count in load.codes.items()}
    assert by(values, "gateway_websocket_closes_total", "code") == closed
    assert of["websockets"]["closeCodes"] == {str(code): count for code, count in sorted(load.codes.items())}
    assert all(load.codes.values())

    # The other format, and at rest.
    others, _ = await figures(running, b"application/openmetrics-text; version=1.0.0")
    for name in ("gateway_service_requests_total", "gateway_stream_bytes_total", "gateway_upstream_head_seconds_count"):
        assert total(others, name) == total(values, name) > 0
    assert stats["connections"] == {"http": 0, "sse": 0, "ws": 0}
    assert total(values, "gateway_in_flight") == total(values, "gateway_upstream_inflight") == 0


@pytest.mark.gen_test
async def test_the_look_of_each_second_counts_open_streams_and_asks_none(serve: Serve, upstream: Start) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: open\n\n")
        await peer.ended()

    running = await serve({"svc": [upstream(script).url]})
    client = await running.client()
    await client.send(get(b"/sse/svc/"))
    await client.until(b"data: open\n\n")
    gateway = running.app.gateway
    await eventually(lambda: gateway.streams.open)
    seen = whole(gateway.observer._collect())
    assert (Totals.of(seen, Minute(), 0.0).streams, seen.process.buffered) == (1, {})
    assert seen.services["svc"].event_streams.bytes_down == 0
    values = await scraped(running)
    assert total(values, "gateway_stream_bytes_total", kind="sse", direction="down") == len(b"data: open\n\n")


@pytest.mark.gen_test
async def test_a_stream_of_a_minute_is_in_the_figures_while_it_is_open_and_is_no_latency(
    serve: Serve, upstream: Start
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await ends.wait()
        await peer.send(chunk(b"data: 2\n\n") + LAST_CHUNK)

    ends, running = asyncio.Event(), await serve({"svc": [upstream(script).url]})
    gateway, client = running.app.gateway, await running.client()
    await client.send(get(b"/sse/svc/x"))
    await client.until(b"data: 1\n\n")
    begun = gateway.now
    object.__setattr__(gateway, "now", lambda: begun() + 60)
    values, stats = await figures(running, b"text/plain")
    for name, value in (
        ("gateway_streams_open", 1), ("gateway_streams_opened_total", 1), ("gateway_upstream_inflight", 1),
        ("gateway_stream_first_event_seconds_count", 1), ("gateway_stream_messages_total", 1),
        ("gateway_stream_bytes_total", 9), ("gateway_service_head_seconds_count", 1),
        ("gateway_stream_duration_seconds_count", 0), ("gateway_service_requests_total", 0),
    ):  # fmt: skip
        assert total(values, name, service="svc") == value, name
    (shown,) = stats["services"].values()
    assert (shown["eventStreams"]["open"], shown["eventStreams"]["messages"]["down"]) == (1, 1)
    (listed,) = json.loads((await (await running.client()).ask(get(b"/admin/api/streams"))).body)["streams"]
    assert 60_000 <= listed["ageMs"] < 120_000
    assert (listed["messages"]["down"], listed["bytes"]["down"]) == (1, 9)

    ends.set()
    await client.until(b"\r\n0\r\n\r\n")
    await eventually(lambda: not running.inflight)
    values, _ = await figures(running, b"text/plain")
    for name in ("gateway_service_head_seconds", "gateway_stream_first_event_seconds"):
        assert total(values, f"{name}_count", service="svc") == 1
        assert total(values, f"{name}_sum", service="svc") < 60
    route = {"route": "/sse/<service>/*"}
    assert total(values, "gateway_http_request_duration_seconds_count", **route) == 1  # the time to the head
    assert total(values, "gateway_http_request_duration_seconds_sum", **route) < 60
    assert total(values, "gateway_service_request_duration_seconds_count", service="svc") == 0
    assert total(values, "gateway_stream_duration_seconds_count", service="svc") == 1
    assert 60 <= total(values, "gateway_stream_duration_seconds_sum", service="svc") < 120
    assert total(values, "gateway_streams_open", service="svc") == 0


async def scraped(running: Running) -> Values:
    client = await running.client()
    page = (await client.ask(get(b"/metrics"))).body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_format(page)
        for sample in family.samples
    }


@pytest.mark.gen_test
async def test_the_cache_tells_what_the_looks_have_found(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    for _ in range(3):
        await ask_cache(running)
    age(running, 100)
    await ask_cache(running)
    await ask_cache(running, b"Cache-Control: only-if-cached", path=b"/api/svc/other")
    seen = await scraped(running)
    results = {
        dict(labels)["result"]: value
        for (name, labels), value in seen.items()
        if name == "gateway_cache_requests_total"
    }
    assert results == {"uri-miss": 1, "hit": 2, "stale": 1, "only-if-cached": 1}
    assert seen["gateway_cache_keys", frozenset()] == seen["gateway_cache_responses", frozenset()] == 1
    assert seen["gateway_cache_bytes", frozenset()] > 100
    assert seen["gateway_cache_evictions_total", frozenset()] == 0


@pytest.mark.gen_test
async def test_requests_that_share_an_answer_are_counted(serve: Serve, upstream: Start) -> None:
    go_on = asyncio.Event()

    async def answer(peer: Peer) -> None:
        await peer.request_head()
        await go_on.wait()
        await peer.send(reply(fields=(FRESH,)))

    up = upstream(answer)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    asking = [asyncio.ensure_future(ask_cache(running)) for _ in range(5)]
    results = running.app.gateway.cache.totals.results  # type: ignore[union-attr]
    await eventually(lambda: results["svc", "uri-miss"] == 5)
    go_on.set()
    assert {each.status for each in await asyncio.gather(*asking)} == {200}
    assert results["svc", "collapsed"] == 4


@pytest.mark.gen_test
async def test_tickets_and_revocations_are_counted(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ticket = await made(running)
    for _ in range(3):
        await used(running, ticket)
    revocations = running.app.gateway.revocations
    revocations.take(revocations.revoke(By.JTI, "a", time.time(), 60.0))
    seen = await scraped(running)
    outcomes = {
        each: seen["gateway_tickets_total", frozenset({("outcome", each)})] for each in ("made", "used", "refused")
    }
    assert outcomes == {"made": 1, "used": 1, "refused": 2}
    assert seen["gateway_revocations", frozenset()] == 1
    assert seen["gateway_revocations_heard", frozenset()] == 1  # there is nobody to hear


@pytest.mark.gen_test
async def test_a_gauge_tells_whether_revocations_of_other_gateways_are_heard(
    serve: Serve, redis_server: StartRedis
) -> None:
    server = redis_server()
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH, REDIS_URL=server.url)
    revocations = running.app.gateway.revocations

    async def heard() -> float:
        return (await scraped(running))["gateway_revocations_heard", frozenset()]

    await eventually(lambda: revocations.is_heard)
    assert await heard() == 1
    server.stop()
    await eventually(lambda: not revocations.is_heard)
    assert await heard() == 0
    server.start()
    await eventually(lambda: revocations.is_heard)
    assert await heard() == 1
