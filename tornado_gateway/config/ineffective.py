"""Which variables that are set have no effect, or another one than they say, because of others or in this version.

A gateway that starts without a word while a limit, a check or a key does nothing leaves its operator in the belief
that it protects. A variable is named here only if somebody has set it; a default never is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tornado_gateway.config.settings import LEVELS_WITH_ACCESS, STREAMS_END_WITHIN, Settings
from tornado_gateway.config.variables import VARIABLES, Variable


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Attributes:
        names: of variables that do something only while the condition holds.
        holds: of the settings of a service.
        otherwise: why the variables have no effect while it does not.
    """

    names: tuple[str, ...]
    holds: Callable[[Settings], bool]
    otherwise: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """
    Attributes:
        names: of variables, one of which somebody has set.
        contradict: whether the settings of a service say two things.
        text: what they say, and what happens.
    """

    names: tuple[str, ...]
    contradict: Callable[[Settings], bool]
    text: str


def _has_limit(settings: Settings) -> bool:
    return bool(settings.max_in_flight or settings.adaptive_concurrency)


def _has_breaker(settings: Settings) -> bool:
    return bool(settings.breaker_failures or _has_shares(settings))


def _has_shares(settings: Settings) -> bool:
    return bool(settings.breaker_failure_percent or settings.breaker_slow)


def _tries_again(settings: Settings) -> bool:
    return settings.retry_attempts > 1 and ("off" not in settings.retry_on or settings.retry_try_timeout > 0)


def _repeats_statuses(settings: Settings) -> bool:
    return _tries_again(settings) and any(each.isdecimal() for each in settings.retry_on)


def _has_https(settings: Settings) -> bool:
    return any(urlsplit(each.url).scheme == "https" for service in settings.services for each in service.endpoints)


