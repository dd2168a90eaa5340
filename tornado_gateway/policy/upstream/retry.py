"""Retries: whether, where and when a request is sent again that failed before a response began.

Failure                             sent again
──────────────────────────────────  ─────────────────────────────────────────────────────
no connection was made              to another endpoint: nothing was sent
a kept connection ended silently    once, over a new connection to the same endpoint, if the method is idempotent, no
                                    body was sent, or no byte of the request reached the endpoint: the server closed the
                                    connection while the request was on the way
another connection ended            to another endpoint, if the method is idempotent; also after 1xx responses, which
                                    promise nothing (RFC 9110 §15.2)
timeout, or no HTTP                 never: a retry would double the wait
timeout of one try (try_timeout)    to another endpoint, if the method is idempotent and the request has time left
a status of RETRY_ON                to another endpoint, if the method is idempotent
an event stream, no timeout         to another endpoint after any failure, if the method is idempotent or POST: the
                                    client has received no events

A request is sent again only while the body can be sent again from the beginning. Any other request that an endpoint may
have carried out is never repeated (RFC 9110 §9.2.2).

Retries help when one endpoint is broken, and harm when all endpoints are. A service therefore has one retry Budget
for all causes, hedges included. Two kinds of repetition are free:

    the first retry of a request after a failed connection: no endpoint has done any work
    the repetition over a new connection to the same endpoint: the endpoint has not seen the request
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from tornado_gateway.errors import (
    ConnectFailed,
    ConnectTimeout,
    HeadTimeout,
    UpstreamError,
    UpstreamReset,
    UpstreamTimeout,
)

# RFC 9110 §9.2.2, and methods registered as idempotent since (RFC 4918, RFC 3253, QUERY).
IDEMPOTENT = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"QUERY", b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE",
     b"REPORT", b"SEARCH")
)  # fmt: skip

# Every method: for services in which no request does harm when carried out twice.
ALL = "all"

REPLAY_BYTES = 64 * 1024  # bytes of a body that are kept for a retry; as in Linkerd

BUDGET_WINDOW = 2.0  # seconds; Linkerd's 10 s would allow three attempts of each request in an outage's first second
BUDGET_FOLD = 0.02  # seconds in which requests are only counted; the decay in between is less than 1 %

MIN_ATTEMPT = 1.0  # seconds to the head that a retry always has, even if earlier attempts have used up head_timeout

CONNECT, RESET = "connect", "reset"

LONGEST_BACKOFF = 10  # maximum wait / RetryConfig.backoff; Envoy's ratio


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Which requests of a service are sent again.

    Attributes:
        repeatable: methods of requests that endpoints may carry out twice, beside the idempotent methods; or (ALL,).
        on: failures that are retried at another endpoint: CONNECT (no connection was made), RESET (the connection
            ended before a head), and statuses, whose responses the client does not get.
        attempts: attempts of one request, the first included; ≥ 1.
        try_timeout: seconds to the head for each attempt but the last; math.inf: no limit but the request's own.
        backoff: seconds; the wait before the n-th retry of a status is random between 0 and backoff x 2^(n-1) ("full
            jitter": M. Brooker, Exponential Backoff and Jitter, 2015), or backoff x LONGEST_BACKOFF if that is less.
        budget_share: share of a service's recent requests that may be retried; the default is Envoy's and Linkerd's.
        budget_floor: retries that are allowed within BUDGET_WINDOW even without requests.
    """

    repeatable: Collection[str] = ()
    on: Collection[str | int] = (CONNECT, RESET)
    attempts: int = 3
    try_timeout: float = math.inf
    backoff: float = 0.025
    budget_share: float = 0.2
    budget_floor: float = 3


def is_repeatable(method: bytes, config: RetryConfig) -> bool:
    """Whether an endpoint may carry out a request twice: by the method (RFC 9110 §9.2.2) or by the configuration.

    >>> is_repeatable(b"GET", RetryConfig()), is_repeatable(b"POST", RetryConfig())
    (True, False)
    >>> is_repeatable(b"POST", RetryConfig(repeatable=("POST",)))
    True
    """
    if method in IDEMPOTENT:
        return True
    declared = config.repeatable
    return bool(declared) and (ALL in declared or method.decode("latin-1") in declared)


