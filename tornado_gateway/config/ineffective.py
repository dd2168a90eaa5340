"""Warnings about variables that are set, but have no effect or contradict other variables.

Without a warning an operator would believe in a limit, a check or a key that does nothing. Defaults are never reported.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from tornado_gateway.adapters.access_log import HIDING
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES, Variable
from tornado_gateway.policy.access import DEFAULT, Kind, default_rule, permits_more
from tornado_gateway.policy.http.caching.config import EVERY_PARAMETER, Scope
from tornado_gateway.policy.http.cors import CorsMode
from tornado_gateway.policy.http.credentials import Where
from tornado_gateway.policy.http.handshake import ANY_ORIGIN
from tornado_gateway.policy.routing import RouteSpec, hosts_for, passages
from tornado_gateway.policy.upstream.affinity import Sessions
from tornado_gateway.policy.upstream.health import HealthKind
from tornado_gateway.policy.upstream.sources import Kind as SourceKind
from tornado_gateway.policy.upstream.sources import base_path_of
from tornado_gateway.upkeep.process import tells_malloc


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition for variables to have an effect.

    Attributes:
        names: variables that have an effect only if the condition holds.
        holds: the condition on the settings of a service; see Settings.of().
        otherwise: why the variables have no effect if the condition does not hold.
    """

    names: tuple[str, ...]
    holds: Callable[[Settings], bool]
    otherwise: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A contradiction between variables.

    Attributes:
        names: the variables.
        contradict: whether the settings of a service contradict each other; see Settings.of().
        text: the conflict, and what the gateway does.
    """

    names: tuple[str, ...]
    contradict: Callable[[Settings], bool]
    text: str


def _has_limit(s: Settings) -> bool:
    return s.service.max_in_flight < math.inf or s.service.adapts


def _has_breaker(s: Settings) -> bool:
    return bool(s.service.breaker.failures or _has_shares(s))


def _has_shares(s: Settings) -> bool:
    return s.service.breaker.failure_share > 0 or s.service.breaker.slow_after < math.inf


def _tries_again(s: Settings) -> bool:
    retry = s.service.retry
    return retry.attempts > 1 and (bool(retry.on) or retry.try_timeout < math.inf)


def _repeats_statuses(s: Settings) -> bool:
    return _tries_again(s) and any(isinstance(each, int) for each in s.service.retry.on)


def _tries_are_shorter(s: Settings) -> bool:
    seconds = s.service.retry.try_timeout
    return seconds == math.inf or seconds < s.service.head_timeout


def _has_a_policy_without_key(s: Settings) -> bool:
    limits = s.service.limits
    return limits.max > 0 or limits.max_in_flight > 0 or any(each.key is None for each in limits.quotas)


def _limits_something(s: Settings) -> bool:
    of_services = (each.service.limits for each in s.services)
    return any(each.rules for each in (s.service.limits, *of_services, *(r.limits for r in s.routes if r.limits)))


def _has_a_burst(s: Settings) -> bool:
    return any(each.burst for each in s.service.limits.quotas)


def _counts_principals_without_auth(s: Settings) -> bool:
    return any(each.key.source == "principal" for each in s.service.limits.rules) and not s.asks_for_tokens


def _limits_scopes_without_auth(s: Settings) -> bool:
    return any(each.quota.scope for each in s.service.limits.rules) and not s.asks_for_tokens


def _exchanges_nothing_for_tickets(s: Settings) -> bool:
    has_others = bool(s.auth.keys or s.auth.users)
    return not has_others and all(each.where is Where.TICKET for each in s.auth.sources)


def _has_source(kind: SourceKind, s: Settings) -> bool:
    return any(each.url.startswith(f"{kind.value}+") for service in s.services for each in service.endpoints)


# fmt: off
RULES = (
    Rule(
        ("JWT_SECRET", "JWT_SECRETS", "JWT_PUBLIC_KEY", "JWT_ALGORITHMS", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_LEEWAY_S",
         "JWT_REQUIRE_EXP", "JWT_REQUIRED_CLAIMS", "JWKS_URL", "OIDC_ISSUER"),
        lambda s: s.asks_for(Kind.JWT),
        "AUTH_REQUIRED is false",
    ),
    Rule(("AUTH_TOKEN_SOURCES",), lambda s: s.asks_for(Kind.JWT) or (s.auth.has_tickets and s.asks_for_tokens),
         "AUTH_REQUIRED is false"),
    Rule(("API_KEYS",), lambda s: s.asks_for(Kind.KEY), "nothing asks for an API key"),
    Rule(("BASIC_USERS",), lambda s: s.asks_for(Kind.BASIC), "nothing asks for a password"),
    Rule(("HOST", "PORT"), lambda s: not s.listen.listeners, "LISTEN is set"),
    Rule(("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TLS_CLIENT_AUTH"), lambda s: s.serves_tls,
         "no listener of LISTEN has tls, or TLS_CERT is not set"),
    Rule(("TLS_CLIENT_AUTH",), lambda s: bool(s.listen.tls.client_ca), "TLS_CLIENT_CA is not set"),
    Rule(("METRICS_AUTH",), lambda s: s.protects_admin or not s.protects_figures, "AUTH_REQUIRED is false"),
    Rule(("ADMIN_HOST", "ADMIN_TLS"), lambda s: s.admin_listen.port is not None, "ADMIN_PORT is not set"),
    Rule(("ADMIN_SESSION_IDLE_MS", "ADMIN_SESSION_MAX_MS"), lambda s: s.protects_admin,
         "AUTH_REQUIRED is false, and neither ADMIN_SCOPE nor ADMIN_PASSWORD_HASH is set"),
    Rule(("HASH_KEY",), lambda s: s.service.balancer == "consistent_hash", "BALANCER is not consistent_hash"),
    Rule(("STICKY_SECRET",), lambda s: s.service.affinity.sessions is not Sessions.OFF, "STICKY is off"),
    Rule(("QUEUE_SIZE", "QUEUE_TIMEOUT_MS"), _has_limit, "MAX_IN_FLIGHT is 0 and ADAPTIVE_CONCURRENCY is false"),
    Rule(("QUEUE_TIMEOUT_MS",), lambda s: s.service.max_waiting > 0, "QUEUE_SIZE is 0"),
    Rule(("BREAKER_WINDOW_MS", "BREAKER_OPEN_MS", "BREAKER_MAX_OPEN_MS", "BREAKER_PROBES", "MAX_EJECTED_PERCENT"),
         _has_breaker, "BREAKER_FAILURES, BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
    Rule(("BREAKER_MIN_REQUESTS",), _has_shares, "BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
    Rule(("BREAKER_SLOW_PERCENT",), lambda s: s.service.breaker.slow_after < math.inf, "BREAKER_SLOW_MS is 0"),
    Rule(("HEALTH_PATH",), lambda s: s.service.health.kind in (HealthKind.HTTP, HealthKind.WEBSOCKET),
         "HEALTH_CHECK is off or tcp"),
    Rule(("HEALTH_STATUSES",), lambda s: s.service.health.kind is HealthKind.HTTP, "HEALTH_CHECK is not http"),
    Rule(("HEALTH_INTERVAL_MS", "HEALTH_DOWN_INTERVAL_MS", "HEALTH_TIMEOUT_MS", "HEALTH_RISE", "HEALTH_FALL"),
         lambda s: s.service.health.kind is not HealthKind.OFF, "HEALTH_CHECK is off"),
    Rule(("RETRY_ON",), lambda s: s.service.retry.attempts > 1 or not s.service.retry.on, "RETRY_ATTEMPTS is 1"),
    Rule(("RETRY_ATTEMPTS",), lambda s: _tries_again(s) or s.service.retry.attempts == 1, "RETRY_ON is off"),
    Rule(("RETRY_TRY_TIMEOUT_MS",), lambda s: s.service.retry.attempts > 1, "RETRY_ATTEMPTS is 1"),
    Rule(("RETRY_TRY_TIMEOUT_MS",), _tries_are_shorter, "HTTP_PROXY_TIMEOUT_MS is not longer"),
    Rule(("RETRY_BACKOFF_MS",), _repeats_statuses, "no status is sent again (RETRY_ON, RETRY_ATTEMPTS)"),
    Rule(("RETRY_BUDGET_PERCENT", "RETRY_BUDGET_FLOOR"), lambda s: _tries_again(s) or s.service.hedge,
         "nothing is sent again (RETRY_ON, RETRY_ATTEMPTS, HEDGE)"),
    Rule(("HEDGE", "ADAPTIVE_CONCURRENCY", "BREAKER_SLOW_MS"), lambda s: not s.service.is_long_poll,
         "LONG_POLL is true"),
    Rule(("UPSTREAM_TLS_CA_FILE",), lambda s: s.service.connection.tls.verify, "UPSTREAM_TLS_VERIFY is false"),
    Rule(("UPSTREAM_TLS_CA_FILE", "UPSTREAM_TLS_SERVER_NAME", "UPSTREAM_TLS_CERT", "UPSTREAM_TLS_KEY"),
         lambda s: s.has_tls_endpoints, "no endpoint is https"),
    Rule(("CONSUL_URL", "CONSUL_TOKEN"), partial(_has_source, SourceKind.CONSUL),
         "no endpoint is consul+http or consul+https"),
    Rule(("KUBERNETES_API_URL", "KUBERNETES_ACCOUNT"), partial(_has_source, SourceKind.KUBERNETES),
         "no endpoint is k8s+http or k8s+https"),
    Rule(("ACCESS_LOG",), lambda s: not s.logs.access or s.logs.has_access_log, "LOG_LEVEL is above info"),
    Rule(
        ("STREAM_OPEN_LOG",),
        lambda s: not s.logs.openings or s.logs.has_access_log,
        "ACCESS_LOG is false, or LOG_LEVEL is above info",
    ),
    Rule(
        ("SLOW_REQUEST_MS",),
        lambda s: s.logs.slow == math.inf or s.logs.has_slow_log,
        "LOG_LEVEL is above warn",
    ),
    Rule(
        ("LOG_QUERY",),
        lambda s: not s.logs.query or s.logs.has_access_log or s.logs.has_slow_log,
        "ACCESS_LOG is false, or LOG_LEVEL is above info",
    ),
    Rule(
        ("LOG_REDACT",),
        lambda s: s.logs.query or not HIDING.keys().isdisjoint(map(str.lower, s.logs.redact)),
        "LOG_QUERY is false, and no name is that of a field of the access log",
    ),
    Rule(("MAX_STREAMS_PER_SERVICE",), lambda s: _is_within(s.streams.per_service, s.streams.total),
         "MAX_STREAMS is less"),
    Rule(("MAX_STREAMS_PER_CLIENT",), lambda s: _is_within(s.streams.per_client, s.streams.total),
         "MAX_STREAMS is less"),
    Rule(("PRIORITY",), lambda s: s.overload.is_on, "no threshold of overload is set (MAX_IN_FLIGHT_TOTAL and others)"),
    Rule(("UNDER_PRESSURE_MAX_HEAP_USED_BYTES",), lambda s: s.overload.max_heap == math.inf or tells_malloc(),
         "malloc of this system does not tell its bytes in use"),
    Rule(("CORS_ORIGINS",), lambda s: s.service.cors.mode is CorsMode.ANSWER, "CORS is pass or off"),
    Rule(("CORS_ALLOW_CREDENTIALS", "CORS_ALLOW_HEADERS", "CORS_EXPOSE_HEADERS", "CORS_MAX_AGE_S"),
         lambda s: s.service.cors.answers, "CORS_ORIGINS is not set, or CORS is pass or off"),
    Rule(("CORS",), lambda s: s.service.cors.mode is not CorsMode.ANSWER or s.service.cors.answers,
         "CORS_ORIGINS is not set"),
    Rule(("RATE_LIMIT_WINDOW_MS",), lambda s: s.service.limits.max > 0, "RATE_LIMIT_MAX is 0"),
    Rule(("RATE_LIMIT_KEY",), _has_a_policy_without_key,
         "no policy of RATE_LIMIT_MAX, RATE_LIMITS or MAX_IN_FLIGHT_PER_CLIENT needs the key"),
    Rule(("RATE_LIMIT_STORE",), _limits_something, "nothing is limited"),
    Rule(("RATE_LIMIT_ON_ERROR",), lambda s: bool(s.limit_store_url), "the counters are in memory"),
    Rule(("REVOCATION_ON_ERROR",), lambda s: s.shares_revocations, "revocations are not shared over Redis"),
    Rule(("REDIS_URL",), lambda s: not s.limit_store.url or s.shares_something,
         "RATE_LIMIT_STORE is set"),
    Rule(("REDIS_URL",), lambda s: _limits_something(s) or s.shares_something,
         "nothing is limited or cached, and nothing asks for a token"),
    Rule(("RATE_LIMIT_MODE",), lambda s: s.service.limits.limits_something, "nothing is limited"),
    Rule(("RATE_LIMIT_ALGORITHM", "RATE_LIMIT_COST_HEADER"), lambda s: bool(s.service.limits.rules),
         "RATE_LIMIT_MAX and RATE_LIMITS are not set"),
    Rule(("CACHE_DEFAULT_TTL_MS", "CACHE_HEURISTIC_PERCENT", "CACHE_MAX_BODY_BYTES", "CACHE_SCOPE", "CACHE_IGNORE_HOST",
          "CACHE_IGNORE_QUERY", "CACHE_SORT_QUERY", "CACHE_KEY_HEADERS", "CACHE_LOCK_TIMEOUT_MS",
          "CACHE_GRACE_MS", "CACHE_STALE_IF_ERROR_MS", "CACHE_SET_COOKIE", "CACHE_SURROGATE_CONTROL",
          "CACHE_STATUS_KEY",
          "CACHE_IGNORE_CLIENT", "CACHE_PASS_TAGS"),
         lambda s: s.service.cache.is_on or s.caches_routes, "CACHE_ENABLED is false"),
    Rule(("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME"),
         lambda s: s.tracing.share is not None, "TRACE_SAMPLE is not set"),
    Rule(("COMPRESS_MIN_BYTES",), lambda s: bool(s.service.compression.codings), "COMPRESS is off"),
    Rule(("CACHE_STORE_SECRET",), lambda s: bool(s.cache_store_url), "what is cached is in memory alone"),
    Rule(("CACHE_MAX_BYTES", "CACHE_STORE"), lambda s: s.caches_something, "nothing is cached"),
    Rule(("CACHE_SCOPE",), lambda s: s.service.cache.scope is Scope.PUBLIC or s.asks_for_tokens,
         "nothing asks for a token"),
    Rule(("CACHE_SORT_QUERY",), lambda s: EVERY_PARAMETER not in s.service.cache.ignored_parameters,
         "CACHE_IGNORE_QUERY is *"),
    Rule(("WS_PONG_TIMEOUT_MS",), lambda s: s.service.websocket.relay.ping_interval < math.inf,
         "WS_PING_INTERVAL_MS is 0"),
    Rule(("WS_RATE_LIMIT_POLICY",), lambda s: s.service.websocket.relay.is_paced,
         "WS_RATE_LIMIT_MESSAGES and WS_RATE_LIMIT_BYTES are 0"),
)

CONFLICTS = (
    Conflict(("AUTH_TOKEN_SOURCES",), _exchanges_nothing_for_tickets,
             "AUTH_TOKEN_SOURCES is ticket alone: no token is accepted, so none can be exchanged for a ticket"),
    Conflict(("BREAKER_OPEN_MS", "BREAKER_MAX_OPEN_MS"),
             lambda s: s.service.breaker.open_for > s.service.breaker.longest,
             "BREAKER_OPEN_MS is longer than BREAKER_MAX_OPEN_MS: every opening takes BREAKER_OPEN_MS"),
    Conflict(("HEALTH_TIMEOUT_MS", "HEALTH_INTERVAL_MS"),
             lambda s: s.service.checks is not None and s.service.health.timeout > s.service.health.interval,
             "HEALTH_TIMEOUT_MS is longer than HEALTH_INTERVAL_MS: a check without an answer delays the next"),
    Conflict(("DRAIN_SPREAD_MS",), lambda s: s.shutdown.spread > s.shutdown.longest_spread,
             "DRAIN_SPREAD_MS is longer than four fifths of SHUTDOWN_TIMEOUT_MS: streams end within those"),
    Conflict(("RATE_LIMITS", "RATE_LIMIT_ALGORITHM"),
             lambda s: _has_a_burst(s) and s.service.limits.algorithm == "sliding",
             "RATE_LIMITS has a burst and RATE_LIMIT_ALGORITHM is sliding, which knows no bursts: the limit counts"),
    Conflict(("RATE_LIMITS",), _limits_scopes_without_auth,
             "a rate limit of RATE_LIMITS is for a scope and nothing asks for a token: the limit is never reached"),
    Conflict(("RATE_LIMITS", "RATE_LIMIT_KEY"), _counts_principals_without_auth,
             "a rate limit counts by principal and nothing asks for a token: clients are counted by address"),
    Conflict(("CACHE_MAX_BYTES", "CACHE_MAX_BODY_BYTES"),
             lambda s: s.service.cache.is_on and s.service.cache.max_body > s.cache_store.most_of_a_key,
             "CACHE_MAX_BODY_BYTES is more than a fifth of CACHE_MAX_BYTES: larger bodies are not kept"),
    Conflict(("CACHE_STORE", "CACHE_STORE_SECRET"),
             lambda s: bool(s.cache_store.url and s.cache_store_url and not s.cache_store.secret),
             "CACHE_STORE is set and CACHE_STORE_SECRET is not: gateways share purges, and no responses"),
    Conflict(("PRESERVE_HOST", "WS_ORIGIN"),
             lambda s: s.service.mount.preserve_host and s.service.mount.rewrites_origin,
             "PRESERVE_HOST is true and WS_ORIGIN is rewrite: services see the client's Host beside another Origin"),
    Conflict(("WS_ORIGIN", "WS_ALLOWED_ORIGINS"),
             lambda s: s.service.mount.rewrites_origin and ANY_ORIGIN in s.service.websocket.allowed_origins,
             "WS_ORIGIN is rewrite and WS_ALLOWED_ORIGINS is *: pages of every origin may use WebSockets of services "
             "that would refuse these pages"),
)
# fmt: on


def _is_within(limit: int, limit_of_all: int) -> bool:
    """Whether a limit can be reached before the limit of all streams; 0: no limit."""
    return not limit_of_all or limit <= limit_of_all


def ineffective(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """A warning for each variable, and each key of a service, that is set and has no effect or contradicts another.

    Args:
        settings: loaded from env.
    """
    void = (*_hidden(env), *_void(settings, env), *_of_routes(settings))
    told = [f"{name} is set but has no effect{why}" for name, why in void]
    return [*told, *_contradictions(settings, env), *_passages(settings), *_closed(settings)]


def _hidden(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Aliases of a variable that is set to another value."""
    for variable in VARIABLES:
        name, text = variable.find(env)
        yield from (
            (alias, f": {name} is set, too") for alias in variable.aliases if env.get(alias, text) not in ("", text)
        )


