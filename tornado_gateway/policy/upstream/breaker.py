"""A circuit breaker: when an endpoint gets no requests, and when the endpoint gets requests again.

            too many failures in the window,      the opening has ended
            or too large a share of failures
    CLOSED ─────────────────────────► OPEN ─────────────────────────► HALF_OPEN
       ▲                                ▲                                │  │
       │                                └── a probe fails: opened for ───┘  │
       │                                    twice as long, up to a limit    │
       └────────────────────── a probe succeeds ────────────────────────────┘

A breaker does not decide whether the endpoint is ejected: policy/upstream/endpoint_set.py does. A service also closes
a breaker when failed health checks of the endpoint pass again, and, in a panic without any healthy endpoint, at the
first good answer to a request that was sent after the opening.

While the breaker is HALF_OPEN, a limited number of probes pass, and only probes decide: the late success of an
older request says nothing about the endpoint now. A probe whose client leaves decides nothing and makes room for
another probe.

The state is computed from the time; no timer changes the state. Reading the state changes nothing.

Sources: M. Nygard, Release It! (the pattern); Envoy's outlier detection (growing ejection times); resilience4j (the
slow-call rule).
"""

import math
import random
from collections import deque
from dataclasses import dataclass
from enum import Enum

BUCKETS = 10  # parts of the window in which the share rules count

# The rule `failures` opens a breaker only if at least this share of the requests since the first failure failed: at
# 1,000 requests per second, five failures in ten seconds are a success rate of 99.95 %.
MIN_FAILURE_SHARE = 0.05


class State(Enum):
    """The state of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens, and for how long.

    Attributes:
        failures: failures within the window that open the breaker; 0: this rule is off. Five failures in ten seconds
            and an opening of fifteen seconds are this gateway family's traditional values.
        window: seconds of the rule `failures` and of the share rules; > 0.
        open_for: seconds of the first opening; > 0.
        longest: seconds of the longest opening; open_for if that is longer. The default is Envoy's.
        jitter: share by which an opening is longer or shorter at random, so that endpoints do not return together.
        probes: requests that pass at once while the breaker is HALF_OPEN; ≥ 1.
        failure_share: share of failed requests in the window that opens the breaker; 0: this rule is off.
        slow_after: seconds to a response's head; a request that takes longer is slow. math.inf: this rule is off.
        slow_share: share of slow requests in the window that opens the breaker; > 0.
        minimum: requests in the window below which the share rules open nothing.
    """

    failures: int = 5
    window: float = 10.0
    open_for: float = 15.0
    longest: float = 300.0
    jitter: float = 0.1
    probes: int = 1
    failure_share: float = 0.0
    slow_after: float = math.inf
    slow_share: float = 1.0
    minimum: int = 10

    @property
    def has_share_rule(self) -> bool:
        """Whether a share of the requests may open the breaker."""
        return bool(self.failure_share or self.slow_after < math.inf)

    @property
    def is_on(self) -> bool:
        """Whether any rule may open the breaker."""
        return self.failures > 0 or self.has_share_rule


@dataclass(slots=True)
class _Bucket:
    begin: float
    requests: int = 0
    failures: int = 0
    slow: int = 0


