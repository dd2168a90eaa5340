"""How all workers take another configuration, or none.

    supervisor ── reads, checks ──► every worker prepares ──► every worker changes
                                          │ one cannot?
                                          └──► none changes

Meanwhile no worker is started: a worker begins with the configuration in force, and hears of each later one.
"""

import asyncio
import base64
import logging
import pickle
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any

from tornado_gateway.adapters import logs
from tornado_gateway.app import App
from tornado_gateway.config.problems import ConfigurationError, Problem
from tornado_gateway.config.settings import Settings
from tornado_gateway.errors import ConfigurationRefused, GatewayError, ReloadUnfinished
from tornado_gateway.reload import Change, Configuration, Reloader, ends_log_ins, prepare, told_reload
from tornado_gateway.supervisor.hub import Hub
from tornado_gateway.upkeep.link import Link, LinkEnded, LinkError, LinkSilent
from tornado_gateway.upkeep.shared import in_slices

PATIENCE = 20.0  # seconds for a worker, which may just be starting
PATIENCE_OF_OPERATORS = 60.0  # seconds: reloads wait for each other

log = logging.getLogger("tornado_gateway")


class CrewReloads:
    """Reloads all workers; lives in the supervisor.

    Args:
        is_stopping: whether the gateway reloads no more.

    Attributes:
        reloader: begins and ends each reload.
        births: held while a worker is born, and during a reload: a fork beside the thread that reads would copy
            whatever locks the thread holds.
    """

    def __init__(self, configuration: Configuration, hub: Hub, is_stopping: Callable[[], bool]) -> None:
        self._configuration, self._hub = configuration, hub
        self.births = asyncio.Lock()
        self.reloader = Reloader(configuration, self._use, is_stopping, self.births)
        self.reloader.tell = partial(hub.tell_all, "reloaded", None)

    async def answer(self, _: object) -> dict[str, Any]:
        """What a worker hears that asks for a reload."""
        return await told_reload(self.reloader)

    async def _use(self, settings: Settings) -> None:
        before, links = self._configuration.settings, dict(self._hub.links)
        self._hub.counters.learn(settings.limit_rules)
        said = await asyncio.to_thread(to_text, settings)
        try:
            await asyncio.gather(*[self._ask_to_prepare(number, link, said) for number, link in links.items()])
        except BaseException:
            self._hub.counters.use(before.limit_rules)
            raise
        await asyncio.gather(*[self._tell_to_change(number, link) for number, link in links.items()])
        self._hub.counters.use(settings.limit_rules)
        self._hub.forget_what_ends(
            log_ins=ends_log_ins(before, settings), level=before.logs.level != settings.logs.level
        )
        logs.reconfigure(before.logs, settings.logs)

    async def _ask_to_prepare(self, number: int, link: Link, said: str) -> None:
        """
        Raises:
            ConfigurationError: the worker cannot use the settings.
        """
        try:
            problems = await link.ask("prepare", said, PATIENCE)
        except LinkEnded:
            return  # the next worker begins with what is then in force
        except LinkError as error:
            problems = [[f"worker {number + 1}", "", f"cannot change: {error}", "a worker that answers"]]
        if problems:
            raise ConfigurationError(tuple(Problem(*each) for each in problems))

    async def _tell_to_change(self, number: int, link: Link) -> None:
        try:
            await link.ask("change", None, PATIENCE)
        except LinkEnded:
            return
        except LinkError as error:
            log.error("worker %d has not changed yet: %s", number + 1, error)


class WorkerReloads:
    """What a worker does for a reload.

    Args:
        own: gives a worker's settings for those of the whole.

    Attributes:
        accepts: set when the worker accepts connections; until then the worker is being made.
    """

    def __init__(self, app: App, own: Callable[[Settings], Settings]) -> None:
        self._app, self._own = app, own
        self.accepts = asyncio.Event()
        self._change: Change | None = None
        self._lock = asyncio.Lock()  # orders are carried out as told, even if the supervisor has given up one of them

    async def prepare(self, said: str) -> list[tuple[str, ...]]:
        """Prepare other settings; return the problems. What was prepared before is forgotten."""
        await self.accepts.wait()
        async with self._lock:
            self._change = None
            settings = self._own(await asyncio.to_thread(from_text, said))
            try:
                self._change = await prepare(self._app, settings)
            except ConfigurationError as error:
                return [astuple(each) for each in error.problems]
            return []

    async def change(self, _: object) -> None:
        """Use what was prepared."""
        async with self._lock:
            change, self._change = self._change, None
            if change:
                await in_slices(change(), self._app.gateway.now)


async def ask_for_reload(link: Link) -> Any:
    """The supervisor's answer to a worker that asks for a reload; see heard_reload().

    Raises:
        ReloadUnfinished: the reload takes too long, and goes on.
        ConfigurationRefused: the gateway is stopping.
        GatewayError: the reload has failed.
    """
    try:
        return await link.ask("reload", None, PATIENCE_OF_OPERATORS)
    except LinkSilent:
        text = f"the reload has not ended within {PATIENCE_OF_OPERATORS:.0f} s, and goes on; the log tells its end"
        log.warning("%s", text)
        raise ReloadUnfinished(text) from None
    except LinkEnded:
        raise ConfigurationRefused("the gateway is stopping") from None
    except LinkError as error:
        log.error("not reloaded: %s", error)
        raise GatewayError("the reload has failed; the log tells why") from None


# A pickle runs whatever code its author wants. So pickles pass only the pair of sockets that the supervisor makes
# before a worker is forked: no path leads there, no other process has an end, and the worker alone reads pickles.


def to_text(settings: Settings) -> str:
    """Settings for a worker. Every worker gets the same, whatever happens to files meanwhile."""
    return base64.b85encode(pickle.dumps(settings)).decode("ascii")


def from_text(said: str) -> Settings:
    """The settings of to_text()."""
    settings: Settings = pickle.loads(base64.b85decode(said))  # noqa: S301  # see above: the supervisor alone says this
    return settings
