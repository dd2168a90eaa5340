"""The list of all environment variables.

A variable names the field of `Settings` that the variable fills, and takes the default of that field. load.py reads the
list, help.py shows the list, hints.py finds misspelled names, and services in UPSTREAMS may have values of their own.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tornado_gateway.adapters.logs import LEVELS
from tornado_gateway.adapters.signing_keys import ALGORITHMS
from tornado_gateway.config.auth_parsers import (
    api_keys,
    claim_fields,
    key_url,
    password,
    public_keys,
    required_claims,
    secrets,
    token_sources,
    users,
)
from tornado_gateway.config.listeners import listeners_text, read_listeners
from tornado_gateway.config.parsers import (
    MILLION,
    Syntax,
    allowed_fields,
    certificates,
    choice,
    content_codings,
    field_names,
    files,
    flag,
    hash_key,
    hosts,
    hosts_of_routes,
    key,
    key_fields,
    limit_key,
    long_key,
    member_of,
    milliseconds,
    names,
    networks,
    one_of,
    origins,
    origins_of_others,
    parameters,
    path,
    percent,
    quotas,
    read_file,
    readable_file,
    redis_url,
    repeatable,
    retry_on,
    server_name,
    several_of,
    size,
    socket_path,
    statuses,
    store_url,
    text,
    token,
    whole,
    word_set,
    workers,
)
from tornado_gateway.config.problems import MASK
from tornado_gateway.config.routes import GivenRoute, read_routes
from tornado_gateway.config.services import GivenService, read_services
from tornado_gateway.config.settings import ServiceSpec, Settings
from tornado_gateway.config.source_parsers import access_token, agent_url, api_url
from tornado_gateway.config.trace_parsers import collector_headers, collector_url, trace_share
from tornado_gateway.policy.access import RULES
from tornado_gateway.policy.http.caching.config import Scope
from tornado_gateway.policy.http.cors import CorsMode
from tornado_gateway.policy.http.forwarding import KEEP, PREFIX, REPLACE
from tornado_gateway.policy.http.frames import GOING_AWAY, SERVICE_RESTART
from tornado_gateway.policy.http.handshake import SAME_ORIGIN
from tornado_gateway.policy.http.mount import Rewriting
from tornado_gateway.policy.http.target import BROWSER, FORWARD, STRICT, TargetRule
from tornado_gateway.policy.http.unavailable import RETRY, STATUS
from tornado_gateway.policy.limits.fallback import CLOSED, LOCAL, OPEN
from tornado_gateway.policy.limits.quota import MOST
from tornado_gateway.policy.limits.rules import LIMIT_ALGORITHMS
from tornado_gateway.policy.overload import Priority
from tornado_gateway.policy.revocations import MEANINGS
from tornado_gateway.policy.routing import RouteSpec
from tornado_gateway.policy.upstream.affinity import Sessions
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.health import HealthKind
from tornado_gateway.policy.upstream.hosts import Family

_DEFAULTS = Settings()
_TARGETS = {name: TargetRule(name) for name in (BROWSER, STRICT, FORWARD)}
OF_LIMITS = "service.limits."  # begins the paths of rate limits
_OF_A_SERVICE = "service."  # begins the paths that ServiceSpec has, too
# Beginnings of the paths for which a route may have values of its own.
_OF_A_ROUTE = ("service.access.", "service.cache.", "service.cors.", "service.mount.", OF_LIMITS)
# But for these: purges and invalidations know a target by one name, whatever the route.
_NOT_OF_A_ROUTE = ("service.cache.ignored_parameters", "service.cache.sorts_query")


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable.

    Attributes:
        path: path of the field of Settings that the variable fills: "service.breaker.failures".
        syntax: how the value is written.
        help: a line with unit, range and the meaning of 0.
        group: heading above the variable.
        per_service: whether a service in UPSTREAMS may have a value of its own. Marked with a star.
        also: paths of other fields that take the same value.
        aliases: other names, which count if `name` is not set.
        secret: whether the value must not be shown.
        in_production: the default in production; None if the same as elsewhere.
        needs_restart: whether a reload leaves the value as it is, and says so. Marked with an exclamation mark.
    """

    name: str
    path: str
    syntax: Syntax[Any]
    help: str
    group: str
    per_service: bool = False
    also: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    secret: bool = False
    in_production: Any = None
    needs_restart: bool = False

    @property
    def key(self) -> str:
        """The name within a service: "breakerOpenMs" for BREAKER_OPEN_MS; "" if a service may have no own value."""
        first, *others = self.name.lower().split("_")
        return first + "".join(map(str.capitalize, others)) if self.per_service else ""

    @property
    def fills(self) -> tuple[str, ...]:
        """Paths of all fields of Settings that the variable fills."""
        return (self.path, *self.also)

    @property
    def fills_spec(self) -> tuple[str, ...]:
        """Paths of the fields of a ServiceSpec that the variable fills."""
        return tuple(each for each in self.fills if each.startswith(_OF_A_SERVICE))

    @property
    def default(self) -> str:
        """Text of the default; "" if the variable is unset by default, or if the default depends on GATEWAY_ENV."""
        return "" if self.in_production else self.text(_DEFAULTS)

    @property
    def line(self) -> str:
        aliases = "".join(f"; also read from {alias}" for alias in self.aliases)
        return f"{self.help}{aliases}{' *' if self.key else ''}{' !' if self.needs_restart else ''}"

    def find(self, env: Mapping[str, str]) -> tuple[str, str]:
        """The name under which the variable is set, and the text; the text is "" if unset."""
        return next(((name, env[name]) for name in (self.name, *self.aliases) if env.get(name)), (self.name, ""))

    def value(self, settings: Settings) -> Any:
        """The value in force; None if the variable is unset."""
        return attrgetter(self.path)(settings)

    def text(self, settings: Settings) -> str:
        """Text of the value in force, with secrets masked; "" if the variable is unset."""
        value = self.value(settings)
        if self.secret:
            return MASK if value else ""
        return "" if value is None else self.syntax.text(value)


def _read(text: str | bytes) -> tuple[GivenService, ...]:
    return read_services(text, {key: variable.syntax for key, variable in OF_SERVICES.items()})


def _read_file(path: str) -> tuple[GivenService, ...]:
    return _read(read_file(path))


