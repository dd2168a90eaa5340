"""The composition root: from settings to a gateway that can listen."""

import asyncio
import errno
import functools
import logging
import math
import os
import random
import resource
import secrets
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tornado_gateway.adapters.access_log import AccessLog, json_line, text_line
from tornado_gateway.adapters.authentication import TokenAuthenticator
from tornado_gateway.adapters.batched_limits import BatchedLimits
from tornado_gateway.adapters.event_log import EventLog
from tornado_gateway.adapters.logs import LogConfig
from tornado_gateway.adapters.otlp import OtlpSink
from tornado_gateway.adapters.passwords import OperatorPassword
from tornado_gateway.adapters.redis_cache import RedisCache, Shared
from tornado_gateway.adapters.redis_connection import RedisConnection
from tornado_gateway.adapters.redis_limits import RedisStore
from tornado_gateway.adapters.redis_tickets import RedisTickets
from tornado_gateway.adapters.response_cache import MemoryCache
from tornado_gateway.adapters.revocation_store import RevocationStore
from tornado_gateway.adapters.shared_endpoints import SharedEndpoints
from tornado_gateway.adapters.supervisor_limits import SupervisorLimits
from tornado_gateway.adapters.tracing import Tracer
from tornado_gateway.config.help import effective
from tornado_gateway.config.parsers import EVERY_ADDRESS
from tornado_gateway.config.problems import ConfigurationError, Problem
from tornado_gateway.config.settings import ListenerSpec, ServiceSpec, Settings, assemble
from tornado_gateway.config.tls import load_certificates
from tornado_gateway.figures import Parts, about_of, make_figures, state_of
from tornado_gateway.gateway import Gateway, Lifecycle, Limits, Operators, ResponseCache, Tickets
from tornado_gateway.handlers.attempts import Attempts as PlainAttempts
from tornado_gateway.handlers.base import PageHandler
from tornado_gateway.handlers.control import services_of
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.local_reply import LocalReply
from tornado_gateway.handlers.ops import pressure_of, readiness_of
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.handlers.request_pages import requests_of
from tornado_gateway.handlers.router import HEALTH, OWN, PROXIED, Router, is_for_operators, pages, private
from tornado_gateway.handlers.session_pages import uses_in
from tornado_gateway.handlers.stream_pages import page_of
from tornado_gateway.handlers.traced import attempts_of, journal_of
from tornado_gateway.memory import memory_of, remember
from tornado_gateway.neighbours import carry_out as carry_out_statement
from tornado_gateway.neighbours import tell_breaker
from tornado_gateway.orders import carry_out
from tornado_gateway.policy.access import ANY, Access, admin_access, default_rule
from tornado_gateway.policy.attempts import Attempts
from tornado_gateway.policy.handover import Offer, Place, Role
from tornado_gateway.policy.http.cors import CorsConfig
from tornado_gateway.policy.http.credentials import Source, Where
from tornado_gateway.policy.http.redaction import Redaction
from tornado_gateway.policy.http.target import Origin, parse_base_url
from tornado_gateway.policy.limits.in_flight import InFlight
from tornado_gateway.policy.limits.memory import MemoryStore
from tornado_gateway.policy.limits.totals import LimitTotals
from tornado_gateway.policy.overload import Overload
from tornado_gateway.policy.principal import Holder
from tornado_gateway.policy.revocations import Revocations
from tornado_gateway.policy.routing import Route, RouteTable
from tornado_gateway.policy.sessions import SessionStore
from tornado_gateway.policy.statements import RELOADED
from tornado_gateway.policy.tickets.allowance import Allowance
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.upstream.affinity import Affinity
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.membership import is_resolvable
from tornado_gateway.policy.upstream.resolution import new_endpoint
from tornado_gateway.policy.upstream.service import Service, limit_of
from tornado_gateway.policy.upstream.sources import Kind, is_source
from tornado_gateway.policy.views.board import Event
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.request_tail import RequestTail
from tornado_gateway.policy.views.state import State, to_plain
from tornado_gateway.registry import ServiceRegistry
from tornado_gateway.upkeep.consul import ConsulFeed
from tornado_gateway.upkeep.descriptors import Descriptors
from tornado_gateway.upkeep.discovery import Discovery
from tornado_gateway.upkeep.handover import HandOver, Predecessor
from tornado_gateway.upkeep.health_checks import HealthChecks, Shares
from tornado_gateway.upkeep.heartbeat import Heartbeat, Sweeper
from tornado_gateway.upkeep.idle_connections import IdleConnections
from tornado_gateway.upkeep.inheritance import Inheritance
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop
from tornado_gateway.upkeep.key_set import KeySet
from tornado_gateway.upkeep.kubernetes import KubernetesFeed
from tornado_gateway.upkeep.observer import Observer
from tornado_gateway.upkeep.pressure import Pressure
from tornado_gateway.upkeep.rebalancer import Rebalancer
from tornado_gateway.upkeep.shared import in_slices
from tornado_gateway.upkeep.sources import MakeFeed, Pace, Sources
from tornado_gateway.upkeep.srv import SrvFeed
from tornado_gateway.upkeep.streams import Streams
from tornado_gateway.upkeep.watchdog import Watchdog
from tornado_gateway.upkeep.whole import Whole
from tornado_gateway.upkeep.whole_tail import WholeTail
from tornado_gateway.upkeep.whole_tickets import WholeTickets
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.server.certificates import Certificates
from tornado_gateway.wire.server.context import ServerConfig
from tornado_gateway.wire.server.private import PrivateServer
from tornado_gateway.wire.server.server import HTTPServer, Listener, Listening
from tornado_gateway.wire.server.sharing import Share