class RetryTarget(Enum):
    """Where a failed request is sent again."""

    NOWHERE = "nowhere"
    SAME_ENDPOINT = "same endpoint"
    OTHER_ENDPOINT = "other endpoint"


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed before the client received any part of the response.

    Attributes:
        is_repeatable: see is_repeatable().
        reused: whether the attempt used a kept connection.
        body_sent: whether any part of the body was sent.
        replayable: whether the body can be sent again from the beginning.
        heard: whether any part of a response has come, 1xx responses included.
        answered: whether any part of the final response has come.
        delivered: whether any byte of the request may have reached the endpoint.
        awaits_stream: whether the client waits for an event stream.
        has_try_timeout: whether the attempt had less time than the request had left.
    """

    is_repeatable: bool
    reused: bool
    body_sent: bool
    replayable: bool
    heard: bool = False
    answered: bool = False
    delivered: bool = True
    awaits_stream: bool = False
    has_try_timeout: bool = False


def decide_retry(
    error: UpstreamError, failed: FailedAttempt, on: Collection[str | int] = (CONNECT, RESET)
) -> RetryTarget:
    """Where a request is sent again after a failed attempt.

    Args:
        on: see RetryConfig.
    """
    is_repeatable = failed.is_repeatable
    if not failed.replayable:
        return RetryTarget.NOWHERE
    if isinstance(error, ConnectFailed | ConnectTimeout):
        return RetryTarget.OTHER_ENDPOINT if CONNECT in on else RetryTarget.NOWHERE
    if isinstance(error, HeadTimeout) and failed.has_try_timeout and is_repeatable:
        return RetryTarget.OTHER_ENDPOINT
    if failed.awaits_stream and not isinstance(error, UpstreamTimeout):
        is_repeatable = True
    elif failed.answered or not isinstance(error, UpstreamReset):
        return RetryTarget.NOWHERE
    if failed.reused and not failed.heard and (is_repeatable or not failed.body_sent or not failed.delivered):
        return RetryTarget.SAME_ENDPOINT
    return RetryTarget.OTHER_ENDPOINT if is_repeatable and RESET in on else RetryTarget.NOWHERE


def attempt_timeout(config: RetryConfig, head_timeout: float, spent: float, *, may_retry: bool) -> tuple[float, bool]:
    """Seconds that an attempt has until the head of the response.

    Args:
        head_timeout: seconds of the request, for all attempts together.
        spent: seconds that earlier attempts took.
        may_retry: whether another endpoint can be asked after a timeout of this attempt.

    Returns:
        The seconds, and whether try_timeout shortens the attempt: the request has more time left.

    >>> attempt_timeout(RetryConfig(try_timeout=2.0), head_timeout=30.0, spent=0.0, may_retry=True)
    (2.0, True)
    >>> attempt_timeout(RetryConfig(try_timeout=2.0), head_timeout=30.0, spent=29.5, may_retry=False)
    (1.0, False)
    """
    left = max(head_timeout - spent, min(head_timeout, MIN_ATTEMPT))
    is_own = may_retry and config.try_timeout < left
    return (config.try_timeout if is_own else left), is_own


def is_retried(status: int, config: RetryConfig, *, is_repeatable: bool, awaits_stream: bool) -> bool:
    """Whether a response with this status is dropped and another endpoint is asked.

    >>> is_retried(503, RetryConfig(), is_repeatable=True, awaits_stream=False)
    False
    >>> is_retried(503, RetryConfig(on={503}), is_repeatable=True, awaits_stream=False)
    True
    """
    return (is_repeatable and status in config.on) or (awaits_stream and status >= 500)


def is_free_retry(error: UpstreamError, retries: int) -> bool:
    """Whether a retry takes nothing from the budget.

    Args:
        error: of the failed attempt.
        retries: earlier retries of the request.
    """
    return retries == 0 and isinstance(error, ConnectFailed | ConnectTimeout)


def backoff_before(retry: int, config: RetryConfig, rng: random.Random) -> float:
    """Seconds to wait before a retry that is due to a status; random, see RetryConfig.backoff.

    Args:
        retry: number of the retry, from 1.
    """
    return rng.uniform(0.0, config.backoff * min(LONGEST_BACKOFF, 2.0 ** (retry - 1)))


def retry_after(known_fields: Mapping[bytes, Sequence[bytes]], wall_clock: Callable[[], float]) -> float:
    """Seconds of a response's Retry-After (RFC 9110 §10.2.3), ≥ 0; 0 without a valid Retry-After.

    Args:
        known_fields: field values by lower-case name.
        wall_clock: gives the seconds since 1970; called only if Retry-After is a date.
    """
    values = known_fields.get(b"retry-after")
    if not values:
        return 0.0
    text = values[0].decode("latin-1")
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - wall_clock())
    except (ValueError, OverflowError):
        return 0.0


class Budget:
    """The retry budget of a service: a share of the recent requests, and a minimum.

    Each request pays budget_share in, each retry takes 1 out, and the balance decays to budget_floor with the time
    constant BUDGET_WINDOW. The budget is a share of recent requests rather than of requests in flight, because a killed
    endpoint fails all its requests in flight in one instant. The balance holds at most the worth of the requests of
    BUDGET_WINDOW: when a whole service begins to fail, a share of 20 % allows retries for the requests of 0.4 s.
    """

    __slots__ = ("_balance", "_config", "_seen_at", "_unfolded")

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self._balance = config.budget_floor
        self._seen_at = -math.inf
        self._unfolded = 0  # requests since _seen_at

    def reconfigure(self, config: RetryConfig) -> None:
        """Use another configuration. The balance stays and decays to the new floor."""
        self._config = config

    def pay_in(self, now: float) -> None:
        """Count a request."""
        if now - self._seen_at >= BUDGET_FOLD:
            self._fold(now)
        self._unfolded += 1

    def _fold(self, now: float) -> None:
        self._balance, self._seen_at, self._unfolded = self.balance(now), now, 0

    def take(self, now: float) -> bool:
        """Take one retry out of the balance. Returns whether the balance was enough."""
        self._fold(now)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def balance(self, now: float) -> float:
        """Retries that may be made now; not rounded."""
        floor = self._config.budget_floor
        kept = math.exp(min(0.0, self._seen_at - now) / BUDGET_WINDOW)
        return floor + (self._balance + self._unfolded * self._config.budget_share - floor) * kept