def _read_routes(text: str) -> tuple[GivenRoute, ...]:
    return read_routes(text, {key: variable.syntax for key, variable in OF_ROUTES.items()})


def _routes_text(routes: Iterable[RouteSpec]) -> str:
    return json.dumps([_shown_route(each) for each in routes])


def _shown_route(route: RouteSpec) -> dict[str, object]:
    said: dict[str, object] = {"host": route.host} if route.host else {}
    said |= {"path": route.path, "service": route.service}
    if route.inner is not None:
        said |= {"rewrite": f"{route.inner}/*"} if route.inner else {"strip": True}
    return said | dict(route.given)


def _services_text(services: Iterable[ServiceSpec]) -> str:
    shown = {each.name: {"endpoints": _endpoints(each), **own_values(each)} for each in services}
    return json.dumps(shown) if shown else ""


def _endpoints(service: ServiceSpec) -> list[object]:
    return [{"url": each.url, "weight": each.weight} if each.weight != 1 else each.url for each in service.endpoints]


def own_values(service: ServiceSpec) -> dict[str, object]:
    """The JSON of a service's own values; the query of a path is masked, because a query may hold a key."""
    return {
        name: path.text(str(value)) if OF_SERVICES[name].syntax is path else value
        for name, value in service.given.items()
    }