# File descriptors kept for logs, Redis, listeners of operators and the interpreter.
RESERVED_DESCRIPTORS = 128
DESCRIPTORS_OF_A_LISTENER = 3  # the socket, uvloop's copy, and one for a successor (measured: 156 for 50 listeners)

DRAWN_AT_ONCE = 64  # request ids

LOG_IN_WINDOW = 300.0  # seconds that a failed log-in counts: 10 in 5 minutes are 2,880 guesses a day
LONGEST_VALUE = 2000  # characters of a variable on the dashboard: UPSTREAMS may have a thousand endpoints
MAX_OPERATORS = 256  # connections to ADMIN_PORT, beside those of MAX_CONNECTIONS

SHARED_ENDPOINTS = "shared endpoints"  # what one of several workers speaks about for the gateway

STICKY, PSEUDONYM, PINGS = "sticky", "pseudonym", "pings"  # secrets that a successor gets

# What the kernel says to "::" where IPv6 is switched off, or not built in.
_WITHOUT_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

log = logging.getLogger("tornado_gateway")


LISTEN = "LISTEN"


class CannotListen(Exception):
    """An address cannot be bound. The text says which address, why, and which variables name the address."""

    def __init__(self, host: str, port: int | None, error: OSError, variables: str) -> None:
        # asyncio replaces the system's message by a longer sentence; an unknown name has no errno of the system.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 and port is not None else error.strerror or str(error)
        place = host if port is None else authority(host, port)
        super().__init__(f"{variables}: cannot listen on {place}: {reason}")


def authority(host: str, port: int) -> str:
    """ "host:port", with an IPv6 address in brackets; of a unix socket, the path behind "unix:".

    >>> authority("127.0.0.1", 80), authority("::1", 80), authority("unix:/run/gateway.sock", 0)
    ('127.0.0.1:80', '[::1]:80', 'unix:/run/gateway.sock')
    """
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listeners(hosts: Sequence[str], port: int, common: Listener = Listener()) -> list[Listener]:  # noqa: B008
    """What the gateway listens on.

    Args:
        common: what the listeners have in common.
    """
    if tuple(hosts) != (EVERY_ADDRESS,):
        return [replace(common, host=host, port=port) for host in hosts]
    of_ipv4 = replace(common, host="0.0.0.0", port=port)  # noqa: S104  # that is what * means
    return [of_ipv4, replace(common, host="::", port=port, is_optional=True)]


def public_listeners(settings: Settings, certificates: Certificates | None) -> list[Listener]:
    """What everybody may connect to: the listeners of LISTEN, else HOST and PORT, which speak TLS with TLS_CERT."""
    config = settings.listen
    if not config.listeners:
        return listeners(config.hosts, config.port, Listener(tls=certificates))
    return [each for spec in config.listeners for each in _of_spec(spec, settings, certificates)]


def public_variables(settings: Settings) -> str:
    """Names of the variables that name the addresses for everybody."""
    return LISTEN if settings.listen.listeners else "HOST, PORT"


def _of_spec(spec: ListenerSpec, settings: Settings, certificates: Certificates | None) -> list[Listener]:
    proxies = settings.forwarding.trusted if spec.proxied else None
    common = Listener(path=spec.path, mode=spec.mode, tls=certificates if spec.tls else None, proxies=proxies)
    return [common] if spec.path else listeners((spec.host,), spec.port, common)


def place_of(role: Role, listener: Listener) -> Place:
    """A listener, as another process names its socket."""
    if listener.path:
        return Place(role, listener.path, None, listener.is_activated)
    return Place(role, listener.host, listener.port, listener.is_activated)


def activated_listener(at: Place, wanted: Sequence[Listener], *, is_list: bool) -> Listener:
    """The listener of a socket that systemd has bound: with the options of the listener for the same place.

    Args:
        is_list: whether LISTEN has the options; HOST and PORT have the same options for every place.

    Raises:
        CannotListen: LISTEN has no listener for the place.
    """
    same = [each for each in wanted if (each.path or each.host, each.port) in _names_of(at)]
    if is_list and not same:
        error = OSError(0, "systemd has bound the socket, and no listener has the place")
        raise CannotListen(authority(at.host, at.port) if at.port else at.host, None, error, "LISTEN")
    options = (same or list(wanted))[0]
    if at.port is None:
        return replace(options, path=at.host, host="", port=0, is_activated=True)
    return replace(options, host=at.host, port=at.port, is_activated=True)


def _names_of(at: Place) -> set[tuple[str, int]]:
    port = at.port or 0
    return {(host, port) for host in (at.host, EVERY_ADDRESS)}


async def listen(
    server: HTTPServer, wanted: Sequence[Listener], variables: str, role: Role, inherited: Inheritance
) -> list[tuple[str, int]]:
    """Listen; return the bound addresses, which all have the same port unless systemd has bound these.

    Args:
        variables: names of the variables that name the addresses.
        inherited: sockets that listen already; the server accepts connections there from its resume() on.

    Raises:
        CannotListen: an address cannot be bound.
    """
    addresses: list[tuple[str, int]] = []
    activated = inherited.activated(role)
    is_list = variables == LISTEN
    for listener in [activated_listener(at, wanted, is_list=is_list) for at in activated] or wanted:
        port = listener.port or (addresses[0][1] if addresses else 0)
        here = replace(listener, port=0 if listener.path else port)
        try:
            addresses += await server.listen(here, inherited.take(place_of(role, here)))
        except OSError as error:
            if not (listener.is_optional and error.errno in _WITHOUT_IPV6):
                at = place_of(role, here)
                raise CannotListen(at.host, at.port, error, variables) from error
    return addresses


