"""GET /admin/stats: the keys that this gateway's family has always had, and figures equal to clients' own counts."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import jwt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Running, Serve
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, capture, problem
from tests.support.sockets import Client, Peer, eventually, get, reply
from tests.support.websockets import HANDSHAKE, Acceptor
from tornado_gateway.policy.upstream.endpoint import Outcome

NOWHERE = "http://127.0.0.1:1"
STATS = get(b"/admin/stats")
NUMBER = (int, float)
ALWAYS_CLOSED = {"BREAKER_FAILURES": "0"}

# What readers of this gateway's family find, by path: "{name}" stands for any service, "[]" for each of a list.
KEPT: dict[str, type | tuple[type, ...]] = {
    "nowMs": int,
    "uptimeSeconds": NUMBER,
    "env": str,
    "services": dict,
    "services.{name}.upstreams": int,
    "services.{name}.healthy": int,
    "services.{name}.avgLatencyMs": NUMBER,
    "services.{name}.rps": NUMBER,
    "services.{name}.errorRate": NUMBER,
    "services.{name}.upstreamDetails": list,
    "services.{name}.upstreamDetails[].url": str,
    "services.{name}.upstreamDetails[].healthy": bool,
    "services.{name}.upstreamDetails[].circuitOpenUntilMs": int,
    "services.{name}.upstreamDetails[].inflight": dict,
    "services.{name}.upstreamDetails[].inflight.http": int,
    "services.{name}.upstreamDetails[].inflight.sse": int,
    "services.{name}.upstreamDetails[].inflight.ws": int,
    "services.{name}.upstreamDetails[].requestsTotal": int,
    "services.{name}.upstreamDetails[].outcomes.success": int,
    "services.{name}.upstreamDetails[].outcomes.failure": int,
    "services.{name}.upstreamDetails[].outcomes.clientGone": int,
    "services.{name}.upstreamDetails[].outcomes.superseded": int,
    "services.{name}.upstreamDetails[].outcomes.ignored": int,
    "services.{name}.upstreamDetails[].errorsTotal": int,
    "services.{name}.upstreamDetails[].rps": NUMBER,
    "services.{name}.upstreamDetails[].latency": dict,
    "services.{name}.upstreamDetails[].latency.ewmaMs": NUMBER,
    "services.{name}.upstreamDetails[].latency.lastMs": NUMBER,
    "connections": dict,
    "connections.http": int,
    "connections.sse": int,
    "connections.ws": int,
}

# Of one look, and of the next: what differs although nothing happened.
CHANGES_WITH_TIME = {"nowMs", "uptimeSeconds", "rps", "peakMs", "retryBudget"}


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


async def stats(running: Running, *lines: bytes) -> dict[str, Any]:
    answer = await ask(running, get(b"/admin/stats", *lines))
    assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
    seen: dict[str, Any] = json.loads(answer.body, parse_constant=no_constant)
    return seen


async def metrics(running: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each series, by the name and labels of its sample."""
    answer = await ask(running, get(b"/metrics"))
    assert answer.status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def series(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def at(seen: dict[str, Any], path: str) -> Iterator[Any]:
    """All values that a path of KEPT leads to."""
    found: list[Any] = [seen]
    for part in path.split("."):
        key = part.removesuffix("[]")
        found = [inner for each in found for inner in (each.values() if key == "{name}" else [each[key]])]
        if part != key:
            found = [inner for each in found for inner in each]
    yield from found


def settled(value: Any) -> Any:
    """What was seen, without what time alone changes."""
    if isinstance(value, dict):
        return {key: settled(inner) for key, inner in value.items() if key not in CHANGES_WITH_TIME}
    return [settled(each) for each in value] if isinstance(value, list) else value


def answers_as_asked(told: Counter[bytes]) -> Any:
    """A script: answer with the status at the end of the target, and count the answer; never answer "hang"."""

    async def script(peer: Peer) -> None:
        while True:
            wanted = (await peer.request()).target.rpartition(b"/")[2]
            told[wanted] += 1
            if wanted == b"hang":
                await peer.ended()
                return
            await peer.send(reply(wanted + b" Told"))

    return script


# ---- what it looks like


@pytest.mark.gen_test
@pytest.mark.parametrize("is_used", [False, True])
async def test_the_kept_keys_are_there_with_the_kept_types(serve: Serve, upstream: Start, is_used: bool) -> None:
    told: Counter[bytes] = Counter()
    running = await serve({"one": [upstream(answers_as_asked(told)).url, NOWHERE], "two": [NOWHERE]})
    if is_used:
        client = await running.client()
        for target in (b"/api/one/200", b"/api/one/500", b"/api/two/x"):
            await client.ask(get(target))
    seen = await stats(running)
    assert list(seen["services"]) == ["one", "two"]
    for path, kind in KEPT.items():
        values = list(at(seen, path))
        assert len(values) == (3 if "[]" in path else 2 if "{name}" in path else 1), path
        for value in values:
            assert isinstance(value, kind), f"{path} is {value!r}"
            assert isinstance(value, bool) == (kind is bool), f"{path} is {value!r}"


@pytest.mark.gen_test
async def test_each_figure_has_the_documented_meaning(serve: Serve) -> None:
    before = time.time()
    running = await serve({"svc": [NOWHERE, NOWHERE + "/b"]}, GATEWAY_ENV="test")
    seen = await stats(running)
    assert before * 1000 - 1 <= seen["nowMs"] <= time.time() * 1000 + 1
    assert 0 <= seen["uptimeSeconds"] <= time.time() - before + 0.001
    assert (seen["env"], seen["draining"]) == ("test", False)
    assert seen["connections"] == {"http": 0, "sse": 0, "ws": 0}
    service = seen["services"]["svc"]
    assert (service["upstreams"], service["healthy"], service["rps"], service["errorRate"]) == (2, 2, 0, 0)
    assert [each["url"] for each in service["upstreamDetails"]] == [NOWHERE, NOWHERE + "/b"]
    later = await stats(running)
    assert later["nowMs"] >= seen["nowMs"]
    assert later["uptimeSeconds"] >= seen["uptimeSeconds"]


@pytest.mark.gen_test
async def test_draining_shows(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]})
    running.app.gateway.lifecycle.draining = True
    assert (await stats(running))["draining"] is True