# fmt: off
VARIABLES: tuple[Variable, ...] = (
    Variable("HOST", "listen.hosts", hosts,
             "addresses, host names or * to listen on; 0.0.0.0: all of IPv4, ::: all of IPv6, *: both", "Server",
             needs_restart=True),
    Variable("PORT", "listen.port", whole(0, 65535),
             "TCP port to listen on, 0 to 65535; 0: any free one", "Server", needs_restart=True),
    Variable("LISTEN", "listen.listeners", Syntax(read_listeners, listeners_text),
             "JSON list of listeners instead of HOST and PORT: address or unix, mode, tls, proxyProtocol", "Server",
             needs_restart=True),
    Variable("GATEWAY_ENV", "environment", one_of("development", "test", "production"),
             "development, test or production", "Server", aliases=("NODE_ENV",), needs_restart=True),
    Variable("EVENT_LOOP", "event_loop", one_of("auto", "uvloop", "asyncio"),
             "uvloop, asyncio or auto: uvloop where it is installed", "Server", needs_restart=True),
    Variable("WEB_CONCURRENCY", "workers", workers,
             "processes that share the work, 1 to 64, or auto: as many as the process may use cores", "Server",
             needs_restart=True),
    Variable("MAX_CONNECTIONS", "server.max_connections", whole(0, MILLION, zero=math.inf),
             "client connections at once, 0 to 1000000; 0: as many as the file descriptors allow", "Server"),
    Variable("MAX_BODY_BYTES", "server.max_body_bytes", size(0),
             "bytes of a request's body, 0 to 1125899906842624; unset: no limit, 0: no bodies", "Server"),
    Variable("HALF_CLOSE", "server.half_close_aborts", choice({"abort": True, "ignore": False}),
             "abort or ignore: the effect of a client's FIN on a request without a complete response", "Server"),
    Variable("HEADER_TIMEOUT_MS", "server.header_timeout", milliseconds(1),
             "ms for a request's head to arrive whole, 1 to 86400000", "Server"),
    Variable("KEEPALIVE_TIMEOUT_MS", "server.keepalive_timeout", milliseconds(1),
             "ms a client's connection may idle between requests, 1 to 86400000", "Server"),
    Variable("CLIENT_IDLE_TIMEOUT_MS", "server.client_idle_timeout", milliseconds(1),
             "ms to wait for a client to send or accept more of a body, 1 to 86400000",
             "Server", also=("service.websocket.relay.stall_timeout",)),
    Variable("SHUTDOWN_TIMEOUT_MS", "shutdown.timeout", milliseconds(0),
             "ms to finish what is in flight, 0 to 86400000; 0: cut all off", "Server"),
    Variable("SHUTDOWN_DELAY_MS", "shutdown.delay", milliseconds(0),
             "ms that /readyz is 503 while connections are still accepted, 0 to 86400000; 0: none", "Server"),
    Variable("TAKEOVER_SOCKET", "listen.takeover", socket_path,
             "path of a unix socket by which another process of the user takes over the listeners; unset: none",
             "Server", needs_restart=True),
    Variable("RELOAD_WATCH", "watches_files", flag,
             "true or false: whether a change of .env or of UPSTREAMS_FILE reloads the configuration", "Server"),
    Variable("TLS_CERT", "listen.tls.certificates", files,
             "PEM files of certificates with their chains, separated by commas, the default first; unset: no TLS",
             "TLS"),
    Variable("TLS_KEY", "listen.tls.keys", files,
             "paths of PEM files with the keys of TLS_CERT, in the same order; unset: beside the certificates", "TLS"),
    Variable("TLS_CLIENT_CA", "listen.tls.client_ca", certificates,
             "path of a PEM file of authorities: clients need a certificate of one; unset: no client certificates",
             "TLS"),
    Variable("TLS_CLIENT_AUTH", "listen.tls.needs_client", choice({"required": True, "optional": False}),
             "required or optional: whether a client without a certificate is refused in the handshake", "TLS"),
    Variable("LOG_LEVEL", "logs.level", one_of(*LEVELS),
             "fatal, error, warn, info, debug, trace or silent", "Logs"),
    Variable("LOG_FORMAT", "logs.format", one_of("auto", "json", "text"),
             "json, text or auto: text on a terminal, else json", "Logs"),
    Variable("ACCESS_LOG", "logs.access", flag,
             "true or false: whether each request is logged", "Logs"),
    Variable("STREAM_OPEN_LOG", "logs.openings", flag,
             "true or false: whether a stream is logged when the stream begins, not only at the end", "Logs"),
    Variable("SLOW_REQUEST_MS", "logs.slow", milliseconds(0, zero=math.inf),
             "ms from which on a request is logged as a warning, without ACCESS_LOG too, 0 to 86400000; 0: none",
             "Logs"),
    Variable("LOG_QUERY", "logs.query", flag,
             "true or false: whether the access log shows queries, with *** for the values of secrets", "Logs"),
    Variable("LOG_REDACT", "logs.redact", parameters,
             "parameters and fields that the access log hides, separated by commas; *: all parameters", "Logs"),
    Variable("METRICS_ENDPOINT_HISTOGRAMS", "endpoint_histograms", flag,
             "true or false: whether /metrics has a histogram of each endpoint's latency, not only sum and count",
             "Logs"),
    Variable("TRACE_SAMPLE", "tracing.share", trace_share,
             "share of the requests for services that start a recorded trace, 0 to 1; unset: no traces", "Traces",
             needs_restart=True),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "tracing.endpoint", collector_url,
             "base URL of the OTLP/HTTP collector, which gets spans at /v1/traces", "Traces", needs_restart=True),
    Variable("OTEL_EXPORTER_OTLP_HEADERS", "tracing.headers", collector_headers,
             "fields of requests to the collector: name=value,name=value", "Traces", secret=True, needs_restart=True),
    Variable("OTEL_SERVICE_NAME", "tracing.service", text,
             "name of the gateway in traces", "Traces", needs_restart=True),
    Variable("UPSTREAMS", "services", Syntax(_read, _services_text),
             'JSON map of service to array of base URLs: {"billing": ["http://10.0.0.7:8080"]}', "Upstreams"),
    Variable("UPSTREAMS_FILE", "upstreams_file", Syntax(_read_file),
             "path of a JSON file with the map of UPSTREAMS, which must then be unset", "Upstreams"),
    Variable("UPSTREAM_MAX_IDLE", "client.pool.max_idle", whole(0, MILLION),
             "idle connections kept per endpoint, 0 to 1000000; 0: none", "Upstreams"),
    Variable("UPSTREAM_IDLE_TIMEOUT_MS", "client.pool.idle_timeout", milliseconds(1),
             "ms an idle connection is kept, 1 to 86400000", "Upstreams"),
    Variable("UPSTREAM_TLS_VERIFY", "client.connect.tls_verify", flag,
             "true or false: whether https upstreams must show a valid certificate", "Upstreams",
             per_service=True, also=("service.connection.tls.verify",)),
    Variable("UPSTREAM_TLS_CA_FILE", "client.connect.tls_ca_file", certificates,
             "path of a PEM file of authorities to trust; unset: the system's", "Upstreams",
             per_service=True, also=("service.connection.tls.ca_file",)),
    Variable("UPSTREAM_TLS_SERVER_NAME", "service.connection.tls.server_name", server_name,
             "name for SNI and the certificate of https endpoints; unset: the endpoint's host", "Upstreams",
             per_service=True),
    Variable("UPSTREAM_TLS_CERT", "service.connection.tls.certificate", readable_file,
             "path of a PEM file with the certificate shown to https endpoints, and its chain; unset: none",
             "Upstreams", per_service=True),
    Variable("UPSTREAM_TLS_KEY", "service.connection.tls.key", readable_file,
             "path of a PEM file with the key of UPSTREAM_TLS_CERT; unset: beside the certificate", "Upstreams",
             per_service=True),
    Variable("UPSTREAM_TLS_CLOSURE", "client.connect.tls_closure", flag,
             "true or false: whether a body that ends with its TLS connection needs TLS's closure alert", "Upstreams"),
    Variable("DNS_TTL_MS", "discovery.ttl", milliseconds(0),
             "ms a name's addresses are kept, 0 to 86400000; 0: not at all; with DISCOVERY 1 s or longer",
             "Upstreams", also=("client.connect.names.ttl",)),
    Variable("DNS_FAMILY", "discovery.family", member_of(Family),
             "auto, ipv4, ipv6 or all: the addresses of a name that are used; auto: IPv4 if there are any",
             "Upstreams", also=("client.connect.names.family",)),
    Variable("DNS_RESOLV_CONF", "client.connect.names.resolv_conf", readable_file,
             "path of a file as resolv.conf(5), whose name servers may have a port; unset: the system's", "Upstreams"),
    Variable("DNS_HOSTS", "client.connect.names.hosts", readable_file,
             "path of a file as hosts(5), in which names are looked up first; unset: /etc/hosts", "Upstreams"),
    Variable("DISCOVERY", "discovery.is_on", flag,
             "true or false: whether each address of a name is an endpoint of its own", "Upstreams",
             needs_restart=True),
    Variable("CONSUL_URL", "sources.consul.url", agent_url,
             "base URL of the agent that consul+http:// in UPSTREAMS asks", "Upstreams"),
    Variable("CONSUL_TOKEN", "sources.consul.token", access_token,
             "token for Consul's access-control list; unset: none", "Upstreams", secret=True),
    Variable("KUBERNETES_API_URL", "sources.kubernetes.url", api_url,
             "base URL of the API server that k8s+http:// in UPSTREAMS asks, https or on loopback", "Upstreams"),
    Variable("KUBERNETES_ACCOUNT", "sources.kubernetes.account", text,
             "path of the folder with the token, ca.crt and namespace of the pod's account", "Upstreams"),
    Variable("STICKY_SECRET", "service.affinity.secret", key,
             "key of the hash in sticky cookies; unset: random per process", "Upstreams", secret=True),
    Variable("SHARED_ENDPOINTS_SECRET", "sharing.endpoints_secret", long_key,
             "secret of 32 bytes or more by which gateways share drains, ejections, reloads; unset: none",
             "Upstreams", secret=True, needs_restart=True),
    Variable("READY_REQUIRES", "ready_requires", names,
             "services, or *: /readyz is 503 while a service of the list has no usable endpoint", "Upstreams"),
    Variable("HTTP_PROXY_TIMEOUT_MS", "service.head_timeout", milliseconds(1),
             "ms to a response's head, of all tries together, 1 to 86400000",
             "Upstreams", per_service=True, also=("client.timeout",)),
    Variable("UPSTREAM_BODY_IDLE_TIMEOUT_MS", "service.body_idle", milliseconds(0, zero=math.inf),
             "ms between two pieces of a body, 0 to 86400000; 0: no limit; unset: as HTTP_PROXY_TIMEOUT_MS",
             "Upstreams", per_service=True),
    Variable("UPSTREAM_CONNECT_TIMEOUT_MS", "service.connection.timeout", milliseconds(1),
             "ms for name, connection and TLS together, 1 to 86400000",
             "Upstreams", per_service=True, also=("client.connect.timeout",)),
    Variable("REQUEST_TIMEOUT_MS", "service.request_timeout", milliseconds(0, zero=math.inf),
             "ms from a request's head to its response's end, not of streams, 0 to 86400000; 0: no limit",
             "Upstreams", per_service=True),
    Variable("MIN_UPLOAD_RATE", "service.min_upload_rate", whole(0, MILLION),
             "least bytes/s of a request's body, averaged over 60 s, 0 to 1000000; 0: no limit",
             "Upstreams", per_service=True, also=("server.min_upload_rate",)),
    Variable("MIN_RESPONSE_RATE", "service.min_response_rate", whole(0, MILLION),
             "least bytes/s of a response with a Content-Length, averaged over 60 s, 0 to 1000000; 0: no limit",
             "Upstreams", per_service=True),
    Variable("LONG_POLL", "service.is_long_poll", flag,
             "true or false: whether a service answers late on purpose: late answers cost an endpoint no traffic",
             "Upstreams", per_service=True),
    Variable("BALANCER", "service.balancer", one_of(*BALANCERS),
             f"{', '.join(BALANCERS)}: how an endpoint is chosen", "Choosing", per_service=True),
    Variable("HASH_KEY", "service.affinity.key", hash_key,
             "client, path, header:<name> or cookie:<name>: the part of a request that consistent_hash uses",
             "Choosing", per_service=True),
    Variable("STICKY", "service.affinity.sessions", member_of(Sessions),
             "off, redistribute or refuse: what happens to a session whose endpoint is out; off: no sessions",
             "Choosing", per_service=True),
    Variable("MAX_IN_FLIGHT", "service.max_in_flight", whole(0, MILLION, zero=math.inf),
             "requests in flight at one endpoint, without streams, 0 to 1000000; 0: no limit",
             "Choosing", per_service=True),
    Variable("QUEUE_SIZE", "service.max_waiting", whole(0, MILLION),
             "requests that may wait until a service has room, 0 to 1000000; 0: none", "Choosing", per_service=True),
    Variable("QUEUE_TIMEOUT_MS", "service.queue_timeout", milliseconds(1),
             "ms a request waits for room, 1 to 86400000", "Choosing", per_service=True),
    Variable("ADAPTIVE_CONCURRENCY", "service.adapts", flag,
             "true or false: whether the limit of requests in flight follows the latency",
             "Choosing", per_service=True),
    Variable("SLOW_START_MS", "service.slow_start", milliseconds(0),
             "ms in which a new or readmitted endpoint reaches the full share, 0 to 86400000; 0: at once",
             "Choosing", per_service=True),
    Variable("REBALANCE_STREAMS", "service.rebalance_streams", whole(0, MILLION),
             "streams per second that may be ended on endpoints above their share, 0 to 1000000; 0: none",
             "Choosing", per_service=True),
    Variable("BREAKER_FAILURES", "service.breaker.failures", whole(0, MILLION),
             "failures in BREAKER_WINDOW_MS that open an endpoint's breaker, 0 to 1000000; 0: off",
             "Breaker", per_service=True),
    Variable("BREAKER_WINDOW_MS", "service.breaker.window", milliseconds(1),
             "ms in which failures are counted, 1 to 86400000", "Breaker", per_service=True),
    Variable("BREAKER_OPEN_MS", "service.breaker.open_for", milliseconds(1),
             "ms of a breaker's first opening; each further opening takes twice as long, 1 to 86400000",
             "Breaker", per_service=True),
    Variable("BREAKER_MAX_OPEN_MS", "service.breaker.longest", milliseconds(1),
             "ms of a breaker's longest opening, 1 to 86400000", "Breaker", per_service=True),
    Variable("BREAKER_PROBES", "service.breaker.probes", whole(1, MILLION),
             "concurrent probes of an endpoint whose breaker is half open, 1 to 1000000", "Breaker", per_service=True),
    Variable("BREAKER_STATUSES", "service.failure_statuses", statuses,
             "statuses that count as an endpoint's failure, separated by commas", "Breaker", per_service=True),
    Variable("BREAKER_FAILURE_PERCENT", "service.breaker.failure_share", percent(0, 100),
             "percent of failed requests in the window that opens a breaker, 0 to 100; 0: off",
             "Breaker", per_service=True),
    Variable("BREAKER_SLOW_MS", "service.breaker.slow_after", milliseconds(0, zero=math.inf),
             "ms to a response's head; a request that takes longer is slow, 0 to 86400000; 0: off",
             "Breaker", per_service=True),
    Variable("BREAKER_SLOW_PERCENT", "service.breaker.slow_share", percent(1, 100),
             "percent of slow requests in the window that opens a breaker, 1 to 100", "Breaker", per_service=True),
    Variable("BREAKER_MIN_REQUESTS", "service.breaker.minimum", whole(1, MILLION),
             "least requests in the window for the percent rules to apply, 1 to 1000000", "Breaker", per_service=True),
    Variable("MAX_EJECTED_PERCENT", "service.max_ejected", percent(0, 100),
             "percent of a service's endpoints that breakers may eject, 0 to 100", "Breaker", per_service=True),
    Variable("PANIC_PERCENT", "service.panic_below", percent(0, 100),
             "percent of a service's endpoints; while fewer are usable, all are used, 0 to 100; 0: never",
             "Breaker", per_service=True),
    Variable("HEALTH_CHECK", "service.health.kind", member_of(HealthKind),
             "off, http, tcp or websocket: how endpoints are checked", "Health checks", per_service=True),
    Variable("HEALTH_PATH", "service.health.path", path,
             "path of a check's request, below the endpoint's base path", "Health checks", per_service=True),
    Variable("HEALTH_STATUSES", "service.health.statuses", statuses,
             "statuses that mean healthy, separated by commas", "Health checks", per_service=True),
    Variable("HEALTH_INTERVAL_MS", "service.health.interval", milliseconds(1),
             "ms between two checks, 1 to 86400000", "Health checks", per_service=True),
    Variable("HEALTH_DOWN_INTERVAL_MS", "service.health.interval_down", milliseconds(1),
             "ms between two checks of an endpoint that is down, 1 to 86400000", "Health checks", per_service=True),
    Variable("HEALTH_TIMEOUT_MS", "service.health.timeout", milliseconds(1),
             "ms a check may take, 1 to 86400000", "Health checks", per_service=True),
    Variable("HEALTH_RISE", "service.health.rise", whole(1, MILLION),
             "checks in a row that must pass until an endpoint is up, 1 to 1000000", "Health checks", per_service=True),
    Variable("HEALTH_FALL", "service.health.fall", whole(1, MILLION),
             "checks in a row that must fail until an endpoint is down, 1 to 1000000",
             "Health checks", per_service=True),
    Variable("RETRY_ON", "service.retry.on", retry_on,
             "connect, reset and statuses such as 503: failures to retry on another endpoint; or off",
             "Retries", per_service=True),
    Variable("REPEATABLE", "service.retry.repeatable", repeatable,
             "methods such as POST that are safe to repeat, besides idempotent methods; all: every method",
             "Retries", per_service=True),
    Variable("RETRY_ATTEMPTS", "service.retry.attempts", whole(1, 100),
             "attempts per request, including the first, 1 to 100", "Retries", per_service=True),
    Variable("RETRY_TRY_TIMEOUT_MS", "service.retry.try_timeout", milliseconds(0, zero=math.inf),
             "ms to a response's head for each attempt but the last, 0 to 86400000; 0: no limit",
             "Retries", per_service=True),
    Variable("RETRY_BACKOFF_MS", "service.retry.backoff", milliseconds(0),
             "longest wait in ms before the first retry of a status, doubled per retry, 0 to 86400000",
             "Retries", per_service=True),
    Variable("RETRY_BUDGET_PERCENT", "service.retry.budget_share", percent(0, 1000),
             "percent of the requests of the last seconds that may be retried, 0 to 1000", "Retries", per_service=True),
    Variable("RETRY_BUDGET_FLOOR", "service.retry.budget_floor", whole(0, MILLION),
             "retries per 2 seconds that the budget always allows, 0 to 1000000", "Retries", per_service=True),
    Variable("HEDGE", "service.hedge", flag,
             "true or false: whether an idempotent request slower than the last minute's p95 is sent twice",
             "Retries", per_service=True),
    Variable("ALT_SVC", "service.mount.passes_alt_svc", choice({"drop": False, "pass": True}),
             "drop or pass: what happens to a service's Alt-Svc, which leads clients past the gateway",
             "Forwarding", per_service=True),
    Variable("COMPRESS", "service.compression.codings", content_codings,
             "off, or gzip, br, zstd, the best first: codings in which clients get answers of compressible types",
             "Forwarding", per_service=True),
    Variable("COMPRESS_MIN_BYTES", "service.compression.at_least", size(0),
             "bytes of the smallest body that is compressed, 0 to 1125899906842624", "Forwarding", per_service=True),
    Variable("TRUSTED_PROXIES", "forwarding.trusted", networks,
             "addresses and networks whose forwarding headers are believed, separated by commas", "Forwarding"),
    Variable("REQUEST_ID", "forwarding.others_ids", one_of(KEEP, PREFIX, REPLACE),
             "keep, prefix or replace: what becomes of an x-request-id from elsewhere than TRUSTED_PROXIES",
             "Forwarding"),
    Variable("ROUTES", "routes", Syntax(_read_routes, _routes_text),
             'JSON array of routes by host and path: [{"path": "/notebooks/*", "service": "jupyter"}]', "Routes"),
    Variable("GATEWAY_HOSTS", "gateway_hosts", hosts_of_routes,
             "hosts that keep the gateway's own paths beside routes of their own, separated by commas", "Routes"),
    Variable("PRESERVE_HOST", "service.mount.preserve_host", flag,
             "true or false: whether services see the client's Host instead of their own",
             "Routes", per_service=True),
    Variable("REWRITE_LOCATION", "service.mount.location", member_of(Rewriting),
             "off, origin or all: which references in Location become public: none, own URLs, root-relative too",
             "Routes", per_service=True),
    Variable("REWRITE_COOKIE_PATH", "service.mount.maps_cookie_path", flag,
             "true or false: whether the Path of a service's cookies becomes a public path",
             "Routes", per_service=True),
    Variable("TARGET_BYTES", "forwarding.target", choice(_TARGETS),
             "browser, strict or forward: accept what browsers send, only bytes of RFC 3986, nearly any byte",
             "Forwarding"),
    Variable("VIA_NAME", "forwarding.pseudonym", token,
             "this gateway's pseudonym in Via, an RFC 9110 token; unset: random per process", "Forwarding"),
    Variable("AUTH_REQUIRED", "auth.is_required", flag,
             "true or false: whether requests need a credential; unset: true in production, else false",
             "Authentication", in_production=True),
    Variable("AUTH", "service.access.rule", choice(RULES),
             "none, jwt, key, basic, mtls or any: what a service asks for; unset: AUTH_REQUIRED decides",
             "Authentication", per_service=True),
    Variable("SCOPES", "service.access.scopes", word_set,
             "scopes that a credential must have, separated by commas; else 403", "Authentication", per_service=True),
    Variable("JWT_SECRET", "auth.tokens.secret", text,
             "key of the tokens' HMAC signatures, 32 characters or more if AUTH_REQUIRED",
             "Authentication", secret=True),
    Variable("JWT_SECRETS", "auth.tokens.secrets", secrets,
             "more such keys, separated by commas, 32 bytes or more each: the newest first",
             "Authentication", secret=True),
    Variable("JWT_PUBLIC_KEY", "auth.tokens.public_keys", public_keys,
             "PEM text or path of a file with public keys: RSA, P-256, P-384, P-521, Ed25519 or Ed448",
             "Authentication", secret=True),
    Variable("JWKS_URL", "key_set.url", key_url,
             "URL of a JSON Web Key Set, https or on loopback; needs JWT_AUDIENCE", "Authentication"),
    Variable("OIDC_ISSUER", "key_set.issuer", key_url,
             "URL of an OpenID provider: its keys, and its name as JWT_ISSUER; needs JWT_AUDIENCE",
             "Authentication"),
    Variable("JWT_ALGORITHMS", "auth.tokens.algorithms", several_of(*ALGORITHMS),
             "algorithms that may verify tokens, separated by commas; a key allows those of its kind",
             "Authentication"),
    Variable("JWT_ISSUER", "auth.tokens.issuer", text,
             "the iss claim that tokens must have; unset: any", "Authentication"),
    Variable("JWT_AUDIENCE", "auth.tokens.audiences", names,
             "audiences, separated by commas: a token's aud claim must name one; unset: any", "Authentication"),
    Variable("JWT_LEEWAY_S", "auth.tokens.leeway", whole(0, 3600),
             "s by which the clocks of issuer and gateway may differ, 0 to 3600", "Authentication"),
    Variable("JWT_REQUIRE_EXP", "auth.tokens.needs_expiry", flag,
             "true or false: whether a token without an exp claim is refused", "Authentication"),
    Variable("JWT_REQUIRED_CLAIMS", "auth.tokens.required_claims", required_claims,
             "claims that tokens must have, separated by commas: tenant, or with a value, role=admin",
             "Authentication"),
    Variable("API_KEYS", "auth.keys", api_keys,
             "API keys as name:sha256 or name:sha256:scope,scope, separated by blanks; sent in X-API-Key",
             "Authentication", secret=True),
    Variable("BASIC_USERS", "auth.users", users,
             "users of HTTP Basic as name:argon2id or name:argon2id:scope,scope, separated by blanks",
             "Authentication", secret=True),
    Variable("AUTH_TOKEN_SOURCES", "auth.sources", token_sources,
             "where a token may stand: header[:NAME], cookie:NAME, query[:NAME], subprotocol, ticket[:NAME]",
             "Authentication"),
    Variable("AUTH_HIDE_CREDENTIALS", "auth.hides_credentials", flag,
             "true or false: whether credentials in headers and cookies are kept from services", "Authentication"),
    Variable("AUTH_CLAIM_HEADERS", "auth.claim_fields", claim_fields,
             "claims that services get in fields, separated by commas: sub:X-User-Id,tenant:X-Tenant",
             "Authentication"),
    Variable("METRICS_AUTH", "protects_figures", flag,
             "true or false: whether /metrics and /_pressure need a credential, too", "Authentication"),
    Variable("REVOCATION_ON_ERROR", "sharing.revocation_on_error", one_of(*MEANINGS),
             "local or closed: while Redis is away known revocations count, or services refuse credentials by 503",
             "Authentication"),
    Variable("CORS", "service.cors.mode", member_of(CorsMode),
             "answer, pass or off: the gateway answers for CORS_ORIGINS, or lets preflights pass without a token",
             "CORS", per_service=True),
    Variable("CORS_ORIGINS", "service.cors.origins", origins_of_others,
             "origins whose pages may use services, separated by commas, or *; unset: services answer CORS",
             "CORS", per_service=True),
    Variable("CORS_ALLOW_CREDENTIALS", "service.cors.allows_credentials", flag,
             "true or false: whether pages of CORS_ORIGINS may send cookies", "CORS", per_service=True),
    Variable("CORS_ALLOW_HEADERS", "service.cors.allowed_fields", allowed_fields,
             "fields that pages of CORS_ORIGINS may send, separated by commas, or *: whatever a page asks for",
             "CORS", per_service=True),
    Variable("CORS_EXPOSE_HEADERS", "service.cors.exposed_fields", field_names,
             "fields of responses that such pages may read besides the gateway's own, separated by commas",
             "CORS", per_service=True),
    Variable("CORS_MAX_AGE_S", "service.cors.max_age", whole(0, 86400),
             "s for which browsers keep the answer to a preflight, 0 to 86400", "CORS", per_service=True),
    Variable("ADMIN_HOST", "admin_listen.hosts", hosts,
             "addresses, host names or * to listen on for operators, with ADMIN_PORT; see HOST", "Operators",
             needs_restart=True),
    Variable("ADMIN_PORT", "admin_listen.port", whole(0, 65535),
             "TCP port for /admin, /metrics and /_pressure, 0 to 65535; 0: any free one; unset: PORT",
             "Operators", needs_restart=True),
    Variable("ADMIN_TLS", "admin_listen.tls", flag,
             "true or false: whether ADMIN_PORT speaks TLS, with the certificates of TLS_CERT", "Operators",
             needs_restart=True),
    Variable("CTL_SOCKET", "admin_listen.socket", socket_path,
             "path of a unix socket by which the user of the gateway steers with `ctl`; unset: none", "Operators",
             needs_restart=True),
    Variable("ADMIN_SCOPE", "admin.scopes", word_set,
             "scopes that changes by /admin need, separated by commas; unset: none, no changes in production",
             "Operators"),
    Variable("ADMIN_READ_ONLY", "admin.is_read_only", flag,
             "true: no page below /admin changes something, whoever asks", "Operators"),
    Variable("ADMIN_PASSWORD_HASH", "admin.password", password,
             "argon2id hash of the operators' password for /admin/login, with name: before it or without",
             "Operators", secret=True),
    Variable("ADMIN_SESSION_IDLE_MS", "admin.sessions.idle", milliseconds(1),
             "ms without a request after which an operator's session ends, 1 to 86400000", "Operators"),
    Variable("ADMIN_SESSION_MAX_MS", "admin.sessions.longest", milliseconds(1),
             "ms after the log-in at which an operator's session ends, 1 to 86400000", "Operators"),
    Variable("RATE_LIMIT_MAX", "service.limits.max", whole(0, MOST),
             "requests per window and client, 0 to 9007199254740992; 0: no limit", "Rate limit", per_service=True),
    Variable("RATE_LIMIT_WINDOW_MS", "service.limits.window", milliseconds(1),
             "ms of the window of RATE_LIMIT_MAX, 1 to 86400000", "Rate limit", per_service=True),
    Variable("RATE_LIMITS", "service.limits.quotas", quotas,
             "limits that hold at once, such as 100/s,5000/h;burst=20;key=principal; off: none",
             "Rate limit", per_service=True),
    Variable("MAX_IN_FLIGHT_PER_CLIENT", "service.limits.max_in_flight", whole(0, MILLION),
             "requests in flight at once, without streams, by RATE_LIMIT_KEY, 0 to 1000000; 0: no limit",
             "Rate limit", per_service=True),
    Variable("RATE_LIMIT_KEY", "service.limits.key", limit_key,
             "ip (of IPv6: /64 network), principal, header:<name> or route: what requests are counted by",
             "Rate limit", per_service=True),
    Variable("RATE_LIMIT_ALGORITHM", "service.limits.algorithm", one_of(*LIMIT_ALGORITHMS),
             "gcra (a rate, with bursts) or sliding (never more than the limit in any window)",
             "Rate limit", per_service=True),
    Variable("RATE_LIMIT_MODE", "service.limits.enforces", choice({"enforce": True, "observe": False}),
             "enforce or observe: a request above a limit gets a 429, or is only counted and logged",
             "Rate limit", per_service=True),
    Variable("RATE_LIMIT_COST_HEADER", "service.limits.cost_field", token,
             "field of a response, or trailer, with the number of requests that the request counts for; unset: 1",
             "Rate limit", per_service=True),
    Variable("RATE_LIMIT_STORE", "limit_store.url", store_url,
             "memory://, or URL of a Redis, Sentinels or a cluster for the counters; unset: REDIS_URL, memory://",
             "Rate limit", secret=True, needs_restart=True),
    Variable("RATE_LIMIT_ON_ERROR", "limit_store.on_error", one_of(LOCAL, OPEN, CLOSED),
             "local, open or closed: while Redis is away each process counts, nothing is limited, or all get 503",
             "Rate limit"),
    Variable("REDIS_URL", "sharing.redis_url", redis_url,
             "URL of a Redis for tickets, revocations, and unset RATE_LIMIT_STORE and CACHE_STORE; unset: none",
             "Rate limit", secret=True, needs_restart=True),
    Variable("CACHE_ENABLED", "service.cache.is_on", flag,
             "true or false: whether responses are cached", "Cache", per_service=True),
    Variable("CACHE_DEFAULT_TTL_MS", "service.cache.default_ttl", milliseconds(0),
             "ms for responses that do not say, 0 to 86400000; 0: do not keep them", "Cache", per_service=True),
    Variable("CACHE_HEURISTIC_PERCENT", "service.cache.heuristic_share", percent(0, 100),
             "percent of the time since Last-Modified, for responses that do not say, 0 to 100; 0: off",
             "Cache", per_service=True),
    Variable("CACHE_MAX_BODY_BYTES", "service.cache.max_body", size(0),
             "bytes of the largest body kept, 0 to 1125899906842624; 0: empty ones only", "Cache", per_service=True),
    Variable("CACHE_MAX_BYTES", "cache_store.max_bytes", size(1),
             "bytes of memory of all that is kept, 1 to 1125899906842624; a fifth for one URL at most", "Cache",
             needs_restart=True),
    Variable("CACHE_SCOPE", "service.cache.scope", member_of(Scope),
             "public or principal: who shares a kept response: everybody, or nobody but the same principal",
             "Cache", per_service=True),
    Variable("CACHE_IGNORE_HOST", "service.cache.ignores_host", flag,
             "true or false: whether requests for different hosts share responses", "Cache", per_service=True),
    Variable("CACHE_IGNORE_QUERY", "service.cache.ignored_parameters", parameters,
             "query parameters that select no response, separated by commas; * alone: all", "Cache", per_service=True),
    Variable("CACHE_SORT_QUERY", "service.cache.sorts_query", flag,
             "true or false: whether the order of query parameters selects no response", "Cache", per_service=True),
    Variable("CACHE_KEY_HEADERS", "service.cache.key_fields", key_fields,
             "request fields whose values select a response, whatever Vary says, separated by commas",
             "Cache", per_service=True),
    Variable("CACHE_LOCK_TIMEOUT_MS", "service.cache.lock_timeout", milliseconds(0),
             "ms a request may wait for the answer to an earlier one for the same, 0 to 86400000; 0: none waits",
             "Cache", per_service=True),
    Variable("CACHE_GRACE_MS", "service.cache.grace", milliseconds(0),
             "ms a stale response may answer while it is validated, 0 to 86400000; 0: as the response says",
             "Cache", per_service=True),
    Variable("CACHE_STALE_IF_ERROR_MS", "service.cache.stale_if_error", milliseconds(0),
             "ms a stale response may answer instead of an error, 0 to 86400000; 0: as the response says",
             "Cache", per_service=True),
    Variable("CACHE_SET_COOKIE", "service.cache.stores_cookies", flag,
             "true or false: whether responses with Set-Cookie are kept, and their cookies given to everybody",
             "Cache", per_service=True),
    Variable("CACHE_SURROGATE_CONTROL", "service.cache.reads_surrogate", flag,
             "true or false: whether Surrogate-Control counts instead of Cache-Control", "Cache", per_service=True),
    Variable("CACHE_STATUS_KEY", "service.cache.shows_key", flag,
             "true or false: whether Cache-Status tells the key", "Cache", per_service=True),
    Variable("CACHE_IGNORE_CLIENT", "service.cache.ignores_client", flag,
             "true or false: whether Cache-Control and Pragma of requests are ignored", "Cache", per_service=True),
    Variable("CACHE_STORE", "cache_store.url", store_url,
             "memory://, or URL of a Redis, Sentinels or a cluster for what is kept; unset: REDIS_URL, memory://",
             "Cache", secret=True, needs_restart=True),
    Variable("CACHE_STORE_SECRET", "cache_store.secret", key,
             "secret of all gateways, for what is kept in Redis; unset: purges are shared, responses are not",
             "Cache", secret=True, needs_restart=True),
    Variable("CACHE_PASS_TAGS", "service.cache.passes_tags", flag,
             "true or false: whether clients get Cache-Tag, Surrogate-Key and xkey", "Cache", per_service=True),
    Variable("MAX_IN_FLIGHT_TOTAL", "overload.max_in_flight", whole(0, MILLION, zero=math.inf),
             "requests in flight, without streams, that mean overload, 0 to 1000000; 0: off", "Under pressure"),
    Variable("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", "overload.max_delay", milliseconds(0, zero=math.inf),
             "ms of delay that mean overload, 0 to 86400000; 0: off", "Under pressure"),
    Variable("UNDER_PRESSURE_RECOVERY_MS", "overload.recovery", milliseconds(1),
             "ms from refusing all to admitting all, once the event loop is quick, 1 to 86400000", "Under pressure"),
    Variable("UNDER_PRESSURE_MAX_HEAP_USED_BYTES", "overload.max_heap", size(0, zero=math.inf),
             "bytes in use of malloc that mean overload, 0 to 1125899906842624; 0: off", "Under pressure"),
    Variable("UNDER_PRESSURE_MAX_RSS_BYTES", "overload.max_resident", size(0, zero=math.inf),
             "bytes resident that mean overload, 0 to 1125899906842624; 0: off", "Under pressure"),
    Variable("PRIORITY", "service.mount.priority", choice({each.name.lower(): each for each in Priority}),
             "low, normal or high: under overload, requests of low priority are refused first",
             "Under pressure", per_service=True),
    Variable("MAX_STREAMS", "streams.total", whole(0, MILLION),
             "event streams and WebSockets at once, 0 to 1000000; 0: no limit", "Streams"),
    Variable("MAX_STREAMS_PER_SERVICE", "streams.per_service", whole(0, MILLION),
             "event streams and WebSockets to one service, 0 to 1000000; 0: no limit", "Streams"),
    Variable("MAX_STREAMS_PER_CLIENT", "streams.per_client", whole(0, MILLION),
             "event streams and WebSockets by one client address (of IPv6: /64 network), 0 to 1000000; 0: no limit",
             "Streams"),
    Variable("SLOW_CONSUMER", "service.event_streams.cuts_slow", choice({"pause": False, "disconnect": True}),
             "pause or disconnect: what a stream does when the client does not keep up",
             "Streams", also=("service.websocket.relay.cuts_slow",)),
    Variable("STREAM_BUFFER_BYTES", "service.event_streams.max_buffered", size(1),
             "bytes that may wait for an event stream's reader, 1 to 1125899906842624", "Streams"),
    Variable("DRAIN_SPREAD_MS", "shutdown.spread", milliseconds(0),
             "ms over which streams are ended when the gateway stops, 0 to 86400000; 0: all at once", "Streams"),
    Variable("SSE_HEARTBEAT_MS", "service.event_streams.heartbeat", milliseconds(0, zero=math.inf),
             "ms of silence until a comment is sent to an event stream's reader, 0 to 86400000; 0: none",
             "Event streams", per_service=True),
    Variable("SSE_IDLE_TIMEOUT_MS", "service.event_streams.idle_timeout", milliseconds(0, zero=math.inf),
             "ms an event stream's service may be silent, 0 to 86400000; 0: for ever",
             "Event streams", per_service=True),
    Variable("SSE_MAX_AGE_MS", "service.event_streams.max_age", milliseconds(0, zero=math.inf),
             "ms until an event stream is ended, spread over its last fifth, 0 to 86400000; 0: never",
             "Event streams", per_service=True),
    Variable("SSE_MAX_BYTES", "service.event_streams.max_bytes", size(0, zero=math.inf),
             "bytes until an event stream is ended, 0 to 1125899906842624; 0: never",
             "Event streams", per_service=True),
    Variable("SSE_ERROR_EVENT", "service.event_streams.error_event", one_of("off", "generic", "openai", "anthropic"),
             "off, generic, openai or anthropic: format of the event that reports a failed stream",
             "Event streams", per_service=True),
    Variable("SSE_UNAVAILABLE", "service.event_streams.unavailable", one_of(RETRY, STATUS),
             "retry (200 with retry:) or status: reply to an EventSource on 502, 503, 504; unset: retry in /sse",
             "Event streams", per_service=True),
    Variable("SSE_LAST_EVENT_ID_QUERY", "service.event_streams.reads_last_event_id", flag,
             "true or false: whether ?last_event_id= is sent on as Last-Event-ID", "Event streams", per_service=True),
    Variable("SSE_PEEK_MS", "service.event_streams.peek", milliseconds(0),
             "ms to wait for the first event; after an error another endpoint is asked, 0 to 86400000; 0: none",
             "Event streams", per_service=True),
    Variable("WS_ALLOWED_ORIGINS", "service.websocket.allowed_origins", origins,
             "origins whose pages may connect, * or same-origin; unset: *, in production same-origin",
             "WebSocket", in_production=(SAME_ORIGIN,)),
    Variable("WS_ORIGIN", "service.mount.rewrites_origin", choice({"pass": False, "rewrite": True}),
             "pass or rewrite: whether services see the client's Origin or their own", "WebSocket", per_service=True),
    Variable("WS_MAX_MESSAGE_BYTES", "service.websocket.relay.max_message", size(1),
             "bytes of a message on the wire, over all its fragments, 1 to 1125899906842624", "WebSocket"),
    Variable("WS_MAX_BUFFERED_BYTES", "service.websocket.relay.max_buffered", size(1),
             "bytes that may wait for a slow receiver, 1 to 1125899906842624", "WebSocket"),
    Variable("WS_PING_INTERVAL_MS", "service.websocket.relay.ping_interval", milliseconds(0, zero=math.inf),
             "ms between pings to either side, 0 to 86400000; 0: none", "WebSocket", per_service=True),
    Variable("WS_PONG_TIMEOUT_MS", "service.websocket.relay.pong_timeout", milliseconds(1),
             "ms to wait for a pong, or any byte, after a ping, 1 to 86400000", "WebSocket", per_service=True),
    Variable("WS_IDLE_TIMEOUT_MS", "service.websocket.relay.idle_timeout", milliseconds(0, zero=math.inf),
             "ms without a message in either direction, 0 to 86400000; 0: no limit", "WebSocket", per_service=True),
    Variable("WS_RATE_LIMIT_MESSAGES", "service.websocket.relay.messages_per_second", whole(0, MILLION),
             "messages, pings and pongs per second by one client's connection, 0 to 1000000; 0: no limit", "WebSocket"),
    Variable("WS_RATE_LIMIT_BYTES", "service.websocket.relay.bytes_per_second", size(0),
             "bytes per second on the wire by one client's connection, 0 to 1125899906842624; 0: no limit",
             "WebSocket"),
    Variable("WS_RATE_LIMIT_POLICY", "service.websocket.relay.cuts_fast", choice({"delay": False, "close": True}),
             "delay or close: what happens to a connection that exceeds a WS_RATE_LIMIT", "WebSocket"),
    Variable("WS_DRAIN_CODE", "service.websocket.relay.drain_code",
             choice({"1001": GOING_AWAY, "1012": SERVICE_RESTART}),
             "1001 (going away) or 1012 (restart): the close code when the gateway stops", "WebSocket"),
)
# fmt: on

OF_SERVICES = {each.key: each for each in VARIABLES if each.per_service}
OF_ROUTES = {
    key: each
    for key, each in OF_SERVICES.items()
    if each.path.startswith(_OF_A_ROUTE) and each.path not in _NOT_OF_A_ROUTE
}