async def listen_privately(server: PrivateServer, path: str, inherited: Inheritance) -> None:
    """
    Raises:
        CannotListen: the socket cannot be bound.
    """
    try:
        await server.listen_at(path, inherited.take(*private_places(Role.CONTROL, path)))
    except OSError as error:
        raise CannotListen(path, None, error, "CTL_SOCKET") from error


def private_places(role: Role, path: str) -> list[Place]:
    """The places of a unix socket, which systemd may have bound."""
    return [Place(role, path, None, is_activated=each) for each in (False, True)]


class App:
    """A gateway, its servers and its heartbeat, ready to listen. Made inside a running event loop without an IOLoop.

    Args:
        inherited: sockets that listen already, and what else another process has given.
        share: of the connections that a worker accepts; None for a gateway of one process.
        whole: the other workers; None for a gateway of one process.
        worker: number of the worker.

    Attributes:
        certificates: of the TLS listeners; None without TLS.
        server: serves everything, but for the pages of `admin_server`.
        admin_server: serves the pages for operators; None if `server` does.
        control_server: serves the pages for operators on a unix socket; None without CTL_SOCKET.
        admin_addresses: what `admin_server` listens on.
        secrets: by name; see drawn_secrets().
        gateway: of new requests; a reload makes another.
        access_log, limits, cache: those that were made last; None if there were none yet.
        parts: prepare other settings, and return what makes the change, or raise ConfigurationError; see reload.py.
        hand_over: waits for a successor; None without TAKEOVER_SOCKET.
        replaced: set when a successor has taken over.

    Raises:
        ConfigurationError: a certificate cannot be used any more.
        OSError: UPSTREAM_TLS_CA_FILE cannot be read.
        RuntimeError: the event loop has a stock IOLoop.
    """

    def __init__(
        self,
        settings: Settings,
        inherited: Inheritance | None = None,
        share: Share | None = None,
        whole: Whole | None = None,
        worker: int = 0,
    ) -> None:
        MonotonicIOLoop.install()  # before anything asks for the IOLoop: an event loop has one, for good
        self._inherited, self._worker = inherited or Inheritance(), worker
        self.secrets = drawn_secrets(self._inherited.offer.secrets)
        self.settings = settings = draw_secrets(settings, self.secrets)
        self.hand_over: HandOver | None = None
        self.replaced = asyncio.Event()
        self.event_log = EventLog()
        name = f"{socket.gethostname()}/{self.secrets[PSEUDONYM]}"  # workers and successors have the same
        self.gateway = make_gateway(settings, self.event_log.take, whole, worker, name)
        self.access_log, self.limits, self.cache = self.gateway.access_log, self.gateway.limits, self.gateway.cache
        self.parts: list[Callable[[Settings], Callable[[], None]]] = []
        self.certificates = Certificates(load_certificates(settings)) if settings.listen.tls.certificates else None
        self.listeners = public_listeners(settings, self.certificates)
        self.parts.append(self._prepare_certificates)
        self.admin_addresses: list[tuple[str, int]] = []
        self.server = make_server(settings, self.gateway)
        self.server.share = share
        self.admin_server = make_admin_server(settings, self.gateway)
        self.control_server = make_control_server(settings, self.gateway)
        gateway = self.gateway
        gateway.pressure.server = self.server
        self.watchdog = Watchdog(lambda: gateway.pressure.ticked_at, gateway.now)
        shares = Shares(share.is_mine, whole.tell_health) if share and whole else Shares()
        services = gateway.services.values()
        self.health_checks = HealthChecks(services, gateway.client, gateway.rng, gateway.now, shares=shares)
        self.discovery = make_discovery(settings, gateway)
        self.sources = make_sources(settings, gateway, lambda: self.discovery.sweep(gateway.now()))
        self.key_set = make_key_set(settings, gateway)
        self.rebalancer = Rebalancer(gateway.services.values(), gateway.streams)
        self.heartbeat = Heartbeat(
            *self.servers,
            gateway.client,
            gateway.streams,
            self.health_checks,
            self.rebalancer,
            IdleConnections(gateway.services.values(), gateway.client),
            gateway.revocation_store,
            Descriptors(),
            self.discovery,
            self.sources,
            *([gateway.limits.memory] if gateway.limits else []),
            *sweepers_of(gateway.tickets),
            *self._share_endpoints(share),
            services_timeout=gateway.services.shortest_timeout,
        )

    async def start(self) -> list[tuple[str, int]]:
        """Listen and accept; return the bound addresses of `server`, which all have the same port.

        Raises:
            CannotListen: an address cannot be bound.
            CannotTakeOver: the process before does not cede its sockets.
        """
        addresses = await self.listen()
        await self.accept(self._inherited.ready())
        return addresses

    async def listen(self) -> list[tuple[str, int]]:
        """Bind everything; see start(). At sockets that listened before, nothing is accepted until accept()."""
        inherited, config = self._inherited, self.settings.admin_listen
        variables = public_variables(self.settings)
        addresses = await listen(self.server, self.listeners, variables, Role.PUBLIC, inherited)
        if self.admin_server:
            common = Listener(tls=self.certificates if config.tls else None)
            wanted = listeners(config.hosts, config.port or 0, common)
            self.admin_addresses = await listen(
                self.admin_server, wanted, "ADMIN_HOST, ADMIN_PORT", Role.OPERATORS, inherited
            )
        if self.control_server:
            await listen_privately(self.control_server, config.socket, inherited)
        self.hand_over = make_hand_over(self, self.settings.listen.takeover, inherited)
        await self.sources.first_answers()
        if self.gateway.shared_endpoints:
            await self.gateway.shared_endpoints.first_look()
        await self.gateway.revocation_store.first_look()
        return addresses

    async def accept(self, memory: Mapping[str, Any]) -> None:
        """Accept connections, and begin everything that goes on without a request.

        Args:
            memory: what another process of the gateway knew.
        """
        remember(self.gateway, memory)
        self.gateway.lifecycle.began = memory.get("began", self.gateway.lifecycle.began)
        for name, bodies in memory.get("orders", {}).items():
            for body in bodies:
                carry_out(self.gateway, name, body)
        for server in self.servers:
            await server.resume()
        for _, listening in self._listening() if self.server.share else []:
            listening.keeps_path = True  # the supervisor's
        self._inherited.done()
        self._inherited.close()
        if self.hand_over:
            self.hand_over.start()
        if self.key_set:
            self.key_set.start()
        self.heartbeat.start()
        self.heartbeat.sweep()
        self.gateway.pressure.start()
        self.event_log.open()
        self.gateway.observer.start()
        self.watchdog.start()

    def _share_endpoints(self, share: Share | None) -> list[SharedEndpoints]:
        """Carry out what other gateways tell; return the Sweeper, if there is one."""
        shared = self.gateway.shared_endpoints
        if shared is None:
            return []
        shared.carry_out = lambda statement: carry_out_statement(self.gateway, shared, statement)
        if share:
            shared.speaks = partial(share.is_mine, SHARED_ENDPOINTS)
        return [shared]

    def tell_reloaded(self) -> None:
        """Tell the gateways that share endpoints of a reload here. Of several workers, only the speaker tells."""
        shared = self.gateway.shared_endpoints
        if shared and shared.speaks():
            shared.tell(RELOADED, RELOADED)

    def _prepare_certificates(self, settings: Settings) -> Callable[[], None]:
        """Read the files of TLS; the result shows the certificates from the next handshake on.

        Raises:
            ConfigurationError: a file cannot be used, or TLS is to begin or to end.
        """
        certificates, served = self.certificates, load_certificates(settings)
        if (certificates is None) is bool(served):
            reason = "begins or ends TLS, which needs a restart"
            raise ConfigurationError((Problem("TLS_CERT", "", reason, "certificates instead of those before"),))
        return partial(certificates.use, served) if certificates else lambda: None

    @property
    def servers(self) -> list[HTTPServer]:
        return [each for each in (self.server, self.admin_server, self.control_server) if each]

    @property
    def connections(self) -> int:
        """The number of clients' connections."""
        return sum(len(server.connections) for server in self.servers)

    @property
    def busy(self) -> int:
        """The number of connections with an incomplete response or a WebSocket."""
        return sum(server.busy for server in self.servers)

    async def drain(self) -> bool:
        """Stop in three steps: announce the stop, stop accepting connections, finish what is in flight.

        After a take-over there is no delay: the address is served.
        During SHUTDOWN_DELAY_MS only a 503 of /readyz and `Connection: close` in each response announce the stop: load
        balancers need the time to choose other gateways. Health checks and new streams still work.

        Returns:
            Whether everything in flight has finished within SHUTDOWN_TIMEOUT_MS.
        """
        self.gateway.lifecycle.draining = True
        if self.hand_over:
            await self.hand_over.close()
        for server in self.servers:
            server.announce_close()
        is_replaced, shutdown = self.replaced.is_set(), self.settings.shutdown
        await asyncio.sleep(0 if is_replaced else shutdown.delay)
        self.health_checks.close()
        self.rebalancer.close()
        self.gateway.observer.close()
        for server in self.servers:
            await server.pause()
            server.drain(shutdown.idle_of_replaced if is_replaced else shutdown.idle)
        spread = min(shutdown.spread, shutdown.longest_spread)
        self.heartbeat.hasten()
        self.gateway.streams.drain(self.server.context.loop.time(), spread)
        try:
            async with asyncio.timeout(shutdown.timeout):
                await asyncio.gather(*[server.answered() for server in self.servers])
        except TimeoutError:
            return not self.busy
        return True

    async def end(self, interrupted: asyncio.Event) -> bool:
        """Drain until everything has ended, an interruption or the timeout; return whether nothing is cut off."""
        if self.replaced.is_set():
            log.info("another process has taken over; stopping: open connections: %d", self.connections)
        else:
            log.info("stopping: open connections: %d", self.connections)
        draining, waiting = asyncio.ensure_future(self.drain()), asyncio.ensure_future(interrupted.wait())
        await asyncio.wait([draining, waiting], return_when=asyncio.FIRST_COMPLETED)
        is_clean = draining.done() and draining.result()
        for task in (draining, waiting):
            task.cancel()
        if is_clean:
            log.info("stopped")
        else:
            log.warning("stopped: connections that were cut off: %d", self.busy)
        return is_clean

    @property
    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """What a worker answers the supervisor: each time of the configuration that is then in force."""

        async def figures(said: Sequence[bool]) -> list[Any]:
            with_minute, with_each = said
            state = self.gateway.figures.state(with_minute=with_minute, with_each=with_each)
            return to_plain(await in_slices(state, self.gateway.now))

        return {
            "figures": figures,
            "streams": lambda query: page_of(self.gateway, query),
            "services": lambda _: services_of(self.gateway),
            "requests": lambda query: requests_of(self.gateway, query),
            "newer-requests": lambda newest: self.gateway.tail.rows(newest[self._worker]),
            "cache": lambda _: self.gateway.figures.cache.get(),
            "uses": lambda _: uses_in(self.gateway),
            "readiness": lambda _: readiness_of(self.gateway),
            "pressure": lambda with_heap: pressure_of(self.gateway, with_heap=with_heap),
            "order": lambda said: carry_out(self.gateway, *said),
            "memory": lambda _: memory_of(self.gateway),
        }

    # ---- Predecessor

    def offer(self) -> tuple[Offer, list[socket.socket]]:
        """See Predecessor."""
        found = self._listening()
        places, sockets = [place for place, _ in found], [each.sock for _, each in found]
        takeover = [self.hand_over.sock] if self.hand_over else []
        places += [Place(Role.TAKEOVER, self.settings.listen.takeover)] * len(takeover)
        return Offer(os.getpid(), tuple(places), self.secrets), [*sockets, *takeover]

    def _listening(self) -> list[tuple[Place, Listening]]:
        by_role = {Role.PUBLIC: self.server, Role.OPERATORS: self.admin_server, Role.CONTROL: self.control_server}
        return [
            (place_of(role, each.listener), each)
            for role, server in by_role.items()
            if server
            for each in server.listening
        ]

    async def cede(self) -> dict[str, object]:
        """See Predecessor."""
        for server in self.servers:
            await server.pause()
        return memory_of(self.gateway)

    async def resume(self) -> None:
        """See Predecessor."""
        for server in self.servers:
            await server.resume()

    def leave(self, taken: frozenset[Place], /) -> None:
        """See Predecessor."""
        for place, each in self._listening():
            each.keeps_path = place in taken
        if self.hand_over:
            self.hand_over.keeps_path = any(each.role is Role.TAKEOVER for each in taken)
        self.gateway.lifecycle.is_replaced = True
        self.replaced.set()

    async def close(self) -> None:
        """End everything at once. A request that is cut off still has a line in the access log."""
        self.gateway.lifecycle.stopped = True
        if self.hand_over:
            await self.hand_over.close()
        self._inherited.close()
        self.event_log.close()
        self.watchdog.stop()
        self.gateway.pressure.stop()
        self.gateway.observer.close()
        self.heartbeat.stop()
        self.health_checks.close()
        self.rebalancer.close()
        await self.sources.close()
        self.discovery.close()
        if self.key_set:
            self.key_set.close()
        for server in self.servers:
            server.drain()
        self.gateway.streams.abort()
        for server in self.servers:
            server.abort()
        self.gateway.client.close()
        self.gateway.figures.close()
        for server in self.servers:
            await server.closed()
        await self.gateway.streams.closed()
        await self._close_password_checks()
        await self._close_redis()
        if self.gateway.tracer:
            await self.gateway.tracer.close()
        if self.access_log:
            self.access_log.close()

    async def _close_redis(self) -> None:
        limits, cache = self.limits, self.cache
        if self.gateway.shared_endpoints:
            await self.gateway.shared_endpoints.close()
        if limits and limits.shared:
            await limits.shared.close()
        if cache and cache.shared:
            await cache.shared.close()
        for connection in self.gateway.redis.values():
            await connection.close()

    async def _close_password_checks(self) -> None:
        if isinstance(self.gateway.authenticator, TokenAuthenticator):
            await self.gateway.authenticator.close()
        if self.gateway.operators.is_password:
            await self.gateway.operators.is_password.close()


