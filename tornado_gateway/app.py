"""The composition root: from settings to a gateway that can listen."""

import asyncio
import errno
import math
import os
import random
import resource
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tornado.web import Application, RequestHandler

from tornado_gateway.adapters.access_log import AccessLog, json_line, text_line
from tornado_gateway.adapters.jwt_auth import JwtAuthenticator
from tornado_gateway.adapters.logs import LogConfig
from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.config.parsers import EVERY_ADDRESS, ServiceSettings
from tornado_gateway.config.settings import LEVELS_WITH_ACCESS, STREAMS_END_WITHIN, Settings
from tornado_gateway.gateway import Gateway, Lifecycle, WebSocketConfig
from tornado_gateway.handlers.admin import StatsHandler
from tornado_gateway.handlers.base import Refuser, log_request
from tornado_gateway.handlers.http_proxy import HttpProxyHandler
from tornado_gateway.handlers.ops import HealthHandler, MetricsHandler, NotFoundHandler, ReadyHandler
from tornado_gateway.handlers.router import Router
from tornado_gateway.handlers.sse_proxy import SseProxyHandler
from tornado_gateway.handlers.ws_bridge import WsBridgeHandler
from tornado_gateway.policy.http.forwarding import ForwardingConfig
from tornado_gateway.policy.http.sse import EventStreamConfig
from tornado_gateway.policy.http.stream_limits import StreamLimits
from tornado_gateway.policy.http.target import TargetRule, parse_base_url
from tornado_gateway.policy.upstream.affinity import COOKIE_PREFIX, Affinity, Sticky
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.concurrency import AdaptiveConfig, AdaptiveLimit
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.resolution import is_resolvable
from tornado_gateway.policy.upstream.retry import RetryConfig
from tornado_gateway.policy.upstream.service import Service, ServiceConfig
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.state import collect
from tornado_gateway.upkeep.discovery import Discovery, DiscoveryConfig
from tornado_gateway.upkeep.health_checks import HealthChecks
from tornado_gateway.upkeep.heartbeat import Heartbeat
from tornado_gateway.upkeep.ioloop import MonotonicIOLoop, clock
from tornado_gateway.upkeep.rebalancer import Rebalancer
from tornado_gateway.upkeep.streams import Streams
from tornado_gateway.wire.client.client import ClientConfig, PooledHTTPClient
from tornado_gateway.wire.client.connect import ConnectConfig
from tornado_gateway.wire.client.pool import PoolConfig
from tornado_gateway.wire.client.resolver import ResolverConfig
from tornado_gateway.wire.server.context import ServerConfig
from tornado_gateway.wire.server.server import HTTPServer, Listener
from tornado_gateway.wire.websocket.config import RelayConfig

# File descriptors kept for listeners, logs and the interpreter.
RESERVED_DESCRIPTORS = 128