@pytest.mark.gen_test
async def test_head_is_answered_as_get_without_a_body(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]})
    client = await running.client()
    for _ in range(2):
        bare = await client.ask(get(b"/admin/stats", method=b"HEAD"), b"HEAD")
        assert (bare.status, bare.get(b"content-type"), client.buffer) == (200, b"application/json", b"")
        whole = await client.ask(STATS)
        assert (whole.status, whole.complete, whole.get(b"cache-control")) == (200, True, b"no-store")
        assert int(bare.get(b"content-length") or 0) == pytest.approx(len(whole.body), abs=5)
        assert json.loads(whole.body)["env"] == "development"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"BREW"])
@pytest.mark.gen_test
async def test_a_405_names_the_allowed_methods(serve: Serve, method: bytes) -> None:
    answer = await ask(await serve({"svc": [NOWHERE]}), get(b"/admin/stats", method=method))
    problem(answer, 405, "method_not_allowed")
    assert answer.get(b"allow") == b"GET, HEAD, OPTIONS"


# ---- who may see it


SECRET = "k" * 32


def bearer(secret: str = SECRET, valid_for: float = 3600.0) -> bytes:
    return b"Authorization: Bearer " + jwt.encode({"exp": time.time() + valid_for}, secret).encode()


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Authorization: ",),
        (b"Authorization: Bearer nonsense",),
        (b"Authorization: Bearer \xff\xfe",),
        (b"Authorization: Basic dTpw",),
        (bearer("x" * 32),),
        (bearer(valid_for=-60.0),),
    ],
    ids=["none", "empty", "nonsense", "not ASCII", "basic", "another key", "expired"],
)
@pytest.mark.gen_test
async def test_stats_are_refused_without_a_valid_token(serve: Serve, lines: tuple[bytes, ...]) -> None:
    running = await serve({"svc": [NOWHERE]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET)
    for target in (b"/admin/stats", b"/admin/stats?token=x"):
        answer = await ask(running, get(target, *lines))
        problem(answer, 401, "unauthorized")
        assert (answer.get(b"www-authenticate") or b"").startswith(b'Bearer realm="gateway"')
        assert b"127.0.0.1:1" not in answer.body
    bare = await ask(running, get(b"/admin/stats", *lines, method=b"HEAD"), b"HEAD")
    assert bare.status == 401


@pytest.mark.gen_test
async def test_two_tokens_are_a_bad_request(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET)
    for target in (b"/admin/stats", b"/api/svc/x", b"/ws/svc"):
        problem(await ask(running, get(target, bearer(), bearer())), 400, "bad_request")


@pytest.mark.gen_test
async def test_stats_need_a_token_and_metrics_need_none(serve: Serve) -> None:
    running = await serve({"svc": [NOWHERE]}, AUTH_REQUIRED="true", JWT_SECRET=SECRET)
    assert list((await stats(running, bearer()))["services"]) == ["svc"]
    for target in (b"/metrics", b"/healthz", b"/readyz"):
        assert (await ask(running, get(target))).status == 200


# ---- reading changes nothing


@pytest.mark.gen_test
async def test_reading_changes_nothing_but_times_and_rates(serve: Serve, upstream: Start) -> None:
    told: Counter[bytes] = Counter()
    running = await serve({"svc": [upstream(answers_as_asked(told)).url]}, **ALWAYS_CLOSED)
    client = await running.client()
    for status in (b"200", b"200", b"500", b"404"):
        await client.ask(get(b"/api/svc/" + status))
    first = settled(await stats(running))
    assert first["services"]["svc"]["upstreamDetails"][0]["requestsTotal"] == 4
    for _ in range(5):
        await metrics(running)
        await ask(running, get(b"/admin/stats", method=b"HEAD"), b"HEAD")
        assert settled(await stats(running)) == first


# ---- breakers


async def fail_until_open(running: Running, failures: int = 3) -> None:
    client = await running.client()
    for _ in range(failures):
        assert (await client.ask(get(b"/api/svc/500"))).status == 500


@pytest.mark.gen_test
async def test_an_open_breakers_end_is_an_instant_in_milliseconds(serve: Serve, upstream: Start) -> None:
    url = upstream(answers_as_asked(Counter())).url
    running = await serve({"svc": [url]}, BREAKER_FAILURES="3", BREAKER_OPEN_MS="20000")
    (one,) = at(await stats(running), "services.{name}.upstreamDetails[]")
    assert (one["circuitOpenUntilMs"], one["healthy"]) == (0, True)
    await fail_until_open(running)
    first = await stats(running)
    (one,) = at(first, "services.{name}.upstreamDetails[]")
    assert one["circuitOpenUntilMs"] - first["nowMs"] == pytest.approx(20000, rel=0.15)  # jitter, and a slow machine
    assert (one["healthy"], first["services"]["svc"]["healthy"], one["errorsTotal"]) == (False, 0, 3)
    (again,) = at(await stats(running), "services.{name}.upstreamDetails[]")
    assert again["circuitOpenUntilMs"] == pytest.approx(one["circuitOpenUntilMs"], abs=2)
    seen = await metrics(running)
    assert seen[series("gateway_breaker_state", service="svc", endpoint=url)] == 2
    assert seen[series("gateway_upstream_up", service="svc", endpoint=url)] == 0


@pytest.mark.gen_test
async def test_a_half_open_breaker_shows_no_remaining_time(serve: Serve, upstream: Start) -> None:
    url = upstream(answers_as_asked(Counter())).url
    running = await serve({"svc": [url]}, BREAKER_FAILURES="3", BREAKER_OPEN_MS="1")
    await fail_until_open(running)
    breaker = running.app.gateway.services[b"svc"].endpoints[0].breaker
    await eventually(lambda: running.app.gateway.now() > breaker.open_until)
    (one,) = at(await stats(running), "services.{name}.upstreamDetails[]")
    assert (one["circuitOpenUntilMs"], one["breaker"]["state"], one["healthy"]) == (0, "half_open", False)
    assert (await metrics(running))[series("gateway_breaker_state", service="svc", endpoint=url)] == 1
    assert (await ask(running, get(b"/api/svc/200"))).status == 200
    (one,) = at(await stats(running), "services.{name}.upstreamDetails[]")
    assert (one["circuitOpenUntilMs"], one["breaker"]["state"], one["healthy"]) == (0, "closed", True)
    assert (await metrics(running))[series("gateway_breaker_state", service="svc", endpoint=url)] == 0


# ---- figures equal what clients counted


class Load:
    """Clients that send requests in random order, and count the answers.

    Attributes:
        got: answers by service and status.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.got: Counter[tuple[str, int]] = Counter()

    async def run(self, wanted: dict[str, int], clients: int = 4) -> None:
        """Request each target so many times."""
        todo = [target for target, count in wanted.items() for _ in range(count)]
        random.Random(1).shuffle(todo)
        await asyncio.gather(*(self._ask(todo[number::clients]) for number in range(clients)))

    async def _ask(self, targets: list[str]) -> None:
        client = await self.running.client()
        for target in targets:
            answer = await client.ask(get(f"/api/{target}".encode()))
            assert answer.complete
            self.got[target.partition("/")[0], answer.status] += 1


@pytest.mark.gen_test
async def test_totals_equal_what_a_load_generator_counted(serve: Serve, upstream: Start) -> None:
    plain_told, pair_told = Counter[bytes](), Counter[bytes]()
    plain, live = upstream(answers_as_asked(plain_told)).url, upstream(answers_as_asked(pair_told)).url
    running = await serve(
        {"plain": [plain], "gone": [NOWHERE], "pair": {"endpoints": [live, NOWHERE], "balancer": "round_robin"}},
        **ALWAYS_CLOSED,
    )
    lines, load = capture(running), Load(running)
    began = running.app.gateway.now()
    await load.run(
        {"plain/200": 120, "plain/404": 40, "plain/500": 20, "plain/501": 10, "gone/200": 15, "pair/200": 60}
    )
    leaving = [await running.client() for _ in range(7)]
    for client in leaving:
        await client.send(get(b"/api/plain/hang"))
    await eventually(lambda: plain_told[b"hang"] == len(leaving))
    for client in leaving:
        client.close()
    await eventually(lambda: running.inflight == 0)

    assert load.got == {
        ("plain", 200): 120, ("plain", 404): 40, ("plain", 500): 20, ("plain", 501): 10, ("gone", 502): 15,
        ("pair", 200): 60,
    }  # fmt: skip
    assert plain_told == {b"200": 120, b"404": 40, b"500": 20, b"501": 10, b"hang": 7}
    assert pair_told == {b"200": 60}
    await eventually(lambda: len(lines()) == sum(load.got.values()) + len(leaving))
    retries = sum(line["attempts"] - 1 for line in lines() if line["service"] == "pair")
    assert retries > 0

    wanted = {
        ("plain", plain): (197, 20, 0),
        ("gone", NOWHERE): (15, 15, 0),
        ("pair", live): (60, 0, retries),
        ("pair", NOWHERE): (retries, retries, 0),
    }
    seen, elapsed = await stats(running), running.app.gateway.now() - began
    assert {
        (name, each["url"]): (each["requestsTotal"], each["errorsTotal"], each["retriesTotal"])
        for name, service in seen["services"].items()
        for each in service["upstreamDetails"]
    } == wanted
    for name, service in seen["services"].items():
        requests = sum(total for (of, _), (total, _, _) in wanted.items() if of == name)
        errors = sum(failed for (of, _), (_, failed, _) in wanted.items() if of == name)
        assert service["errorRate"] == round(errors / requests, 3)
        assert requests / max(elapsed + 1.0, 1.0) - 0.001 <= service["rps"] <= requests
        assert service["rps"] == pytest.approx(sum(each["rps"] for each in service["upstreamDetails"]), rel=0.02)
        for each in service["upstreamDetails"]:
            total, failed, _ = wanted[name, each["url"]]
            assert each["errorRate"] == round(failed / total, 3)
            assert each["rps"] > 0
    assert seen["services"]["gone"]["avgLatencyMs"] == 0  # nobody has answered
    assert 0 < seen["services"]["plain"]["avgLatencyMs"] < elapsed * 1000
    assert seen["connections"] == {"http": 0, "sse": 0, "ws": 0}

    read = await metrics(running)
    for (name, url), totals in wanted.items():
        names = (f"gateway_upstream_{what}_total" for what in ("errors", "retries"))
        assert tuple(read[series(each, service=name, endpoint=url)] for each in names) == totals[1:]
        ended = {
            outcome.value: read[
                series("gateway_upstream_requests_total", service=name, endpoint=url, outcome=outcome.value)
            ]
            for outcome in Outcome
        }
        assert (sum(ended.values()), ended["failure"]) == totals[:2]
        assert ended["client_gone"] == (7 if name == "plain" else 0)
    by_status = {200: 180, 404: 40, 500: 20, 501: 10, 502: 15, 499: 7}
    counted = {
        int(dict(labels)["status_code"]): value
        for (name, labels), value in read.items()
        if name == "gateway_http_request_duration_seconds_count" and ("route", "/api/<service>/*") in labels
    }
    assert counted == by_status


@pytest.mark.gen_test
async def test_streams_are_in_flight_until_their_clients_leave(serve: Serve, upstream: Start) -> None:
    told, source, acceptor = Counter[bytes](), Source(), Acceptor()
    urls = {
        "http": upstream(answers_as_asked(told)).url, "sse": upstream(source).url, "ws": upstream(acceptor).url,
    }  # fmt: skip
    running = await serve({name: [url] for name, url in urls.items()})
    held: list[Client] = []
    for _ in range(5):
        held.append(await running.client())
        await held[-1].send(get(b"/api/http/hang"))
    listeners = [await Listener.ask(running, get(b"/sse/sse/events")) for _ in range(2)]
    listeners.append(await Listener.ask(running, get(b"/api/sse/events")))  # an answer that turns out to be a stream
    for _ in range(4):
        held.append(await running.client())
        await held[-1].send(get(b"/ws/ws", *HANDSHAKE))
        assert (await held[-1].head()).status == 101
    await eventually(lambda: told[b"hang"] == 5 and len(acceptor.sides) == 4)

    wanted = {"http": 5, "sse": 3, "ws": 4}
    seen, read = await stats(running), await metrics(running)
    assert seen["connections"] == wanted
    for name, url in urls.items():
        (one,) = seen["services"][name]["upstreamDetails"]
        assert one["inflight"] == {kind: count if kind == name else 0 for kind, count in wanted.items()}
        for kind, count in one["inflight"].items():
            assert read[series("gateway_upstream_inflight", service=name, endpoint=url, kind=kind)] == count
        assert one["requestsTotal"] == 0
    assert read[series("gateway_websocket_connections")] == 4

    for client in (*held, *(listener.client for listener in listeners)):
        client.close()
    for side in acceptor.sides:
        side.connection.close()
    await eventually(lambda: running.inflight == 0)
    seen, read = await stats(running), await metrics(running)
    assert seen["connections"] == {"http": 0, "sse": 0, "ws": 0}
    assert read[series("gateway_websocket_connections")] == 0
    assert sum(value for (name, _), value in read.items() if name == "gateway_upstream_inflight") == 0
    assert seen["services"]["ws"]["websockets"]["closed"] == 4


@pytest.mark.gen_test
async def test_a_stream_of_any_length_is_no_latency(serve: Serve, upstream: Start) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url]})
    listener = await Listener.ask(running, get(b"/sse/svc/events"))
    (before,) = at(await stats(running), "services.{name}.upstreamDetails[].latency")
    await source.say(b"data: 1\n\n")
    await listener.hear(b"data: 1\n\n")
    long_after = running.app.gateway.now() + 0.05
    await eventually(lambda: running.app.gateway.now() > long_after)
    await source.end()
    await listener.all()
    await eventually(lambda: running.inflight == 0)
    (after,) = at(await stats(running), "services.{name}.upstreamDetails[].latency")
    assert (after["lastMs"], after["ewmaMs"]) == (before["lastMs"], before["ewmaMs"])
    assert after["p99Ms"] == pytest.approx(before["lastMs"], rel=0.02, abs=0.002)


@pytest.mark.gen_test
async def test_two_gateways_in_one_process_count_for_themselves(serve: Serve, upstream: Start) -> None:
    url = upstream(answers_as_asked(Counter())).url
    busy, idle = await serve({"svc": [url]}), await serve({"svc": [url]})
    client = await busy.client()
    for _ in range(3):
        await client.ask(get(b"/api/svc/200"))
    totals = []
    for running in (busy, idle):
        (shown,) = at(await stats(running), "services.{name}.upstreamDetails[].requestsTotal")
        read = await metrics(running)
        labels = {"service": "svc", "endpoint": url, "outcome": "success"}
        assert read[series("gateway_upstream_requests_total", **labels)] == shown
        proxied = [labels for name, labels in read if ("route", "/api/<service>/*") in labels]
        totals.append((shown, bool(proxied)))
    assert totals == [(3, True), (0, False)]