def make_gateway(
    settings: Settings,
    news: Callable[[], list[Event]] = list,
    whole: Whole | None = None,
    worker: int = 0,
    name: str = "",
) -> Gateway:
    """The parts of a gateway.

    Args:
        news: see Observer.
        whole, worker: see App.
        name: by which other gateways know this one.
    """
    now = time.monotonic  # the event loop's clock; uvloop's time() counts whole ms and stands still within a turn
    rng = random.Random()  # noqa: S311  # ids, jitter and masks are no secrets
    redis: dict[str, RedisConnection] = {}
    shared = make_shared_endpoints(settings, redis, name)
    services = ServiceRegistry(*[make_service(each, rng, whole, shared) for each in settings.services])
    durations = Durations()
    overload = Overload(settings.overload, rng)
    pressure = Pressure(overload, now, settings.overload)
    limits = make_limits(settings, rng, redis, whole)
    streams = Streams(settings.streams, worker, settings.workers, whole.others_streams if whole else None)
    revocations = Revocations(settings.auth.tokens.leeway, settings.sharing.revocation_on_error)
    lifecycle = Lifecycle(now())
    authenticator = make_authenticator(settings, whole)
    tracer = make_tracer(settings, request_ids(rng).__next__)
    client = PooledHTTPClient(force_instance=True, config=settings.client)
    client.connector.load_contexts(settings.upstream_tls)
    cache, tickets = make_cache(settings, rng, redis, whole), make_tickets(settings, redis, whole)
    redaction = redaction_of(settings.logs, settings.auth.sources)
    parts = Parts(
        services, durations, streams, client, overload, pressure, limits, authenticator, cache, tickets,
        revocations, tracer, shared, lifecycle,
        settings.environment, settings.endpoint_histograms, redaction, now,
    )  # fmt: skip
    look = functools.partial(state_of, parts, with_minute=True, with_each=False)
    tail = RequestTail(redaction, settings.logs.slow, worker, settings.workers)
    seen = WholeTail(tail, whole) if whole else tail
    return Gateway(
        services=services,
        client=client,
        forwarding=settings.forwarding,
        authenticator=authenticator,
        tickets=tickets,
        access_log=make_access_log(settings.logs, settings.auth.sources),
        streams=streams,
        revocations=revocations,
        revocation_store=make_revocation_store(settings, revocations, streams, redis),
        overload=overload,
        pressure=pressure,
        rng=rng,
        new_request_id=request_ids(rng).__next__,
        tracer=tracer,
        new_journal=partial(journal_of, tracer) if tracer else Journal,
        new_attempts=attempts_of if tracer else PlainAttempts,
        operators=make_operators(settings),
        limits=limits,
        redis=redis,
        cors=make_cors(settings),
        cache=cache,
        figures=make_figures(parts, whole),
        whole=whole,
        durations=durations,
        observer=Observer(
            look, about_with(settings, about_of(parts)), now, news, seen, look_at_all(whole), tell_others_of(whole)
        ),
        tail=tail,
        required=frozenset(settings.ready_requires),
        environment=settings.environment,
        now=now,
        lifecycle=lifecycle,
        shared_endpoints=shared,
    )