class Breaker:
    """The circuit breaker of an endpoint.

    Args:
        rng: for jitter.

    Attributes:
        is_open: whether the breaker is OPEN or HALF_OPEN.
        closed_permit: token of a request that is no probe. Negative and new after each opening, so that late failures
            of requests from before an opening are recognised; 0 while the breaker is open.
        watches_shares: whether a share rule is on: then end() must hear of each success.
        requests: requests that ended. While the breaker is CLOSED and watches no shares, a caller may count a success
            here instead of calling end().
        opened: number of openings.
        opened_at: instant of the newest change from CLOSED to OPEN; -math.inf before the first.
        tripped_at: instant of the newest opening, also after a failed probe; -math.inf before the first.
        open_until: instant at which the newest opening ends; -math.inf before the first.
        is_hearsay: whether the breaker is open because another gateway says so, and not by what this one has seen.
    """

    __slots__ = (
        "_buckets", "_closed_at", "_config", "_failed", "_level", "_period", "_probing", "_rng", "closed_permit",
        "is_hearsay", "is_open", "open_until", "opened", "opened_at", "requests", "tripped_at", "watches_shares",
    )  # fmt: skip

    def __init__(self, config: BreakerConfig, rng: random.Random) -> None:
        self._config, self._rng = config, rng
        self.watches_shares = config.has_share_rule
        self.requests = 0
        self._failed: deque[tuple[float, int]] = deque(maxlen=config.failures)  # instant, and number of the request
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS + 1)
        self._period = 0  # number of openings: the permit of a probe after the newest opening
        self._probing = 0  # probes under way
        self._level = 0  # the next opening takes open_for x 2 ^ level
        self._closed_at = -math.inf
        self.is_open = self.is_hearsay = False
        self.closed_permit = -1
        self.opened = 0
        self.opened_at = self.tripped_at = self.open_until = -math.inf

    def state(self, now: float) -> State:
        if not self.is_open:
            return State.CLOSED
        return State.OPEN if now < self.open_until else State.HALF_OPEN

    def is_resting(self, now: float) -> bool:
        """Whether the breaker is OPEN: not even a probe passes."""
        return self.is_open and now < self.open_until

    def passes(self, now: float) -> bool:
        """Whether a request may be sent now."""
        return not self.is_open or (now >= self.open_until and self._probing < self._config.probes)

    def begin(self, now: float) -> int:
        """Count a request in. A request that does not pass may be sent all the same; it is no probe.

        Returns:
            A permit for `end()`.
        """
        if not self.is_open or now < self.open_until or self._probing >= self._config.probes:
            return self.closed_permit
        self._probing += 1
        return self._period

    def end(self, permit: int, now: float, *, failed: bool | None, seconds: float = 0.0) -> None:
        """Count a request out, once for each permit.

        Args:
            failed: whether the endpoint failed; None if the request says nothing about the endpoint.
            seconds: from the request to the head of the response.
        """
        is_probe = permit > 0 and self.is_open and permit == self._period
        if is_probe:
            self._probing -= 1
        if failed is None:
            return
        if not self.is_open:
            if permit in (self.closed_permit, self._period):
                self._count(now, failed, seconds)
        elif is_probe and failed:
            self._open(now)
        elif is_probe:
            self.close(now)

    def _count(self, now: float, failed: bool, seconds: float) -> None:
        self.requests += 1
        if (failed and self._count_failure(now)) or (
            self.watches_shares and self._count_in_shares(now, failed, seconds)
        ):
            self._open(now)

    def _count_failure(self, now: float) -> bool:
        self._failed.append((now, self.requests))
        if not self._failed or len(self._failed) < self._config.failures:
            return False
        since, number = self._failed[0]
        requests = self.requests - number + 1
        return now - since <= self._config.window and len(self._failed) >= MIN_FAILURE_SHARE * requests

    def _count_in_shares(self, now: float, failed: bool, seconds: float) -> bool:
        config, buckets = self._config, self._buckets
        if not buckets or now - buckets[-1].begin >= config.window / BUCKETS:
            buckets.append(_Bucket(now))
        newest = buckets[-1]
        newest.requests += 1
        newest.failures += failed
        newest.slow += seconds > config.slow_after
        recent = [bucket for bucket in buckets if now - bucket.begin <= config.window]
        requests = sum(bucket.requests for bucket in recent)
        return requests >= config.minimum and (
            0 < config.failure_share * requests <= sum(bucket.failures for bucket in recent)
            or config.slow_share * requests <= sum(bucket.slow for bucket in recent)
        )

    def _open(self, now: float) -> None:
        config = self._config
        if not self.is_open:
            self._shorten_opening(now)
            self.opened_at = now
        longest = max(config.open_for, config.longest)
        seconds = min(config.open_for * 2.0**self._level, longest)
        self._level += seconds < longest
        jittered = seconds * (1 + config.jitter * self._rng.uniform(-1, 1))
        self._begin_opening(now, now + min(jittered, longest))

    def _begin_opening(self, now: float, until: float) -> None:
        self.tripped_at, self.open_until = now, until
        self.is_open, self.is_hearsay = True, False
        self.closed_permit = 0
        self._period += 1
        self._probing = 0
        self.opened += 1

    def _shorten_opening(self, now: float) -> None:
        """Halve the next opening for each open_for seconds that the breaker was CLOSED."""
        if self._level:
            self._level = max(0, self._level - int((now - self._closed_at) / self._config.open_for))

    def close(self, now: float) -> None:
        """Close the breaker: the endpoint works. The length of the next opening does not change."""
        self.is_open = self.is_hearsay = False
        self.closed_permit = -1 - self._period
        self._closed_at = now
        self._failed.clear()
        self._buckets.clear()

    # ---- from outside

    @property
    def level(self) -> int:
        """The next opening takes open_for x 2 ^ level."""
        return self._level

    def learn(self, now: float, until: float | None, level: int) -> None:
        """Take over the change of the breaker of the same endpoint in another process, with the same clock.

        An opening is counted by the process whose requests have shown the failures. Of two openings at once, the longer
        counts.

        Args:
            until: instant at which the opening ends; None if the other breaker has closed.
            level: of the other breaker.
        """
        self._level = level
        if until is None:
            if self.is_open:
                self.close(now)
        elif until > self.open_until or not self.is_open:
            if not self.is_open:
                self.opened_at = now
            self._begin_opening(now, until)
            self.opened -= 1

    def hear(self, now: float, until: float) -> None:
        """Open because another gateway has found the endpoint broken. The own openings are not longer for it.

        Args:
            until: instant at which the opening ends; no opening becomes shorter.
        """
        if until > self.open_until or not self.is_open:
            self.learn(now, until, self._level)
            self.is_hearsay = True

    def force_open(self, now: float, seconds: float) -> None:
        """Open the breaker for a number of seconds. The next opening is not longer for this opening.

        Raises:
            ValueError: the number is not finite: figures and Retry-After show the end. drain() needs no end.
        """
        if not math.isfinite(seconds):
            raise ValueError("a breaker is opened for a finite time")
        if not self.is_open:
            self.opened_at = now
        self._begin_opening(now, now + seconds)

    def reset(self, now: float) -> None:
        """Close the breaker and forget all failures and openings: the next opening is as short as the first."""
        self.close(now)
        self._level = 0

    def reconfigure(self, config: BreakerConfig) -> None:
        """Use another configuration. A present opening keeps its end."""
        self._config = config
        self.watches_shares = config.has_share_rule
        self._failed = deque(self._failed, maxlen=config.failures)
