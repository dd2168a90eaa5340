"""Whether a request that failed before its response began is sent again, where, and when.

What failed                         sent again
──────────────────────────────────  ─────────────────────────────────────────────────────
no connection was made              to another endpoint: nothing was sent
a kept connection ended silently    once, over a new connection to the same endpoint, if the
                                    method is idempotent or nothing of the body was sent: the
                                    server closed it while the request was on its way
any other connection ended          to another endpoint, if the method is idempotent: whether or not 1xx responses came
                                    before, which the client may have seen and which promise nothing (RFC 9110 §15.2)
too slow, or not HTTP               not at all: a second try would double the wait
too slow, with a time for each try  to another endpoint, if the method is idempotent and its time is not over
a status of RETRY_ON                to another endpoint, if the method is idempotent
an event stream, not too slow       to another endpoint, whatever failed, if the method is idempotent or POST:
                                    to a client that waits for events, none have come

and only while the body can be sent again from its beginning. Any other request that may have
been carried out is never repeated (RFC 9110 §9.2.2).

Retries that help when one endpoint is broken make it worse when all are. So a service has one Budget for retries of
every cause, hedges included. A retry beyond the budget is not made. Two repetitions draw nothing from the budget:

    the first retry of a request     if no connection was made: no endpoint has done any work yet
    the same request once more, over a new connection to the same endpoint: no retry, for the endpoint has not
    seen the request before
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

# RFC 9110 §9.2.2, and those registered as idempotent since (RFC 4918, RFC 3253, QUERY).
IDEMPOTENT = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"QUERY", b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE",
     b"REPORT", b"SEARCH")
)  # fmt: skip

# Every method there is; for services whose team says that carrying out any request twice does no harm.
ALL = "all"

REPLAY_BYTES = 64 * 1024  # of a body that are kept for a second try; Linkerd keeps as much

LEAST_ATTEMPT = 1.0  # seconds that a retry has to its head, even if earlier attempts have used up the request's time

CONNECT, RESET = "connect", "reset"

LONGEST_BACKOFF = 10  # times RetryConfig.backoff; Envoy's ratio


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """
    Attributes:
        repeatable: methods whose requests may be carried out twice, beside the idempotent ones; or (ALL,).
        on: failures after which another endpoint is asked: CONNECT (no connection was made), RESET (the connection
            ended before a head), and statuses of responses that are not passed on.
        attempts: of one request at most, with the first one; ≥ 1.
        try_timeout: seconds until the head for each but the last; math.inf for what a request has in all.
        backoff: seconds; the wait before the n-th retry of a status is drawn from 0 to backoff x 2^(n-1) ("full
            jitter": M. Brooker, Exponential Backoff and Jitter, 2015), at most from 0 to backoff x LONGEST_BACKOFF.
        budget_share: of a service's requests of late that may be sent again; Envoy and Linkerd allow as many.
        budget_floor: retries in any case, within as long.
    """

    repeatable: Collection[str] = ()
    on: Collection[str | int] = (CONNECT, RESET)
    attempts: int = 3
    try_timeout: float = math.inf
    backoff: float = 0.025
    budget_share: float = 0.2
    budget_floor: float = 3


def is_repeatable(method: bytes, config: RetryConfig) -> bool:
    """Whether a request may be carried out twice: by its method (RFC 9110 §9.2.2), or by its service's word.

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
    """Where a request is sent again."""

    NOWHERE = "nowhere"
    SAME_ENDPOINT = "same endpoint"
    OTHER_ENDPOINT = "other endpoint"


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed before the client saw anything of its response.

    Attributes:
        is_repeatable: see is_repeatable().
        reused: whether it went out on a kept connection.
        body_sent: whether anything of its body went out.
        replayable: whether its body, as far as it has come, is still at hand.
        heard: whether anything of a response has come, a 1xx response among it.
        answered: whether anything of the final response has come.
        awaits_stream: whether the client waits for an event stream.
        has_try_timeout: whether the attempt had less time than the request has left.
    """

    is_repeatable: bool
    reused: bool
    body_sent: bool
    replayable: bool
    heard: bool = False
    answered: bool = False
    awaits_stream: bool = False
    has_try_timeout: bool = False


def decide_retry(
    error: UpstreamError, failed: FailedAttempt, on: Collection[str | int] = (CONNECT, RESET)
) -> RetryTarget:
    """Where a request whose attempt has failed is sent again.

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
    if failed.reused and not failed.heard and (is_repeatable or not failed.body_sent):
        return RetryTarget.SAME_ENDPOINT
    return RetryTarget.OTHER_ENDPOINT if is_repeatable and RESET in on else RetryTarget.NOWHERE


def attempt_timeout(config: RetryConfig, head_timeout: float, spent: float, *, may_retry: bool) -> tuple[float, bool]:
    """Seconds that an attempt has until the head of its response: what earlier attempts have left of head_timeout.

    Args:
        head_timeout: seconds that the request has in all.
        spent: seconds that earlier attempts took.
        may_retry: whether another endpoint can be asked if this attempt is too slow.

    Returns:
        The seconds, and whether they are the attempt's own: fewer than the request has left.

    >>> attempt_timeout(RetryConfig(try_timeout=2.0), head_timeout=30.0, spent=0.0, may_retry=True)
    (2.0, True)
    >>> attempt_timeout(RetryConfig(try_timeout=2.0), head_timeout=30.0, spent=29.5, may_retry=False)
    (1.0, False)
    """
    left = max(head_timeout - spent, min(head_timeout, LEAST_ATTEMPT))
    is_own = may_retry and config.try_timeout < left
    return (config.try_timeout if is_own else left), is_own


def replaces(status: int, config: RetryConfig, *, is_repeatable: bool, awaits_stream: bool) -> bool:
    """Whether another endpoint is asked if one answers so.

    >>> replaces(503, RetryConfig(), is_repeatable=True, awaits_stream=False)
    False
    >>> replaces(503, RetryConfig(on={503}), is_repeatable=True, awaits_stream=False)
    True
    """
    return (is_repeatable and status in config.on) or (awaits_stream and status >= 500)


def is_free(error: UpstreamError, retries: int) -> bool:
    """Whether sending a request again draws nothing from the budget.

    Args:
        error: of the try that failed.
        retries: of the request so far.
    """
    return retries == 0 and isinstance(error, ConnectFailed | ConnectTimeout)


def wait_before(retry: int, config: RetryConfig, rng: random.Random) -> float:
    """Seconds to wait before a retry because of a status.

    Args:
        retry: its number, from 1 on.
    """
    return rng.uniform(0.0, config.backoff * min(LONGEST_BACKOFF, 2.0 ** (retry - 1)))


def retry_after(named: Mapping[bytes, Sequence[bytes]], wall_clock: Callable[[], float]) -> float:
    """Seconds that a response asks its client to wait (RFC 9110 §10.2.3); 0 if it does not.

    Args:
        wall_clock: gives the seconds since 1970, for Retry-After may be a date.
    """
    values = named.get(b"retry-after")
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
    """How many of a service's requests may be sent again: a share of those of late, and a few in any case.

    Each request pays its share in, each retry takes one out, and what is not used fades within WINDOW. The share is of
    the requests of the last seconds, not of those in flight now, because an endpoint that is killed fails
    all it has in flight in the same instant: just then a share of what is in flight is too little. What can be
    saved up for that instant is WINDOW's worth, which bounds what a service gets more than its share when all of it
    begins to fail: with 20 %, of the requests of 0.4 s.
    """

    WINDOW = 2.0  # seconds; Linkerd's ten would bear three tries of each request for the first second
    FOLD = 0.02  # seconds in which requests are only counted: what fades in between is less than 1 %

    __slots__ = ("_balance", "_config", "_seen_at", "_unfolded")

    def __init__(self, config: RetryConfig) -> None:
        self._config = config
        self._balance = config.budget_floor
        self._seen_at = -math.inf
        self._unfolded = 0  # requests that have come since

    def reconfigure(self, config: RetryConfig) -> None:
        """Use another configuration. The balance stays, and moves towards the new floor."""
        self._config = config

    def pay_in(self, now: float) -> None:
        """A request has come."""
        if now - self._seen_at >= self.FOLD:
            self._fold(now)
        self._unfolded += 1

    def _fold(self, now: float) -> None:
        self._balance, self._seen_at, self._unfolded = self.balance(now), now, 0

    def take(self, now: float) -> bool:
        """Take a retry out, if there is one."""
        self._fold(now)
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def balance(self, now: float) -> float:
        """Retries that there are."""
        floor = self._config.budget_floor
        kept = math.exp(min(0.0, self._seen_at - now) / self.WINDOW)
        return floor + (self._balance + self._unfolded * self._config.budget_share - floor) * kept
