"""All workers change, or none, with workers in miniature. With processes: tests/test_crew_reloads.py."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tests.conftest import Serve
from tests.handlers.test_api_document import document_of, is_true
from tests.support.journeys import ask, problem
from tests.support.operators import AUTH, bearer
from tests.support.sockets import eventually, get
from tornado_gateway.app import App
from tornado_gateway.config.env_file import EnvFile
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings
from tornado_gateway.errors import ConfigurationRefused, GatewayError
from tornado_gateway.reload import Change, Configuration, heard_reload, prepare
from tornado_gateway.supervisor import reloading
from tornado_gateway.supervisor.hub import Hub
from tornado_gateway.supervisor.reloading import CrewReloads, WorkerReloads, ask_for_reload, from_text, to_text
from tornado_gateway.upkeep.link import Link

BEFORE = {"UPSTREAMS": json.dumps({"svc": ["http://127.0.0.1:1"]}), "WEB_CONCURRENCY": "2"}


class Crew:
    """Two workers in miniature, which write down what they are told.

    Attributes:
        problems: of each worker with the next settings; None: the worker ends when asked; "never": no answer.
    """

    def __init__(self) -> None:
        self.environment = dict(BEFORE)
        self.hub = Hub(lambda: 1.0)
        self.configuration = Configuration(load_settings(BEFORE), BEFORE, self._read)
        self.reloads = CrewReloads(self.configuration, self.hub, lambda: False)
        self.problems: dict[int, Any] = {0: [], 1: []}
        self.told: list[tuple[int, str]] = []
        self._ends: list[Link] = []

    def _read(self) -> tuple[dict[str, str], EnvFile]:
        return dict(self.environment), EnvFile({}, {})

    async def open(self) -> None:
        for number in (0, 1):
            one, other = socket.socketpair()
            self.hub.links[number] = await Link({"reload": self.reloads.answer}, lambda: None).open(one)
            self._ends.append(await Link(self._answers(number), lambda: None).open(other))

    def _answers(self, number: int) -> dict[str, Any]:
        def note(name: str) -> None:
            self.told.append((number, name))

        async def prepare(said: str) -> Any:
            assert from_text(said).service.breaker.failures == int(self.environment["BREAKER_FAILURES"])
            note("prepare")
            if self.problems[number] is None:  # the supervisor learns from the link before it learns from SIGCHLD
                self._ends[number].close()
            if self.problems[number] == "never":
                await asyncio.Event().wait()
            return self.problems[number]

        return {"prepare": prepare, "change": lambda _: note("change"), "reloaded": lambda _: note("reloaded")}

    async def order_reload(self, number: int) -> Any:
        """Reload by the order of a worker."""
        return await heard_reload(partial(ask_for_reload, self._ends[number]))

    async def close(self) -> None:
        for each in [*self._ends, *self.hub.links.values()]:
            each.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def crew_with(**variables: str) -> AsyncIterator[Crew]:
    """Two workers, and what the variables will be at the next reload."""
    made = Crew()
    made.environment |= variables
    try:
        await made.open()
        yield made
    finally:
        await made.close()


@pytest.mark.gen_test
async def test_all_workers_prepare_before_one_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with crew_with(BREAKER_FAILURES="3") as crew:
        reloaded = await crew.order_reload(1)
        assert (reloaded.changes, reloaded.needs_restart) == (("BREAKER_FAILURES 5 -> 3",), ())
        assert sorted(crew.told[:2]) == [(0, "prepare"), (1, "prepare")]
        assert sorted(crew.told[2:4]) == [(0, "change"), (1, "change")]
        await eventually(lambda: sorted(crew.told[4:]) == [(0, "reloaded"), (1, "reloaded")])
        assert crew.configuration.settings.service.breaker.failures == 3
        assert caplog.messages == ["reloaded: BREAKER_FAILURES 5 -> 3"]


@pytest.mark.gen_test
async def test_no_worker_changes_if_one_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "PATIENCE", 0.05)
    async with crew_with(BREAKER_FAILURES="3") as crew:
        for problems, words in (
            ([["TLS_CERT", "", "is gone", "a file"]], "TLS_CERT: is gone; allowed: a file"),
            ("never", "worker 2: cannot change: the other process has not answered"),
        ):
            crew.problems[1] = problems
            with pytest.raises(ConfigurationRefused, match=words):
                await crew.order_reload(0)
        assert not [each for each in crew.told if each[1] == "change"]
        assert crew.configuration.settings.service.breaker.failures == 5
        assert not crew.reloads.births.locked()


@pytest.mark.gen_test
async def test_a_worker_that_ends_meanwhile_keeps_no_other_from_changing() -> None:
    async with crew_with(BREAKER_FAILURES="3") as crew:
        crew.problems[0] = None
        await crew.reloads.reloader.reload()
        assert crew.told[-1] == (1, "change")
        assert crew.configuration.settings.service.breaker.failures == 3


@pytest.mark.gen_test
async def test_no_worker_is_born_during_a_reload() -> None:
    async with crew_with(BREAKER_FAILURES="3") as crew:
        await crew.reloads.births.acquire()  # as while a worker is born
        going = asyncio.ensure_future(crew.reloads.reloader.reload())
        await asyncio.wait([going], timeout=0.05)
        assert not crew.told
        crew.reloads.births.release()
        await going
        assert [each for _, each in crew.told if each != "reloaded"] == ["prepare"] * 2 + ["change"] * 2


@pytest.mark.gen_test
async def test_who_waits_too_long_for_a_reload_is_told_that_the_reload_goes_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reloading, "PATIENCE_OF_OPERATORS", 0.05)
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    async with crew_with(BREAKER_FAILURES="3") as crew:
        await crew.reloads.births.acquire()  # the reload waits
        running.app.gateway.reloading.carry_out = partial(crew.order_reload, 1)
        answer = await ask(
            running, get(b"/admin/api/reload", bearer(scope="admin"), method=b"POST", body=b"{}"), b"POST"
        )
        problem(answer, 504, "reload_unfinished")
        is_true(await document_of(running), "/admin/api/reload", "post", answer)
        assert "goes on; the log tells its end" in json.loads(answer.body)["message"]
        assert [each.message for each in caplog.records if each.levelno >= logging.WARNING] == [
            "the reload has not ended within 0 s, and goes on; the log tells its end"
        ]
        assert not [each for each in caplog.records if each.exc_info]
        crew.reloads.births.release()
        await eventually(lambda: crew.configuration.settings.service.breaker.failures == 3)


@pytest.mark.gen_test
async def test_who_orders_a_reload_that_breaks_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async with crew_with(BREAKER_FAILURES="3") as crew:
        with pytest.raises(GatewayError, match="the reload has failed; the log tells why"):
            await broken(crew)
        assert "not reloaded: OSError: the disk" in caplog.messages
        await crew.close()
        with pytest.raises(ConfigurationRefused, match="the gateway is stopping"):
            await crew.order_reload(0)


async def broken(crew: Crew) -> None:
    """Order a reload that meets what nobody foresees."""

    def fails() -> None:
        raise OSError("the disk")

    crew.configuration.read = fails  # type: ignore[method-assign,assignment]
    await crew.order_reload(0)


@pytest.mark.gen_test
async def test_a_worker_prepares_in_the_order_of_the_reloads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    app = (await serve({"svc": ["http://127.0.0.1:1"]})).app
    may_go_on, worker = asyncio.Event(), WorkerReloads(app, lambda settings: settings)
    worker.accepts.set()

    async def first_slowly(app: App, settings: Settings) -> Change:
        if settings.service.breaker.failures == 3:
            await may_go_on.wait()
        return await prepare(app, settings)

    monkeypatch.setattr(reloading, "prepare", first_slowly)
    texts = [to_text(load_settings({**BEFORE, "BREAKER_FAILURES": each})) for each in ("3", "4")]
    given_up, good = [asyncio.ensure_future(worker.prepare(each)) for each in texts]
    await asyncio.wait([good], timeout=0.05)
    may_go_on.set()
    assert await asyncio.gather(given_up, good) == [[], []]
    await worker.change(None)
    assert app.settings.service.breaker.failures == 4


def test_settings_are_the_same_in_another_process() -> None:
    settings = load_settings(
        {**BEFORE, "RATE_LIMITS": "5/s", "TRUSTED_PROXIES": "10.0.0.0/8", "CACHE_ENABLED": "true",
         "ROUTES": json.dumps([{"path": "/x/*", "service": "svc", "host": "*.example"}])}
    )  # fmt: skip
    assert from_text(to_text(settings)) == settings