# fmt: off
RULES = (
    Rule(("JWT_SECRET",), lambda s: s.auth_required, "AUTH_REQUIRED is false"),
    Rule(("HASH_KEY",), lambda s: s.balancer == "consistent_hash", "BALANCER is not consistent_hash"),
    Rule(("STICKY_SECRET",), lambda s: s.sticky != "off", "STICKY is off"),
    Rule(("QUEUE_SIZE", "QUEUE_TIMEOUT_MS"), _has_limit, "MAX_IN_FLIGHT is 0 and ADAPTIVE_CONCURRENCY is false"),
    Rule(("QUEUE_TIMEOUT_MS",), lambda s: s.queue_size > 0, "QUEUE_SIZE is 0"),
    Rule(("BREAKER_WINDOW_MS", "BREAKER_OPEN_MS", "BREAKER_MAX_OPEN_MS", "BREAKER_PROBES", "MAX_EJECTED_PERCENT"),
         _has_breaker, "BREAKER_FAILURES, BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
    Rule(("BREAKER_MIN_REQUESTS",), _has_shares, "BREAKER_FAILURE_PERCENT and BREAKER_SLOW_MS are 0"),
    Rule(("BREAKER_SLOW_PERCENT",), lambda s: s.breaker_slow > 0, "BREAKER_SLOW_MS is 0"),
    Rule(("HEALTH_PATH",), lambda s: s.health_check in ("http", "websocket"), "HEALTH_CHECK is off or tcp"),
    Rule(("HEALTH_STATUSES",), lambda s: s.health_check == "http", "HEALTH_CHECK is not http"),
    Rule(("HEALTH_INTERVAL_MS", "HEALTH_DOWN_INTERVAL_MS", "HEALTH_TIMEOUT_MS", "HEALTH_RISE", "HEALTH_FALL"),
         lambda s: s.health_check != "off", "HEALTH_CHECK is off"),
    Rule(("RETRY_ON",), lambda s: s.retry_attempts > 1 or "off" in s.retry_on, "RETRY_ATTEMPTS is 1"),
    Rule(("RETRY_ATTEMPTS",), lambda s: _tries_again(s) or s.retry_attempts == 1, "RETRY_ON is off"),
    Rule(("RETRY_TRY_TIMEOUT_MS",), lambda s: s.retry_attempts > 1, "RETRY_ATTEMPTS is 1"),
    Rule(("RETRY_TRY_TIMEOUT_MS",), lambda s: s.retry_try_timeout < s.http_proxy_timeout,
         "HTTP_PROXY_TIMEOUT_MS is not longer"),
    Rule(("RETRY_BACKOFF_MS",), _repeats_statuses, "no status is sent again (RETRY_ON, RETRY_ATTEMPTS)"),
    Rule(("RETRY_BUDGET_PERCENT", "RETRY_BUDGET_FLOOR"), lambda s: _tries_again(s) or s.hedge,
         "nothing is sent again (RETRY_ON, RETRY_ATTEMPTS, HEDGE)"),
    Rule(("HEDGE", "ADAPTIVE_CONCURRENCY", "BREAKER_SLOW_MS"), lambda s: not s.long_poll, "LONG_POLL is true"),
    Rule(("UPSTREAM_TLS_CA_FILE",), lambda s: s.upstream_tls_verify, "UPSTREAM_TLS_VERIFY is false"),
    Rule(("UPSTREAM_TLS_CA_FILE",), _has_https, "no endpoint is https"),
    Rule(("ACCESS_LOG",), lambda s: not s.access_log or s.log_level in LEVELS_WITH_ACCESS, "LOG_LEVEL is above info"),
    Rule(("MAX_STREAMS_PER_SERVICE",), lambda s: _is_within(s.max_streams_per_service, s.max_streams),
         "MAX_STREAMS is less"),
    Rule(("MAX_STREAMS_PER_CLIENT",), lambda s: _is_within(s.max_streams_per_client, s.max_streams),
         "MAX_STREAMS is less"),
    Rule(("WS_PONG_TIMEOUT_MS",), lambda s: s.ws_ping_interval > 0, "WS_PING_INTERVAL_MS is 0"),
    Rule(("WS_RATE_LIMIT_POLICY",), lambda s: bool(s.ws_rate_limit_messages or s.ws_rate_limit_bytes),
         "WS_RATE_LIMIT_MESSAGES and WS_RATE_LIMIT_BYTES are 0"),
)

CONFLICTS = (
    Conflict(("BREAKER_OPEN_MS", "BREAKER_MAX_OPEN_MS"), lambda s: s.breaker_open > s.breaker_max_open,
             "BREAKER_OPEN_MS is longer than BREAKER_MAX_OPEN_MS: every opening takes BREAKER_OPEN_MS"),
    Conflict(("HEALTH_TIMEOUT_MS", "HEALTH_INTERVAL_MS"),
             lambda s: s.health_check != "off" and s.health_timeout > s.health_interval,
             "HEALTH_TIMEOUT_MS is longer than HEALTH_INTERVAL_MS: a check without an answer delays the next"),
    Conflict(("DRAIN_SPREAD_MS",), lambda s: s.drain_spread > s.shutdown_timeout * STREAMS_END_WITHIN,
             "DRAIN_SPREAD_MS is longer than four fifths of SHUTDOWN_TIMEOUT_MS: streams end within those"),
)
# fmt: on


def _is_within(limit: int, limit_of_all: int) -> bool:
    """Whether a limit can be reached before that of all; 0 is none."""
    return not limit_of_all or limit <= limit_of_all


def ineffective(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """A warning for each variable, and each key of a service, that is set and has no effect or contradicts another.

    Args:
        settings: that were loaded from env.
    """
    void = (*_reserved(env), *_hidden(env), *_void(settings, env))
    return [*(f"{name} is set but has no effect{why}" for name, why in void), *_contradictions(settings, env)]


def _reserved(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((each.name, " in this version") for each in VARIABLES if each.reserved and env.get(each.name))


def _hidden(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Aliases beside a variable that says something else."""
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
    """The settings of the services that go by a variable, not by a value of their own."""
    return [settings.of(service) for service in settings.services if variable.key not in service.given]


def _contradictions(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    for conflict in CONFLICTS:
        variables = [each for each in VARIABLES if each.name in conflict.names]
        is_set = any(env.get(each.name) for each in variables)
        if is_set and any(conflict.contradict(each) for each in (settings, *map(settings.of, settings.services))):
            yield conflict.text
        for service in settings.services if not is_set else ():
            own = any(each.key in service.given for each in variables)
            if own and conflict.contradict(settings.of(service)):
                yield f"UPSTREAMS.{service.name}: {conflict.text}"
