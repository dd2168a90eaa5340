"""Fixtures: an event loop per test on both implementations, upstreams, and a gateway on a free port."""

import asyncio
import gc
import inspect
import json
import logging
import os
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from _pytest.doctest import DoctestModule
from hypothesis import settings
from tornado.ioloop import IOLoop

from tests.support.name_servers import NameServer, Zone
from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import Client, Script, Upstream, echo
from tornado_gateway.app import App
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop

# No deadline: the time of one example says more about the machine than about the code. Not derandomized, not in CI
# either: each run tries new examples, and a failure prints the line that tries its example again.
settings.register_profile("gateway", deadline=None, print_blob=True)
# For tests that are traced for coverage, which doubles their time. The same examples each time, so that coverage stays.
settings.register_profile("traced", deadline=None, database=None, derandomize=True, max_examples=10)
settings.load_profile("gateway")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Search no file for doctests that holds none: the search looks at every name of the module."""
    found = yield
    has_doctests = ">>>" in file_path.read_text(encoding="utf-8") if found else False
    return found if has_doctests else [each for each in found if not isinstance(each, DoctestModule)]


def pytest_collection_finish() -> None:
    """The collector of garbage inspects thousands of collected tests no more, whose number no test changes."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(obj: object) -> None:
    """Tell pytest that a gen_test uses io_loop: pytest-tornado requests the fixture too late for its parameters."""
    marks = getattr(obj, "pytestmark", [])
    if inspect.isfunction(obj) and any(mark.name == "gen_test" for mark in marks):
        pytest.mark.usefixtures("io_loop")(obj)


# Handlers and what stands behind handlers never see the event loop itself. The wire below does, and the tests of the
# wire run on every loop. `tests/long loops` runs these tests on every loop, too.
_HERE = Path(__file__).parent
ON_UVLOOP = frozenset(() if "EVERY_LOOP" in os.environ else (
    _HERE / "handlers",
    _HERE / "ctl",
    *(_HERE / f"adapters/test_{name}.py" for name in (
        "passwords", "redis_cluster", "redis_limits", "redis_tickets", "revocation_store", "shared_endpoints",
    )),
    *(_HERE / f"upkeep/test_{name}.py" for name in (
        "consul", "discovery", "health_checks", "key_set", "kubernetes", "sources", "srv",
    )),
    *(_HERE / f"test_{name}.py" for name in (
        "advisories", "authentication_page", "basic", "cache", "cache_cases", "cors_page", "entrances", "figures",
        "forwarded_addresses", "keys", "limits_page", "metrics_page", "observability_page", "operators",
        "overload_page", "registry", "reload", "routes", "tickets_page", "tokens",
    )),
))  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses io_loop on every loop, or on uvloop alone, unless the test names its loops."""
    names = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "io_loop" in metafunc.fixturenames and "io_loop" not in names:
        path = metafunc.definition.path
        is_on_one = not ON_UVLOOP.isdisjoint((path, *path.parents))
        metafunc.parametrize("io_loop", ["uvloop"] if is_on_one else list(LOOPS), indirect=True)


@pytest.fixture(autouse=True)
def _same_level_of_logging() -> Iterator[None]:
    """The level of logging is the process's: what a test sets must not reach the next test."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture
def io_loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    """pytest-tornado's fixture, without calls that Tornado 6.6 deprecates; a task left behind fails the test."""
    asyncio_loop = LOOPS[request.param]()
    problems: list[dict[str, Any]] = []
    asyncio_loop.set_exception_handler(lambda _, context: problems.append(context))
    asyncio.set_event_loop(asyncio_loop)
    loop = MonotonicIOLoop()
    yield loop
    asyncio_loop.run_until_complete(asyncio.sleep(0))
    leaked = asyncio.all_tasks(asyncio_loop)
    for task in leaked:
        task.cancel()
    if leaked:
        asyncio_loop.run_until_complete(asyncio.gather(*leaked, return_exceptions=True))
    asyncio_loop.run_until_complete(asyncio_loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close(all_fds=True)
    assert not leaked, f"tasks left behind: {leaked}"
    assert not problems, f"errors nobody handled: {problems}"


@pytest.fixture
def upstream(io_loop: IOLoop) -> Iterator[Callable[..., Upstream]]:
    """Start scripted upstreams: `upstream(script)`; all are closed after the test."""
    started: list[Upstream] = []

    def start(script: Script = echo, **options: Any) -> Upstream:
        started.append(Upstream(script, **options))
        return started[-1]

    yield start
    for each in started:
        io_loop.asyncio_loop.run_until_complete(each.close())


@pytest.fixture
def name_server(io_loop: IOLoop) -> Iterator[Callable[..., Awaitable[NameServer]]]:
    """Start scripted name servers: `await name_server({"service.test": ["127.0.0.1"]})`."""
    started: list[NameServer] = []

    async def start(zone: Zone, address: str = "127.0.0.1") -> NameServer:
        started.append(NameServer(zone, address))
        await started[-1].start()
        return started[-1]

    yield start
    for each in started:
        io_loop.asyncio_loop.run_until_complete(each.close())


@pytest.fixture
def redis_server() -> Iterator[StartRedis]:
    """Start real servers: `redis_server()`; all are ended after the test."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(*options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


class Running:
    """A gateway that listens."""

    def __init__(self, app: App, port: int) -> None:
        self.app, self.port = app, port
        self.clients: list[Client] = []

    async def client(self, **options: Any) -> Client:
        self.clients.append(await Client.connect(self.port, **options))
        return self.clients[-1]

    @property
    def inflight(self) -> int:
        return sum(sum(service.inflight.values()) for service in self.app.gateway.services.values())

    @property
    def errors(self) -> int:
        return sum(
            endpoint.errors_total for service in self.app.gateway.services.values() for endpoint in service.endpoints
        )


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
def serve(io_loop: IOLoop) -> Iterator[Serve]:
    """Start gateways: `await serve({"svc": [url]}, HTTP_PROXY_TIMEOUT_MS="500")`.

    After the test each must come to rest by itself: no lease, no connection and no task is left.
    """
    running: list[Running] = []

    async def start(services: dict[str, Any], **variables: str) -> Running:
        app = App(make_settings(services, **variables))
        ((_, port),) = await app.start()
        running.append(Running(app, port))
        return running[-1]

    yield start
    for each in running:
        io_loop.asyncio_loop.run_until_complete(_come_to_rest(each))


async def _come_to_rest(running: Running) -> None:
    for client in running.clients:
        client.close()
    app = running.app
    app.health_checks.close()  # on a busy machine, checks each 10 ms would leave no moment without one
    for _ in range(4000):  # longer than the 2 s that a connection may linger behind an early answer
        if not app.connections and not app.gateway.client.active and not running.inflight:
            break
        await asyncio.sleep(0.001)
    left = (app.connections, len(app.gateway.client.active), running.inflight)
    await app.close()
    await asyncio.sleep(0.01)  # asyncio's transports close their sockets some turns of the loop later
    assert left == (0, 0, 0), f"left behind: {left[0]} client connections, {left[1]} exchanges, {left[2]} leases"


def make_settings(services: dict[str, Any], **variables: str) -> Settings:
    """Settings for a test: quiet, on loopback, on any free port."""
    # A busy machine may keep the loop of a test for a second: that is no overload to be tested.
    quiet = {
        "HOST": "127.0.0.1", "PORT": "0", "ACCESS_LOG": "false", "LOG_LEVEL": "error",
        "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
    }  # fmt: skip
    return load_settings(quiet | {"UPSTREAMS": json.dumps(services)} | variables)
