"""The sweeps: often enough for the shortest timeout, over all sweepers, from start to stop."""

import asyncio
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.support.serving import Delegate, Serving, nothing
from tests.support.sockets import Ended, Upstream, eventually, get
from tornado_gateway.policy.http.websocket import RelayConfig
from tornado_gateway.policy.upstream.health import HealthConfig
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.upkeep.heartbeat import FASTEST, SLOWEST, Heartbeat
from tornado_gateway.wire.client.client import ClientConfig, PooledHTTPClient
from tornado_gateway.wire.client.pool import PoolConfig
from tornado_gateway.wire.server.context import ServerConfig

SOON = 0.05  # seconds


class Sweeping:
    """A sweeper that remembers the instants of its sweeps."""

    def __init__(self, shortest_timeout: float) -> None:
        self.shortest_timeout = shortest_timeout
        self.sweeps: list[float] = []

    def sweep(self, now: float) -> None:
        self.sweeps.append(now)


class Failing(Sweeping):
    def sweep(self, now: float) -> None:
        super().sweep(now)
        raise ValueError("what it fails with")


class Beating:
    """A server, a client, and the heartbeat over both."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.client = PooledHTTPClient(force_instance=True, config=ClientConfig(pool=PoolConfig(idle_timeout=SOON)))
        self.heartbeat = Heartbeat(serving.server, self.client)


@pytest.fixture
def beating(io_loop: IOLoop) -> Iterator[Beating]:
    run = io_loop.asyncio_loop.run_until_complete

    async def start() -> Beating:
        return Beating(await Serving.start(Delegate(nothing), header_timeout=SOON, keepalive_timeout=SOON))

    each = run(start())
    yield each
    each.heartbeat.stop()
    each.client.close()
    run(each.serving.close())


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("shortest", "interval"),
    [(0.001, FASTEST), (0.2, 0.02), (1.0, 0.1), (5.0, 0.5), (95.0, SLOWEST)],
)
async def test_sweeps_follow_the_shortest_timeout_within_bounds(
    beating: Beating, shortest: float, interval: float
) -> None:
    assert Heartbeat(Sweeping(shortest), Sweeping(100.0)).interval == pytest.approx(interval)
    assert Heartbeat(Sweeping(100.0), services_timeout=lambda: shortest).interval == pytest.approx(interval)


@pytest.mark.gen_test
async def test_nothing_is_swept_before_the_start(beating: Beating) -> None:
    client = await beating.serving.client()
    with pytest.raises(TimeoutError):
        await client.more(patience=3 * SOON)


@pytest.mark.gen_test
async def test_clients_that_are_too_slow_are_ended(beating: Beating) -> None:
    beating.heartbeat.start()
    silent, partial = await beating.serving.client(), await beating.serving.client()
    await partial.send(b"GET / HT")
    with pytest.raises(Ended):
        await silent.more()
    assert (await partial.response()).status == 408


@pytest.mark.gen_test
async def test_kept_connections_to_upstreams_are_ended(beating: Beating, upstream: Callable[..., Upstream]) -> None:
    beating.heartbeat.start()
    up = upstream()
    response = await beating.client.fetch(up.url)
    assert (response.code, up.open) == (200, 1)
    await eventually(lambda: up.open == 0)


@pytest.mark.gen_test
async def test_nothing_is_swept_after_the_stop(beating: Beating) -> None:
    beating.heartbeat.start()
    beating.heartbeat.stop()
    client = await beating.serving.client()
    with pytest.raises(TimeoutError):
        await client.more(patience=3 * SOON)
    beating.heartbeat.sweep()
    with pytest.raises(Ended):
        await client.more()


@pytest.mark.gen_test
async def test_a_sweep_ends_nothing_before_its_deadline(beating: Beating) -> None:
    client = await beating.serving.client()
    await client.send(get(b"/"))
    await eventually(lambda: beating.serving.server.delegate.requests)
    await asyncio.sleep(2 * SOON)  # longer than any timeout of the client's
    beating.heartbeat.sweep()
    (request,) = beating.serving.server.delegate.requests
    request.answer()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_after_hasten_sweeps_come_at_the_shortest_interval() -> None:
    sweeping = Sweeping(3600.0)
    heartbeat = Heartbeat(sweeping)
    heartbeat.start()
    heartbeat.hasten()
    await eventually(lambda: len(sweeping.sweeps) >= 3)
    heartbeat.stop()
    assert heartbeat.interval == pytest.approx(FASTEST)


@pytest.mark.gen_test
async def test_a_heartbeat_that_has_not_begun_is_not_begun_by_haste() -> None:
    sweeping = Sweeping(0.0)
    heartbeat = Heartbeat(sweeping)
    heartbeat.hasten()
    await asyncio.sleep(3 * FASTEST)
    assert sweeping.sweeps == []


@pytest.mark.gen_test
async def test_a_timeout_that_is_new_or_gone_changes_the_interval() -> None:
    sweeping, timeouts = Sweeping(100.0), [100.0]
    heartbeat = Heartbeat(sweeping, services_timeout=lambda: timeouts[-1])
    heartbeat.start()
    assert heartbeat.interval == SLOWEST
    timeouts.append(1.0)
    await eventually(lambda: heartbeat.interval == pytest.approx(0.1))
    sweeping.shortest_timeout = 0.2
    await eventually(lambda: heartbeat.interval == pytest.approx(0.02))
    timeouts.append(100.0)
    sweeping.shortest_timeout = 100.0
    await eventually(lambda: heartbeat.interval == SLOWEST)
    heartbeat.stop()


@pytest.mark.parametrize("step", [-60.0, 60.0])
@pytest.mark.gen_test
async def test_the_heartbeat_goes_on_when_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    sweeping, real = Sweeping(0.0), time.time
    heartbeat = Heartbeat(sweeping)
    heartbeat.start()
    for seconds in (step, 0.0):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: real() + seconds)
        before = len(sweeping.sweeps)
        await eventually(lambda before=before: len(sweeping.sweeps) >= before + 5)
    heartbeat.stop()
    assert all(0 < after - before < 10 for before, after in itertools.pairwise(sweeping.sweeps))


@pytest.mark.gen_test
async def test_a_sweep_that_fails_stops_no_other(io_loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    io_loop.asyncio_loop.set_exception_handler(None)  # asyncio's own, as in the process
    before, failing, after = Sweeping(0.0), Failing(0.0), Sweeping(0.0)
    heartbeat = Heartbeat(before, failing, after)
    heartbeat.start()
    await eventually(lambda: len(after.sweeps) >= 3)
    heartbeat.stop()
    assert before.sweeps == failing.sweeps == after.sweeps
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert set(messages) == {("ERROR", "the sweep of Failing failed")}
    assert len(messages) == len(failing.sweeps)
    assert "what it fails with" in caplog.text


# ---------------------------------------------------------------- no timeout is forgotten

# Numbers of each config that no sweep enforces. A new number stands here, or in its config's shortest_timeout.
NOT_SWEPT = {
    ServerConfig(): {"max_connections", "min_upload_rate"},
    ClientConfig(): {"connect.timeout", "connect.names.ttl", "connect.names.timeout"},
    RelayConfig(): set(),
    HealthConfig(): {"timeout", "jitter"},
    ServiceConfig(): {
        # shares, counts and rates
        "max_ejected", "panic_below", "max_in_flight", "min_upload_rate", "min_response_rate", "retry.budget_share",
        "retry.budget_floor", "event_streams.max_bytes", "breaker.failure_share", "breaker.slow_share",
        "breaker.jitter", "cache.heuristic_share",
        # asked for at each request
        "limits.window", "cache.default_ttl", "cache.grace", "cache.stale_if_error",
        # each has a timer of its own
        "queue_timeout", "connection.timeout", "request_timeout", "retry.backoff", "cache.lock_timeout",
        "event_streams.peek",
        # asked for whenever an endpoint is chosen
        "slow_start", "breaker.window", "breaker.open_for", "breaker.longest", "breaker.slow_after",
        # HealthChecks tells these
        "health.interval", "health.interval_down", "health.jitter", "health.timeout",
    },
}  # fmt: skip


def with_each_tiny(config: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a nested config, each with another duration made tiny."""
    for field in [each for each in dataclasses.fields(config) if each.init]:
        value = getattr(config, field.name)
        if field.type in (float, float | None):
            yield field.name, dataclasses.replace(config, **{field.name: math.ulp(0.0)})
        elif dataclasses.is_dataclass(value):
            for name, changed in with_each_tiny(value):
                yield f"{field.name}.{name}", dataclasses.replace(config, **{field.name: changed})


@pytest.mark.parametrize("config", NOT_SWEPT, ids=lambda config: type(config).__name__)
def test_a_number_is_a_timeout_that_the_heartbeat_knows_or_none_that_it_must_know(config: Any) -> None:
    not_swept = {name for name, changed in with_each_tiny(config) if changed.shortest_timeout != math.ulp(0.0)}
    assert not_swept == NOT_SWEPT[config]