def _void(settings: Settings, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for rule in RULES:
        for variable in (each for each in VARIABLES if each.name in rule.names):
            if env.get(variable.name) and not any(map(rule.holds, _without_own(settings, variable))):
                yield variable.name, f": {rule.otherwise}"
            for service in settings.services:
                if variable.key in service.given and not rule.holds(settings.of(service)):
                    yield f"UPSTREAMS.{service.name}.{variable.key}", f": {rule.otherwise}"


def _without_own(settings: Settings, variable: Variable) -> list[Settings]:
    """The settings of the services without a value of their own for a variable."""
    return [settings.of(service) for service in settings.services if variable.key not in service.given]


def _of_routes(settings: Settings) -> Iterator[tuple[str, str]]:
    hosts = {route.host for route in settings.routes}
    for host in settings.gateway_hosts:
        if not any(of_route in hosts_for(host) or host in hosts_for(of_route) for of_route in hosts):
            yield (
                f"{host} of GATEWAY_HOSTS",
                ": no route of ROUTES is for that host, which keeps the gateway's own paths anyway",
            )
    for index, route in enumerate(settings.routes):
        if route.given.get("rewriteCookiePath") and _has_the_services_paths(route, settings):
            yield f"ROUTES[{index}].rewriteCookiePath", ": the paths of the service are the public paths already"


def _has_the_services_paths(route: RouteSpec, settings: Settings) -> bool:
    """Whether clients use the same paths as the endpoints of the route's service."""
    urls = {end.url for service in settings.services if service.name == route.service for end in service.endpoints}
    return all(base_path_of(url) + route.inner_prefix == route.prefix for url in urls)


def _passages(settings: Settings) -> Iterator[str]:
    """Routes by which clients evade what another route asks."""
    default = default_rule(is_required=settings.auth.is_required)
    places = {id(each): f"ROUTES[{index}]" for index, each in enumerate(settings.routes)}

    def asks_less(route: RouteSpec, other: RouteSpec) -> bool:
        one, another = route.access or DEFAULT, other.access or DEFAULT
        return one is not another and permits_more(one, another, default)

    for route, other, path in passages(settings.routes, asks_less, settings.gateway_hosts):
        evaded = f"{route.host}{path.decode('ascii')} is {other.label} without its protection"
        yield (
            f"{places[id(route)]} asks less of clients than {places[id(other)]}, and leads to the same paths of "
            f"the service {route.service}: {evaded}"
        )


def _closed(settings: Settings) -> Iterator[str]:
    """Services whose routes ask for credentials of different kinds; see strictest()."""
    for name in (each.name for each in settings.services if each.service.access.rule == frozenset()):
        yield (
            f"the routes to {name} ask for different credentials: "
            f"/api/{name}, /sse/{name} and /ws/{name} refuse every request"
        )


def _contradictions(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    for conflict in CONFLICTS:
        variables = [each for each in VARIABLES if each.name in conflict.names]
        is_set = any(env.get(each.name) for each in variables)
        if is_set and any(conflict.contradict(each) for each in (settings, *map(settings.of, settings.services))):
            yield conflict.text
            continue
        for place, given, own in _places(settings):
            if any(each.key in given for each in variables) and conflict.contradict(own):
                yield f"{place}: {conflict.text}"


def _places(settings: Settings) -> Iterator[tuple[str, Mapping[str, object], Settings]]:
    """Services and routes: the JSON path, the own values, and the settings with the own values."""
    for service in settings.services:
        yield f"UPSTREAMS.{service.name}", service.given, settings.of(service)
    for index, route in enumerate(settings.routes):
        if route.config:
            own = replace(settings, service=replace(settings.service, mount=route.config))
            yield f"ROUTES[{index}]", route.given, own
