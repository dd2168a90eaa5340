"""Hot reload: a running gateway takes another configuration, whole or not at all.

    .env, UPSTREAMS_FILE ──► Settings ──► every part prepares ──► every part changes
        read in a thread        │                 │
                                └── wrong? ───────┴──► the old configuration stays

New requests get a new Gateway, whose parts are the old parts where a part keeps something: services, streams, the
client, counters, sessions. Requests and streams that run keep their Gateway until the end. So a reload costs a request
nothing: references are swapped between two turns of the event loop.

The variables that need a restart keep the value of the start; see `needs_restart` in config/variables.py.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tornado_gateway.adapters import logs
from tornado_gateway.adapters.access_log import AccessLog, json_line, text_line
from tornado_gateway.adapters.authentication import TokenAuthenticator
from tornado_gateway.adapters.passwords import OperatorPassword
from tornado_gateway.app import (
    App,
    about_with,
    admin_server_config,
    connect,
    control_server_config,
    draw_secrets,
    feeds_of,
    make_access_log,
    make_admin_router,
    make_authenticator,
    make_cache,
    make_control_router,
    make_cors,
    make_key_set,
    make_limits,
    make_router,
    make_service,
    make_tickets,
    redaction_of,
    server_config,
    sweepers_of,
)
from tornado_gateway.config.difference import difference, differing
from tornado_gateway.config.env_file import EnvFile
from tornado_gateway.config.exposure import exposures
from tornado_gateway.config.hints import hints
from tornado_gateway.config.ineffective import ineffective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError, Problem
from tornado_gateway.config.settings import ServiceSpec, Settings
from tornado_gateway.config.tls import Digests, digests_of, load_certificates, renewed, warnings_of
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.errors import ConfigurationRefused
from tornado_gateway.figures import Parts, about_of, make_figures, state_of
from tornado_gateway.gateway import Gateway, Limits, Operators, Reloaded, ResponseCache
from tornado_gateway.handlers.local_reply import LocalReply
from tornado_gateway.neighbours import repeat
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.resolution import new_endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep import service_manager
from tornado_gateway.upkeep.file_watch import FileWatch
from tornado_gateway.upkeep.shared import in_slices
from tornado_gateway.upkeep.sources import Pace
from tornado_gateway.wire.tls_files import CannotUse

MOST_TOLD = 20  # changes in the line of the log; the answer to POST /admin/api/reload has all

Environment = Mapping[str, str]
Read = Callable[[], tuple[Environment, EnvFile]]
Commit = Callable[[], None]
Change = Callable[[], Steps[None]]
Contexts = Mapping[UpstreamTLSConfig, ssl.SSLContext]

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class Reading:
    """A configuration that was read and is valid.

    Attributes:
        settings: with the values of the start for variables that need a restart.
        digests: of the files of TLS.
        reloaded: what differs from the configuration in force.
    """

    settings: Settings
    digests: Digests
    reloaded: Reloaded


class Configuration:
    """The configuration of a gateway, which can be read again.

    Args:
        settings: what the gateway is made of.
        environment: what `settings` were loaded from.
        read: reads the variables again: all of them, and the file with some. May raise ConfigurationError.
        file: path of the file with some variables; "" for none.

    Attributes:
        settings: in force.
    """

    def __init__(self, settings: Settings, environment: Environment, read: Read, file: str = "") -> None:
        self.settings, self._read, self._file = settings, read, file
        self._digests = digests_of(settings)
        self._start = {each.name: each.find(environment) for each in VARIABLES if each.needs_restart}

    @property
    def watched(self) -> list[str]:
        """The paths of the files whose change is a reload."""
        paths = (self._file, self.settings.upstreams_file) if self.settings.watches_files else ()
        return [each for each in paths if each]

    def read(self) -> Reading:
        """Read the configuration again; the settings in force stay.

        Raises:
            ConfigurationError: something is wrong.
        """
        environment, file = self._read()
        try:
            wanted = load_settings(environment)
            restarts = [each for each in differing(self.settings, wanted) if each.needs_restart]
            settings = load_settings(self._with_start(environment)) if restarts else wanted
        except ConfigurationError as error:
            raise ConfigurationError(located(error.problems, environment, file)) from None
        names = tuple(each.name for each in restarts)
        digests = digests_of(settings)
        changes = (*difference(self.settings, settings), *renewed(self._digests, digests))
        return Reading(settings, digests, Reloaded(changes, names, warnings_about(settings, environment, file)))

    def use(self, reading: Reading) -> None:
        """Take what was read for the configuration in force."""
        self.settings, self._digests = reading.settings, reading.digests

    def _with_start(self, environment: Environment) -> dict[str, str]:
        """Variables with the values of the start where a change needs a restart."""
        kept = dict(environment)
        for each in VARIABLES:
            if each.needs_restart:
                for name in (each.name, *each.aliases):
                    kept.pop(name, None)
                name, text = self._start[each.name]
                kept[name] = text
        return kept


class Reloader:
    """Reloads the configuration of a gateway, one reload at a time.

    Args:
        use: lets the gateway use other settings; raises ConfigurationError, and changes nothing, if a part cannot.
        is_stopping: whether the gateway reloads no more.
        lock: held during each reload.

    Attributes:
        watch: begins a reload when a file has changed.
        tell: is called after each reload that no other gateway has told of.
    """

    def __init__(
        self,
        configuration: Configuration,
        use: Callable[[Settings], Awaitable[None]],
        is_stopping: Callable[[], bool],
        lock: asyncio.Lock,
    ) -> None:
        self.configuration, self._use, self._is_stopping = configuration, use, is_stopping
        self._lock, self._is_closed = lock, False
        self._begun: set[asyncio.Task[None]] = set()
        self._follows: asyncio.Task[None] | None = None
        self.tell: Callable[[], None] = lambda: None
        self.watch = FileWatch(self.begin)
        self.watch.use(configuration.watched)

    def begin(self) -> None:
        """Begin a reload for somebody who gets no answer, such as a signal: the log tells."""
        self._begin(tells=True)

    def follow(self) -> bool:
        """Begin a reload because another gateway has reloaded, if files are watched; return whether.

        Nobody is told of this reload, or gateways would tell each other without end.
        """
        if not self.configuration.settings.watches_files:
            return False
        if self._follows is None or self._follows.done():  # several gateways may have reloaded at once
            self._follows = self._begin(tells=False)
        return True

    def _begin(self, *, tells: bool) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(self.try_to_reload(tells=tells))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    async def close(self) -> None:
        """Reload no more."""
        self._is_closed = True
        self.watch.use(())
        for task in self._begun:
            task.cancel()
        if self._begun:
            await asyncio.wait(self._begun)

    async def reload(self, *, tells: bool = True) -> Reloaded:
        """Read the configuration again, and use the configuration.

        Args:
            tells: whether other gateways are told.

        Raises:
            ConfigurationRefused: the configuration is wrong, or the gateway is stopping. Nothing has changed.
        """
        async with self._lock:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            service_manager.tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")  # Type=notify-reload waits for both
            try:
                reloaded = await self._reload()
            except ConfigurationError as error:
                problems = list(map(str, error.problems))
                for problem in problems:
                    log.error("not reloaded, the old configuration stays: %s", problem)
                raise ConfigurationRefused("; ".join(problems)) from None
            finally:
                service_manager.tell("READY=1")
        if tells:
            self.tell()
        return reloaded

    async def try_to_reload(self, *, tells: bool = True) -> None:
        """Reload, and raise nothing."""
        try:
            await self.reload(tells=tells)
        except ConfigurationRefused:
            pass  # the log has the problems
        except Exception:
            log.exception("not reloaded")

    async def _reload(self) -> Reloaded:
        reading = await asyncio.to_thread(self.configuration.read)
        if self._is_closed or self._is_stopping():
            raise ConfigurationRefused("the gateway is stopping")
        await self._use(reading.settings)
        self.configuration.use(reading)
        self.watch.use(self.configuration.watched)
        _tell(reading.reloaded)
        return reading.reloaded


def reloader_of(app: App, configuration: Configuration) -> Reloader:
    """Reloads the configuration of a gateway of one process."""

    async def use(settings: Settings) -> None:
        await in_slices((await prepare(app, settings))(), app.gateway.now)

    def is_stopping() -> bool:
        return app.gateway.lifecycle.draining or app.gateway.lifecycle.stopped

    reloader = Reloader(configuration, use, is_stopping, asyncio.Lock())
    app.heartbeat.add(reloader.watch)
    app.gateway.reloading.carry_out, app.gateway.reloading.follow = reloader.reload, reloader.follow
    reloader.tell = app.tell_reloaded
    return reloader


# ---- a reload that another process carries out


async def told_reload(reloader: Reloader) -> dict[str, Any]:
    """Reload; return what another process of the gateway hears of the reload, for heard_reload()."""
    try:
        return asdict(await reloader.reload())
    except ConfigurationRefused as error:
        return {"refused": str(error)}


async def heard_reload(ask: Callable[[], Awaitable[dict[str, Any]]]) -> Reloaded:
    """Let another process of the gateway reload.

    Args:
        ask: gets the answer of told_reload(), which may have been JSON meanwhile.

    Raises:
        ConfigurationRefused: nothing has changed.
    """
    said = await ask()
    if "refused" in said:
        raise ConfigurationRefused(said["refused"])
    return Reloaded(**{name: tuple(values) for name, values in said.items()})


# ---- what a reload says


def located(problems: tuple[Problem, ...], environment: Environment, file: EnvFile) -> tuple[Problem, ...]:
    """Problems with the file and the line of the variable, where the variable stands in the .env file."""
    return tuple(_located(each, environment, file) for each in problems)


def _located(problem: Problem, environment: Environment, file: EnvFile) -> Problem:
    found = re.match(r"[A-Z][A-Z0-9_]*", problem.variable)
    name = found[0] if found else ""
    is_of_file = name in file.places and file.values.get(name) == environment.get(name)
    return replace(problem, variable=f"{file.places[name]}: {problem.variable}") if is_of_file else problem


def warnings_about(settings: Settings, environment: Environment, file: EnvFile) -> tuple[str, ...]:
    """What is allowed, and hardly meant; a sentence each.

    Raises:
        ConfigurationError: a certificate cannot be read any more.
    """
    found = [*file.warnings, *hints(environment, file.places), *ineffective(settings, environment)]
    return (*found, *warnings_of(load_certificates(settings), datetime.now(UTC)), *exposures(settings))


def _tell(reloaded: Reloaded) -> None:
    for warning in reloaded.warnings:
        log.warning(warning)
    if reloaded.needs_restart:
        log.warning("a restart is needed for the new values of %s", ", ".join(reloaded.needs_restart))
    told = "; ".join(reloaded.changes[:MOST_TOLD]) or "nothing has changed"
    more = len(reloaded.changes) - MOST_TOLD
    log.info("reloaded: %s%s", told, f"; and {more} more changes" if more > 0 else "")


# ---- the running gateway


async def prepare(app: App, settings: Settings) -> Change:
    """Prepare everything that a running gateway needs for other settings; return what makes the change in steps.

    Nothing changes before, and the change cannot fail. A service is a step.

    Args:
        settings: with the values of the start for variables that need a restart.

    Raises:
        ConfigurationError: a part cannot use the settings.
    """
    drawn = draw_secrets(settings, app.secrets)
    contexts = await asyncio.to_thread(_contexts_for, app, drawn)
    return await in_slices(_prepare(app, drawn, contexts), app.gateway.now)


def _contexts_for(app: App, settings: Settings) -> Contexts:
    """Settings of TLS to upstreams; see Connector.contexts."""
    try:
        return app.gateway.client.connector.contexts_for(settings.upstream_tls)
    except (OSError, CannotUse) as error:  # changed since the variable was read; ssl.SSLError is an OSError
        problem = Problem("UPSTREAM_TLS_CA_FILE, UPSTREAM_TLS_CERT", "", f"cannot be read ({error})", "PEM files")
        raise ConfigurationError((problem,)) from None


def _prepare(app: App, settings: Settings, tls: Contexts) -> Steps[Change]:
    new = yield from _new_services(app, settings)
    gateway = _next_gateway(app, settings)
    commits: list[Commit] = [
        *(part(settings) for part in app.parts),
        _servers(app, settings, gateway),
        partial(_shared_parts, app, settings, gateway, tls),
    ]
    return partial(_change, app, settings, gateway, new, commits)


def _change(app: App, settings: Settings, gateway: Gateway, new: list[Service], commits: list[Commit]) -> Steps[None]:
    """Services change before routes and pages, which change at once, and services that are gone leave last: no route
    leads to a service that is not there."""
    yield from _change_services(app, settings, new)
    for commit in commits:
        commit()
    app.settings, app.gateway = settings, gateway
    _retire_services(app, settings)


def _new_services(app: App, settings: Settings) -> Steps[list[Service]]:
    """The services that are not there yet."""
    new = []
    for spec in settings.services:
        if spec.name.encode("ascii") not in app.gateway.services:
            yield
            new.append(make_service(spec, app.gateway.rng, app.gateway.whole, app.gateway.shared_endpoints))
    return new


def _next_gateway(app: App, settings: Settings) -> Gateway:
    """The Gateway of new requests."""
    old = app.gateway
    gateway = replace(
        old,
        forwarding=settings.forwarding,
        authenticator=_authenticator(old, settings),
        tickets=old.tickets or make_tickets(settings, old.redis, old.whole) if settings.auth.has_tickets else None,
        operators=_operators(app, settings),
        limits=_limits(app, settings),
        cors=make_cors(settings),
        cache=_cache(app, settings),
        access_log=_access_log(app, settings),
        required=frozenset(settings.ready_requires),
    )
    return replace(gateway, figures=make_figures(parts_of(gateway, settings), gateway.whole))


def parts_of(gateway: Gateway, settings: Settings) -> Parts:
    """The parts that the pages of figures read."""
    return Parts(
        gateway.services, gateway.durations, gateway.streams, gateway.client, gateway.overload, gateway.pressure,
        gateway.limits, gateway.authenticator, gateway.cache, gateway.tickets, gateway.revocations, gateway.tracer,
        gateway.shared_endpoints, gateway.lifecycle, settings.environment, settings.endpoint_histograms,
        redaction_of(settings.logs, settings.auth.sources), gateway.now,
    )  # fmt: skip


def _authenticator(old: Gateway, settings: Settings) -> TokenAuthenticator | None:
    """Made anew by every reload, so that cached verdicts end."""
    before = old.authenticator if isinstance(old.authenticator, TokenAuthenticator) else None
    return make_authenticator(settings, old.whole, before)


def _operators(app: App, settings: Settings) -> Operators:
    before, config = app.gateway.operators, settings.admin
    is_password = before.is_password
    if config.password != app.settings.admin.password:
        is_password = OperatorPassword(config.password.hash) if config.password else None
    return replace(before, config=config, asks=settings.protects_admin, is_password=is_password)


def _limits(app: App, settings: Settings) -> Limits | None:
    """The rate limits: counters stay."""
    if not any(each.limits_something for each in settings.limit_configs):
        return None
    if app.limits is None:
        app.limits = make_limits(settings, app.gateway.rng, app.gateway.redis, app.gateway.whole)
    return replace(app.limits, default=settings.service.limits) if app.limits else None


def _cache(app: App, settings: Settings) -> ResponseCache | None:
    """The response cache: what is stored stays while anything is cached, and in Redis afterwards, too."""
    if not settings.caches_something:
        return None
    stays = app.cache and (app.gateway.cache or app.cache.shared)
    if not stays:
        app.cache = make_cache(settings, app.gateway.rng, app.gateway.redis, app.gateway.whole)
    return replace(app.cache, name=settings.forwarding.pseudonym) if app.cache else None


def _access_log(app: App, settings: Settings) -> AccessLog | None:
    """The access log: requests that run may still write, so that a log which was made stays."""
    config = settings.logs
    if not (config.has_access_log or config.has_slow_log):
        return None
    if app.access_log is None:
        app.access_log = make_access_log(config, settings.auth.sources)
    return app.access_log


# ---- commits: what cannot fail


def _change_services(app: App, settings: Settings, new: Collection[Service]) -> Steps[None]:
    for service in new:
        app.gateway.services.add(service)
    present = {each.name for each in new}
    for spec in settings.services:
        if spec.name not in present:
            yield
            _change_service(app.gateway.services[spec.name.encode("ascii")], spec, app.gateway)


def _retire_services(app: App, settings: Settings) -> None:
    registry, wanted = app.gateway.services, {each.name.encode("ascii") for each in settings.services}
    for name in [each for each in registry if each not in wanted]:
        registry.retire(name)


def _change_service(service: Service, spec: ServiceSpec, gateway: Gateway) -> None:
    now = gateway.now()
    if spec.service != service.config:
        service.reconfigure(spec.service, now, gateway.rng)

    def make(url: str, weight: int) -> Endpoint:
        return new_endpoint(url, weight, spec.service, gateway.rng, now)

    service.configure({each.url: each.weight for each in spec.endpoints}, make, now)


def _servers(app: App, settings: Settings, gateway: Gateway) -> Commit:
    found = [(app.server, make_router(settings, gateway), server_config(settings))]
    if app.admin_server:
        found.append((app.admin_server, make_admin_router(settings, gateway), admin_server_config(settings)))
    if app.control_server:
        found.append((app.control_server, make_control_router(settings, gateway), control_server_config(settings)))
    refuse = LocalReply(gateway)

    def commit() -> None:
        for server, router, config in found:
            server.delegate, server.refuse = router, refuse
            server.reconfigure(config)

    return commit


def _shared_parts(app: App, settings: Settings, gateway: Gateway, tls: Contexts) -> None:
    """Change the parts that the old and the new Gateway share."""
    old, before = app.gateway, app.settings
    gateway.streams.counts.limits = settings.streams
    if gateway.shared_endpoints:
        repeat(gateway, gateway.shared_endpoints)
    gateway.revocations.reconfigure(settings.auth.tokens.leeway, settings.sharing.revocation_on_error)
    if settings.shares_revocations:
        gateway.revocation_store.share(connect(app.gateway.redis, settings.sharing.redis_url))
    if settings.overload != before.overload:
        gateway.overload.reconfigure(settings.overload)
        gateway.pressure.reconfigure(settings.overload)
    gateway.operators.sessions.config = settings.admin.sessions
    if ends_log_ins(before, settings):
        gateway.operators.sessions.clear()
    gateway.client.reconfigure(settings.client, tls)
    app.discovery.reconfigure(settings.discovery)
    if _of_sources(settings) != _of_sources(before):
        app.sources.reconfigure(feeds_of(settings, gateway.client, Pace()), settings.discovery.family)
    _change_sweepers(app, old, gateway)
    _change_limits(gateway, settings)
    _change_logs(app, settings, gateway)
    _change_key_set(app, settings, gateway)
    parts = parts_of(gateway, settings)
    look = partial(state_of, parts, with_minute=True, with_each=False)
    gateway.observer.reconfigure(look, about_with(settings, about_of(parts)))


def ends_log_ins(before: Settings, settings: Settings) -> bool:
    """Whether operators must log in again: a credential that has opened a session may not count any more."""
    return (settings.auth, settings.admin.password) != (before.auth, before.admin.password)


def _of_sources(settings: Settings) -> tuple[object, ...]:
    """What says how sources of endpoints are asked."""
    return settings.discovery, settings.sources


def _change_sweepers(app: App, old: Gateway, gateway: Gateway) -> None:
    before = [*([old.limits.memory] if old.limits else []), *sweepers_of(old.tickets)]
    after = [*([gateway.limits.memory] if gateway.limits else []), *sweepers_of(gateway.tickets)]
    for each in before:
        if each not in after:
            app.heartbeat.remove(each)
    for each in after:
        if each not in before:
            app.heartbeat.add(each)


def _change_limits(gateway: Gateway, settings: Settings) -> None:
    limits = gateway.limits
    if limits is None:
        return
    limits.memory.keep({each.id for each in settings.limit_rules})
    if limits.shared:
        limits.shared.fallback.on_error = settings.limit_store.on_error


def _change_logs(app: App, settings: Settings, gateway: Gateway) -> None:
    config, redaction = settings.logs, redaction_of(settings.logs, settings.auth.sources)
    logs.reconfigure(app.settings.logs, config)
    gateway.tail.reconfigure(redaction, config.slow)
    if gateway.tracer:
        gateway.tracer.hidden = redaction_of(config, ()).names
    if gateway.access_log:
        gateway.access_log.reconfigure(
            text_line if config.is_text() else json_line,
            has_all=config.has_access_log,
            has_openings=config.openings and config.has_access_log,
            slow=config.slow,
            redaction=redaction,
        )


def _change_key_set(app: App, settings: Settings, gateway: Gateway) -> None:
    authenticator = gateway.authenticator
    if app.key_set and isinstance(authenticator, TokenAuthenticator) and settings.key_set == app.settings.key_set:
        authenticator.key_source = app.key_set
        app.key_set.serve(authenticator.use_key_set)
        return
    if app.key_set:
        app.key_set.close()
    app.key_set = make_key_set(settings, gateway)
    if app.key_set:
        app.key_set.start()