def look_at_all(whole: Whole | None) -> Callable[[], Awaitable[State]] | None:
    """What an Observer sees of several workers; see state_of()."""
    return partial(whole.state, with_minute=True, with_each=False) if whole else None


def make_authenticator(
    settings: Settings, whole: Whole | None = None, before: TokenAuthenticator | None = None
) -> TokenAuthenticator | None:
    """What checks credentials; None if nothing asks for a credential.

    Args:
        before: see TokenAuthenticator.
    """
    if not settings.reads_tokens:
        return None
    return TokenAuthenticator(settings.auth, settings.kinds, before, whole.tell_attempt if whole else None)


def _cut(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"


def tell_others_of(whole: Whole | None) -> Callable[[list[list[object]]], None] | None:
    """How an Observer tells other workers of events."""
    return partial(whole.tell, "events") if whole else None


def about_with(settings: Settings, about: dict[str, object]) -> dict[str, object]:
    """What a viewer of the dashboard learns once, with the variables that differ from their defaults."""
    defaults = dict(effective(Settings()))
    changed = [(name, _cut(value)) for name, value in effective(settings) if value != defaults[name]]
    return {**about, "configuration": changed}


def make_operators(settings: Settings) -> Operators:
    config = settings.admin
    is_password = OperatorPassword(config.password.hash) if config.password else None
    sessions, attempts = SessionStore(config.sessions), Attempts(window=LOG_IN_WINDOW)
    return Operators(config, settings.protects_admin, sessions, attempts, is_password)


def make_server(settings: Settings, gateway: Gateway) -> HTTPServer:
    """The server of everything but the pages that `make_admin_server()` serves."""
    return HTTPServer(make_router(settings, gateway), server_config(settings), LocalReply(gateway))


def make_router(settings: Settings, gateway: Gateway) -> Router:
    """The router of `make_server()`."""
    own = make_pages(settings)
    if settings.admin_listen.port is not None:
        own = [each for each in own if not is_for_operators(each)]
    return Router(gateway, make_routes(settings), own)


def make_admin_server(settings: Settings, gateway: Gateway) -> HTTPServer | None:
    """The server of the pages for operators; None if operators use the same listener as everybody."""
    if settings.admin_listen.port is None:
        return None
    return HTTPServer(make_admin_router(settings, gateway), admin_server_config(settings), LocalReply(gateway))


def make_admin_router(settings: Settings, gateway: Gateway) -> Router:
    """The router of `make_admin_server()`."""
    own = [each for each in make_pages(settings) if is_for_operators(each) or each.path in HEALTH]
    return Router(gateway, RouteTable((), OWN), own)


def admin_server_config(settings: Settings) -> ServerConfig:
    """The config of `make_admin_server()`."""
    return replace(settings.server, max_connections=min(settings.server.max_connections, MAX_OPERATORS))


def make_control_server(settings: Settings, gateway: Gateway) -> PrivateServer | None:
    """The server of the pages for operators on the socket of CTL_SOCKET; None without the variable."""
    if not settings.admin_listen.socket:
        return None
    config = control_server_config(settings)
    return PrivateServer(make_control_router(settings, gateway), config, LocalReply(gateway))


def make_control_router(settings: Settings, gateway: Gateway) -> Router:
    """The router of `make_control_server()`."""
    own = [private(each) for each in make_pages(settings) if is_for_operators(each) or each.path in HEALTH]
    return Router(gateway, RouteTable((), OWN), own)


def make_pages(settings: Settings) -> list[Route[type[PageHandler]]]:
    default = default_rule(is_required=settings.auth.is_required)
    is_asked = settings.protects_admin
    figures = Access(ANY) if settings.protects_figures and is_asked else None
    return pages(admin_access(default, is_asked=is_asked), figures, is_read_only=settings.admin.is_read_only)


def request_ids(rng: random.Random) -> Iterator[bytes]:
    """Ids of 128 random bits in hexadecimal, as many as a W3C trace id has. Drawn one by one, an id takes four times as
    long: 0.9 µs."""
    while True:
        digits = rng.randbytes(16 * DRAWN_AT_ONCE).hex().encode("ascii")
        for at in range(0, len(digits), 32):
            yield digits[at : at + 32]


def make_routes(settings: Settings) -> RouteTable[type[ProxiedRequest]]:
    return RouteTable(PROXIED, OWN, settings.routes, settings.gateway_hosts)


def make_service(
    spec: ServiceSpec, rng: random.Random, whole: Whole | None = None, shared: SharedEndpoints | None = None
) -> Service:
    """
    Args:
        whole, shared: learn of breakers.
    """
    plain = [each for each in spec.endpoints if not is_source(each.url)]
    service = Service(
        spec.name,
        [new_endpoint(each.url, each.weight, spec.service, rng, time.monotonic()) for each in plain],
        BALANCERS[spec.service.balancer](rng),
        spec.service,
        limit=limit_of(spec.service, rng),
        affinity=Affinity.from_config(spec.name, spec.service.affinity, spec.service.balancer),
    )
    service.membership.configure({each.url: each.weight for each in spec.endpoints})
    told = [partial(whole.tell_breaker, spec.name)] if whole else []
    told += [partial(tell_breaker, shared, spec.name)] if shared else []
    if told:
        service.outcomes.tell_breaker_of = partial(_call_each, told)
    return service


def _call_each(calls: Sequence[Callable[[Endpoint], None]], endpoint: Endpoint) -> None:
    for each in calls:
        each(endpoint)


def connect(redis: dict[str, RedisConnection], url: str) -> RedisConnection:
    """The connection to the Redis of a URL. Everything that has the same URL shares one connection.

    Args:
        redis: the connections by URL; gets a new connection.
    """
    if url not in redis:
        redis[url] = RedisConnection(url)
    return redis[url]


def make_limits(
    settings: Settings, rng: random.Random, redis: dict[str, RedisConnection], whole: Whole | None = None
) -> Limits | None:
    """The rate limits; None if no config has any."""
    if not any(each.limits_something for each in settings.limit_configs):
        return None
    memory, url, on_error = MemoryStore(rng), settings.limit_store_url, settings.limit_store.on_error
    shared: BatchedLimits | None = None
    if url:
        shared = RedisStore(connect(redis, url), on_error, memory)
    elif whole:
        shared = SupervisorLimits(whole.judge, on_error, memory)
    in_flight = InFlight(whole.others_requests if whole else None)
    return Limits(shared or memory, memory, shared, settings.service.limits, LimitTotals(), time.monotonic, in_flight)


def make_cors(settings: Settings) -> CorsConfig | None:
    """The CORS of requests that reach no service; None if no config has any."""
    configs = [settings.service.cors, *[each.service.cors for each in settings.services]]
    configs += [each.cors for each in settings.routes if each.cors]
    return settings.service.cors if any(each.answers or each.passes for each in configs) else None


def make_cache(
    settings: Settings, rng: random.Random, redis: dict[str, RedisConnection], whole: Whole | None = None
) -> ResponseCache | None:
    """The response cache; None if no service's responses are cached."""
    if not settings.caches_something:
        return None
    memory = MemoryCache(settings.cache_store)
    shared = make_shared_cache(settings, memory, redis)
    return ResponseCache(
        memory,
        settings.forwarding.pseudonym,
        time.monotonic,
        time.time,
        request_ids(rng).__next__,
        shared=shared,
        others=whole if shared is None else None,
    )


def make_shared_cache(settings: Settings, memory: MemoryCache, redis: dict[str, RedisConnection]) -> RedisCache | None:
    """The cache in Redis, which gateways share; None if neither CACHE_STORE nor REDIS_URL names a Redis.

    The cache has a connection of its own, so that large entries do not hold up rate limits.
    """
    url = settings.cache_store_url
    if not url:
        return None
    connection = redis[f"cache {url}"] = RedisConnection(url)
    carry_out = partial(in_slices, now=time.monotonic)
    return RedisCache(connection, memory, Shared(settings.cache_store.secret, time.monotonic, time.time, carry_out))


def make_revocation_store(
    settings: Settings, revocations: Revocations, streams: Streams, redis: dict[str, RedisConnection]
) -> RevocationStore:
    """Shares revocations over REDIS_URL, and ends the streams of what is revoked."""

    def is_revoked(holder: Holder) -> bool:
        return revocations.refuses(holder, time.time())

    connection = connect(redis, settings.sharing.redis_url) if settings.shares_revocations else None
    return RevocationStore(revocations, partial(streams.revoke, is_revoked), connection)


def make_shared_endpoints(settings: Settings, redis: dict[str, RedisConnection], name: str) -> SharedEndpoints | None:
    """Shares what gateways know of endpoints over REDIS_URL; None without SHARED_ENDPOINTS_SECRET."""
    secret = settings.sharing.endpoints_secret
    return SharedEndpoints(connect(redis, settings.sharing.redis_url), secret, name) if secret else None


def make_tickets(settings: Settings, redis: dict[str, RedisConnection], whole: Whole | None = None) -> Tickets | None:
    """The one-time tickets; None if AUTH_TOKEN_SOURCES has none."""
    if not settings.auth.has_tickets:
        return None
    if settings.sharing.redis_url:
        return Tickets(RedisTickets(connect(redis, settings.sharing.redis_url)), None, Allowance())
    if whole:
        return Tickets(WholeTickets(whole), None, Allowance())
    memory = MemoryTickets()
    return Tickets(memory, memory, Allowance())


def sweepers_of(tickets: Tickets | None) -> list[Sweeper]:
    if tickets is None:
        return []
    return [tickets.allowance, *([tickets.memory] if tickets.memory is not None else [])]


def make_discovery(settings: Settings, gateway: Gateway) -> Discovery:
    return Discovery(gateway.services.values(), gateway.client, settings.discovery, gateway.rng, gateway.now)


def make_sources(settings: Settings, gateway: Gateway, follow: Callable[[], None], pace: Pace | None = None) -> Sources:
    """
    Args:
        follow: called after a change of memberships.
    """
    pace = pace or Pace()
    services, family = gateway.services.values(), settings.discovery.family
    return Sources(services, feeds_of(settings, gateway.client, pace), follow, family, gateway.rng, pace)


def feeds_of(settings: Settings, client: PooledHTTPClient, pace: Pace) -> dict[Kind, MakeFeed]:
    """What asks a source of each kind."""
    return {
        Kind.SRV: partial(SrvFeed, client.connector.resolver, interval=max(settings.discovery.ttl, pace.shortest)),
        Kind.CONSUL: partial(ConsulFeed, client, settings.sources.consul, shortest=pace.shortest),
        Kind.KUBERNETES: partial(KubernetesFeed, client, settings.sources.kubernetes, shortest=pace.shortest),
    }


def make_key_set(settings: Settings, gateway: Gateway) -> KeySet | None:
    authenticator = gateway.authenticator
    if not isinstance(authenticator, TokenAuthenticator) or not settings.key_set.is_on:
        return None
    key_set = KeySet(settings.key_set, gateway.client, gateway.rng, gateway.now, authenticator.use_key_set)
    authenticator.key_source = key_set
    return key_set


def make_access_log(config: LogConfig, sources: Sequence[Source] = ()) -> AccessLog | None:
    """The access log; None if the configuration has none.

    Args:
        sources: where credentials may stand. The log hides the parameters among the places.
    """
    if not (config.has_access_log or config.has_slow_log):
        return None
    unbuffered = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115  # it stays open
    return AccessLog(
        unbuffered,
        text_line if config.is_text() else json_line,
        has_all=config.has_access_log,
        has_openings=config.openings and config.has_access_log,
        slow=config.slow,
        redaction=redaction_of(config, sources),
    )


def make_tracer(settings: Settings, new_id: Callable[[], bytes]) -> Tracer | None:
    """
    Raises:
        ImportError: TRACE_SAMPLE is set, and the libraries are not installed.
    """
    config = settings.tracing
    if config.share is None:
        return None
    hidden = redaction_of(settings.logs, ()).names
    return Tracer(config.share, OtlpSink(config), new_id, time.monotonic, time.time, hidden)


def redaction_of(config: LogConfig, sources: Sequence[Source]) -> Redaction:
    """Which values the access log hides; see make_access_log()."""
    of_credentials = [each.name.decode("ascii") for each in sources if each.where in (Where.QUERY, Where.TICKET)]
    return Redaction(frozenset(each.lower() for each in (*config.redact, *of_credentials)), config.query)


def make_hand_over(predecessor: Predecessor, path: str, inherited: Inheritance) -> HandOver | None:
    """
    Raises:
        CannotListen: the socket cannot be bound.
    """
    if not path:
        return None
    try:
        return HandOver(predecessor, path, inherited.take(*private_places(Role.TAKEOVER, path)))
    except OSError as error:
        raise CannotListen(path, None, error, "TAKEOVER_SOCKET") from error


def drawn_secrets(known: Mapping[str, str]) -> dict[str, str]:
    """A random value for each secret that several processes of a gateway need, unless known from another process."""
    drawn = {STICKY: secrets.token_hex(), PSEUDONYM: f"gateway-{secrets.token_hex(4)}", PINGS: secrets.token_hex(8)}
    return {name: known.get(name, value) for name, value in drawn.items()}


def draw_secrets(settings: Settings, drawn: Mapping[str, str]) -> Settings:
    """Settings with a value for each secret that is not configured, for the life of the gateway.

    Args:
        drawn: see drawn_secrets().
    """
    of_services = {
        "service.affinity.secret": settings.service.affinity.secret or drawn[STICKY].encode("ascii"),
        "service.websocket.relay.ping_token": drawn[PINGS].encode("ascii"),
    }
    name = settings.forwarding.pseudonym or drawn[PSEUDONYM].encode("ascii")
    services = tuple(assemble(each, of_services) for each in settings.services)
    return assemble(settings, {**of_services, "forwarding.pseudonym": name, "services": services})


def control_server_config(settings: Settings) -> ServerConfig:
    """The config of `make_control_server()`."""
    return replace(settings.server, max_connections=MAX_OPERATORS)


def server_config(settings: Settings) -> ServerConfig:
    """The config of the server; without MAX_CONNECTIONS, the file descriptors limit the connections."""
    if settings.server.max_connections < math.inf:
        return settings.server
    listening = len(public_listeners(settings, None))
    return replace(settings.server, max_connections=connections_by_descriptors(len(names_of(settings)), listening))


def names_of(settings: Settings) -> set[str]:
    """The host names that must be looked up."""
    return {origin.host for origin in origins_of(settings) if is_resolvable(origin)}


def origins_of(settings: Settings) -> list[Origin]:
    """The origins of all configured endpoints, without those that sources know."""
    urls = [endpoint.url for service in settings.services for endpoint in service.endpoints]
    return [parse_base_url(url)[0] for url in urls if not is_source(url)]


def connections_by_descriptors(names: int, listening: int) -> int:
    """Number of clients that can have an upstream connection each, by the limit of file descriptors; ≥ 1.

    Args:
        names: number of host names that may be looked up at once, each with a UDP and a TCP socket.
        listening: number of listeners.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (limit - RESERVED_DESCRIPTORS - 2 * names - DESCRIPTORS_OF_A_LISTENER * listening) // 2)