# What the kernel says to "::" where IPv6 is switched off, or not built in.
_WITHOUT_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class CannotListen(Exception):
    """An address of HOST cannot be bound; the text says which one, and why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        # asyncio puts a sentence of its own in the place of the system's; a name that is not found has no errno of it.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        super().__init__(f"cannot listen on {authority(host, port)}: {reason}")


def authority(host: str, port: int) -> str:
    """
    >>> authority("127.0.0.1", 80), authority("::1", 80)
    ('127.0.0.1:80', '[::1]:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the routing table."""

    methods: str
    path: str
    handler: type[RequestHandler]


ROUTES = (
    Route("ANY", "/api/<service>/*", HttpProxyHandler),
    Route("GET, HEAD", "/sse/<service>/*", SseProxyHandler),
    Route("GET", "/ws/<service>", WsBridgeHandler),
    Route("GET", "/ws/<service>/*", WsBridgeHandler),
    Route("GET, HEAD, OPTIONS", "/healthz", HealthHandler),
    Route("GET, HEAD, OPTIONS", "/readyz", ReadyHandler),
    Route("GET, HEAD, OPTIONS", "/metrics", MetricsHandler),
    Route("GET, HEAD, OPTIONS", "/admin/stats", StatsHandler),
)


class App:
    """A gateway, its server and its heartbeat, ready to listen. Made inside a running event loop without an IOLoop.

    Raises:
        OSError: UPSTREAM_TLS_CA_FILE cannot be read.
        RuntimeError: the event loop has a stock IOLoop.
    """

    def __init__(self, settings: Settings) -> None:
        MonotonicIOLoop.install()  # before anything asks for the IOLoop: an event loop has one, for good
        self.settings = settings
        self.gateway = make_gateway(settings)
        self.server = HTTPServer(
            Router(self.gateway, make_application(self.gateway)), server_config(settings), Refuser(self.gateway)
        )
        gateway = self.gateway
        self.health_checks = HealthChecks(gateway.services.values(), gateway.client, gateway.rng, gateway.now)
        self.discovery = make_discovery(settings, gateway)
        per_second = {
            gateway.services[each.name.encode("ascii")]: settings.of(each).rebalance_streams
            for each in settings.services
        }
        self.rebalancer = Rebalancer(per_second, gateway.streams, gateway.now())
        self.heartbeat = Heartbeat(
            self.server,
            gateway.client,
            gateway.streams,
            self.health_checks,
            self.rebalancer,
            *([self.discovery] if self.discovery else []),
            services_timeout=lambda: shortest_timeout(gateway),
        )

    async def start(self) -> list[tuple[str, int]]:
        """Listen; the addresses that were bound, all with one port.

        Raises:
            CannotListen: an address of HOST cannot be bound with PORT.
        """
        addresses: list[tuple[str, int]] = []
        for host in self.settings.host:
            port = self.settings.port or (addresses[0][1] if addresses else 0)
            addresses += await self._listen(host, port)
        self.heartbeat.start()
        self.heartbeat.sweep()
        return addresses

    async def _listen(self, host: str, port: int) -> list[tuple[str, int]]:
        try:
            if host != EVERY_ADDRESS:
                return await self.server.listen(Listener(host=host, port=port))
            bound = await self.server.listen(Listener(host="0.0.0.0", port=port))  # noqa: S104  # that is what * means
        except OSError as error:
            raise CannotListen(host, port, error) from error
        try:
            return bound + await self.server.listen(Listener(host="::", port=bound[0][1]))
        except OSError as error:
            if error.errno in _WITHOUT_IPV6:
                return bound
            raise CannotListen("::", port, error) from error

    async def drain(self) -> bool:
        """Stop well: be asked no more, then accept no more, then finish what is in flight.

        For SHUTDOWN_DELAY_MS only /readyz, and the `Connection: close` of each answer, tell of the end: load balancers
        need the time to look elsewhere. All else works, health checks and new streams too.

        Returns:
            Whether all that was in flight has finished within SHUTDOWN_TIMEOUT_MS.
        """
        self.gateway.lifecycle.draining = True
        self.server.announce_close()
        await asyncio.sleep(self.settings.shutdown_delay)
        self.health_checks.close()
        self.rebalancer.close()
        self.server.drain()
        spread = min(self.settings.drain_spread, self.settings.shutdown_timeout * STREAMS_END_WITHIN)
        self.heartbeat.hasten()
        self.gateway.streams.drain(self.server.context.loop.time(), spread)
        try:
            async with asyncio.timeout(self.settings.shutdown_timeout):
                await self.server.answered()
        except TimeoutError:
            return not self.server.busy
        return True

    async def close(self) -> None:
        """End everything at once; what is cut off still gets its line in the access log."""
        self.gateway.lifecycle.stopped = True
        self.heartbeat.stop()
        self.health_checks.close()
        self.rebalancer.close()
        if self.discovery:
            self.discovery.close()
        self.server.drain()
        self.gateway.streams.abort()
        self.server.abort()
        self.gateway.client.close()
        await self.server.closed()
        await self.gateway.streams.closed()
        if self.gateway.access_log:
            self.gateway.access_log.close()


def shortest_timeout(gateway: Gateway) -> float:
    """Seconds of the shortest timeout that any service has."""
    of_services = [service.config.shortest_timeout for service in gateway.services.values()]
    return min(*of_services, *[each.relay.shortest_timeout for each in gateway.websockets.values()], math.inf)


def make_gateway(settings: Settings) -> Gateway:
    now = clock()
    rng = random.Random()  # noqa: S311  # ids, jitter and masks are no secrets
    services = {each.name.encode("ascii"): make_service(each, settings.of(each), rng) for each in settings.services}
    durations = Durations()
    return Gateway(
        services=services,
        client=PooledHTTPClient(force_instance=True, config=client_config(settings)),
        forwarding=forwarding_config(settings),
        authenticator=JwtAuthenticator(settings.jwt_secret or "") if settings.auth_required else None,
        access_log=make_access_log(settings),
        streams=Streams(stream_limits(settings)),
        websockets=websocket_configs(settings),
        rng=rng,
        new_request_id=partial(make_request_id, rng),
        metrics=Metrics(lambda: collect(services.values(), durations, now(), with_minute=False)),
        durations=durations,
        required=required_services(settings),
        environment=settings.gateway_env,
        now=now,
        lifecycle=Lifecycle(now()),
    )


def forwarding_config(settings: Settings) -> ForwardingConfig:
    return ForwardingConfig(
        pseudonym=(settings.via_name or f"gateway-{secrets.token_hex(4)}").encode("ascii"),
        preserve_host=settings.preserve_host,
        trusted=settings.trusted_proxies,
        target=TargetRule(settings.target_bytes),
    )


def required_services(settings: Settings) -> frozenset[str]:
    if "*" in settings.ready_requires:
        return frozenset(service.name for service in settings.services)
    return frozenset(settings.ready_requires)


def make_request_id(rng: random.Random) -> bytes:
    """128 random bits in hexadecimal, as many as a W3C trace id has."""
    return b"%032x" % rng.getrandbits(128)


def make_service(service: ServiceSettings, settings: Settings, rng: random.Random) -> Service:
    """
    Args:
        settings: as they are for this service.
    """
    make = endpoint_maker(settings, rng)
    return Service(
        service.name,
        [make(each.url, each.weight) for each in service.endpoints],
        BALANCERS[settings.balancer](rng),
        service_config(settings),
        limit=make_limit(settings, rng),
        affinity=make_affinity(service.name, settings),
    )


def make_limit(settings: Settings, rng: random.Random) -> AdaptiveLimit | None:
    """What finds out a limit by latency; where no time is a latency, there is nothing to find it out by."""
    is_adaptive = settings.adaptive_concurrency and not settings.long_poll
    return AdaptiveLimit(AdaptiveConfig(), rng) if is_adaptive else None


def endpoint_maker(settings: Settings, rng: random.Random) -> Callable[[str, int], Endpoint]:
    breaker = breaker_config(settings)
    return lambda url, weight: Endpoint(url, Breaker(breaker, rng), weight, time.monotonic())


def make_discovery(settings: Settings, gateway: Gateway) -> Discovery | None:
    if not settings.discovery:
        return None
    makers = {
        gateway.services[each.name.encode("ascii")]: endpoint_maker(settings.of(each), gateway.rng)
        for each in settings.services
    }
    config = DiscoveryConfig(ttl=settings.dns_ttl, family=Family(settings.dns_family))
    return Discovery(makers, gateway.client, config, gateway.rng, gateway.now)


def make_affinity(name: str, settings: Settings) -> Affinity | None:
    key = settings.hash_key if settings.balancer == "consistent_hash" else None
    sticky = None
    if settings.sticky != "off":
        secret = (settings.sticky_secret or secrets.token_hex()).encode()
        sticky = Sticky(f"{COOKIE_PREFIX}{name}".encode("ascii"), secret, refuses=settings.sticky == "refuse")
    return Affinity(key, sticky) if key or sticky else None


def breaker_config(settings: Settings) -> BreakerConfig:
    return BreakerConfig(
        failures=settings.breaker_failures,
        window=settings.breaker_window,
        open_for=settings.breaker_open,
        longest=settings.breaker_max_open,
        probes=settings.breaker_probes,
        failure_share=settings.breaker_failure_percent / 100,
        slow_after=settings.breaker_slow or math.inf,
        slow_share=settings.breaker_slow_percent / 100,
        minimum=settings.breaker_min_requests,
    )


def service_config(settings: Settings) -> ServiceConfig:
    return ServiceConfig(
        failure_statuses=settings.breaker_statuses,
        max_ejected=settings.max_ejected_percent / 100,
        panic_below=settings.panic_percent / 100,
        slow_start=settings.slow_start,
        max_in_flight=settings.max_in_flight or math.inf,
        max_waiting=settings.queue_size,
        queue_timeout=settings.queue_timeout,
        retry=retry_config(settings),
        hedge=settings.hedge,
        health=health_config(settings),
        connect_timeout=settings.upstream_connect_timeout,
        head_timeout=settings.http_proxy_timeout,
        body_idle=None
        if settings.upstream_body_idle_timeout is None
        else settings.upstream_body_idle_timeout or math.inf,
        request_timeout=settings.request_timeout or math.inf,
        min_upload_rate=settings.min_upload_rate,
        min_response_rate=settings.min_response_rate,
        is_long_poll=settings.long_poll,
        event_streams=event_stream_config(settings),
        passes_alt_svc=settings.alt_svc == "pass",
    )


def health_config(settings: Settings) -> HealthConfig:
    return HealthConfig(
        kind=HealthKind(settings.health_check),
        path=settings.health_path,
        statuses=settings.health_statuses,
        interval=settings.health_interval,
        interval_down=settings.health_down_interval,
        timeout=settings.health_timeout,
        rise=settings.health_rise,
        fall=settings.health_fall,
    )


def retry_config(settings: Settings) -> RetryConfig:
    on = settings.retry_on
    return RetryConfig(
        repeatable=settings.repeatable,
        on=tuple(int(each) if each.isdecimal() else each for each in on if each != "off"),
        attempts=settings.retry_attempts,
        try_timeout=settings.retry_try_timeout or math.inf,
        backoff=settings.retry_backoff,
        budget_share=settings.retry_budget_percent / 100,
        budget_floor=settings.retry_budget_floor,
    )


def make_application(gateway: Gateway) -> Application:
    """The routes that are not proxied: ordinary Tornado."""
    routes = [(route.path, route.handler) for route in ROUTES if "<" not in route.path]
    return Application(
        list(routes),
        gateway=gateway,
        default_handler_class=NotFoundHandler,
        log_function=log_request,
        serve_traceback=False,
        cross_origin_protection=False,
    )


def make_access_log(settings: Settings) -> AccessLog | None:
    if not settings.access_log or settings.log_level not in LEVELS_WITH_ACCESS:
        return None
    unbuffered = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115  # it stays open
    return AccessLog(unbuffered, text_line if log_config(settings).is_text() else json_line)


def log_config(settings: Settings) -> LogConfig:
    return LogConfig(settings.log_level, settings.log_format, settings.access_log)


def server_config(settings: Settings) -> ServerConfig:
    return ServerConfig(
        header_timeout=settings.header_timeout,
        keepalive_timeout=settings.keepalive_timeout,
        client_idle_timeout=settings.client_idle_timeout,
        max_body_bytes=settings.max_body_bytes,
        max_connections=settings.max_connections or connections_by_descriptors(len(names_of(settings))),
        min_upload_rate=settings.min_upload_rate,
        half_close_aborts=settings.half_close == "abort",
    )


def client_config(settings: Settings) -> ClientConfig:
    return ClientConfig(
        timeout=settings.http_proxy_timeout,
        connect=ConnectConfig(
            timeout=settings.upstream_connect_timeout,
            tls_verify=settings.upstream_tls_verify,
            tls_ca_file=settings.upstream_tls_ca_file,
            tls_closure=settings.upstream_tls_closure,
            names=resolver_config(settings),
        ),
        pool=PoolConfig(max_idle=settings.upstream_max_idle, idle_timeout=settings.upstream_idle_timeout),
    )


def resolver_config(settings: Settings) -> ResolverConfig:
    return ResolverConfig(
        ttl=settings.dns_ttl,
        family=Family(settings.dns_family),
        resolv_conf=settings.dns_resolv_conf,
        hosts=settings.dns_hosts,
    )


def stream_limits(settings: Settings) -> StreamLimits:
    return StreamLimits(settings.max_streams, settings.max_streams_per_service, settings.max_streams_per_client)


def event_stream_config(settings: Settings) -> EventStreamConfig:
    return EventStreamConfig(
        heartbeat=settings.sse_heartbeat or math.inf,
        idle_timeout=settings.sse_idle_timeout or math.inf,
        max_age=settings.sse_max_age or math.inf,
        max_bytes=settings.sse_max_bytes or math.inf,
        error_event=settings.sse_error_event,
        unavailable=settings.sse_unavailable or "",
        max_buffered=settings.stream_buffer_bytes,
        cuts_slow=settings.slow_consumer == "disconnect",
        peek=settings.sse_peek,
        reads_last_event_id=settings.sse_last_event_id_query,
    )


def websocket_configs(settings: Settings) -> dict[str, WebSocketConfig]:
    ping_token = secrets.token_hex(8).encode("ascii")
    return {each.name: websocket_config(settings.of(each), ping_token) for each in settings.services}


def websocket_config(settings: Settings, ping_token: bytes) -> WebSocketConfig:
    relay = RelayConfig(
        ping_interval=settings.ws_ping_interval or math.inf,
        pong_timeout=settings.ws_pong_timeout,
        idle_timeout=settings.ws_idle_timeout or math.inf,
        stall_timeout=settings.client_idle_timeout,
        max_message=settings.ws_max_message_bytes,
        max_buffered=settings.ws_max_buffered_bytes,
        cuts_slow=settings.slow_consumer == "disconnect",
        messages_per_second=settings.ws_rate_limit_messages,
        bytes_per_second=settings.ws_rate_limit_bytes,
        cuts_fast=settings.ws_rate_limit_policy == "close",
        drain_code=int(settings.ws_drain_code),
        ping_token=ping_token,
    )
    return WebSocketConfig(
        allowed_origins=settings.ws_allowed_origins,
        rewrites_origin=settings.ws_origin == "rewrite",
        relay=relay,
    )


def names_of(settings: Settings) -> set[str]:
    """The names that are looked up."""
    origins = (parse_base_url(endpoint.url)[0] for service in settings.services for endpoint in service.endpoints)
    return {origin.host for origin in origins if is_resolvable(origin)}


def connections_by_descriptors(names: int) -> int:
    """How many clients can each have an upstream connection with the descriptors this process may open.

    Args:
        names: that may be looked up at once, each with a socket for UDP and one for TCP.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (limit - RESERVED_DESCRIPTORS - 2 * names) // 2)
