"""When an endpoint is left alone, and how it comes back.

            failures in the window,               the opening is over
            or too large a share of them
    CLOSED ─────────────────────────► OPEN ─────────────────────────► HALF_OPEN
       ▲                                ▲                                │  │
       │                                └── a probe fails: for twice ────┘  │
       │                                    as long, up to a limit          │
       └────────────────────── a probe succeeds ────────────────────────────┘

A service closes a breaker as well when the endpoint's health checks, which had failed, pass again; and, where no
endpoint passes and so all are used, at the first good answer to a request that was sent since the opening.

While HALF_OPEN only as many requests pass at once as there are probes, and only they decide: the late
success of a request that was sent before says nothing about the endpoint now. A request whose client
leaves decides nothing either; it gives its probe back.

The state is computed from the time, not switched by a timer. Reading it changes nothing.

Sources: M. Nygard, Release It! (the pattern); Envoy's outlier detection (longer and longer
ejections); resilience4j (the slow-call rule).
"""

import math
import random
from collections import deque
from dataclasses import dataclass
from enum import Enum

BUCKETS = 10  # that the window of the share rules is counted in

# Failures that are fewer than this share of all requests since the first of them open nothing: at 1,000
# requests a second, five in ten seconds are a success rate of 99.95 %.
LEAST_SHARE = 0.05


class State(Enum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Durations are seconds.

    Attributes:
        failures: within the window that open it; 0 for no such rule. Five in ten seconds, and fifteen of
            being open, are what this gateway's family has always had.
        window: > 0; also of the shares below.
        open_for: the first time; > 0.
        longest: an opening takes at most this long, or open_for if that is longer. Envoy's default.
        jitter: share by which an opening is longer or shorter at random, so that endpoints do not come back together.
        probes: requests that pass at once while HALF_OPEN; ≥ 1.
        failure_share: of all requests in the window that opens it; 0 for no such rule.
        slow_after: seconds to a response's head; a request that takes longer is slow. math.inf: this rule is off.
        slow_share: share of slow requests in the window that opens the breaker; > 0.
        minimum: requests in the window below which no share is taken for one.
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


@dataclass(slots=True)
class _Bucket:
    begin: float
    requests: int = 0
    failures: int = 0
    slow: int = 0


class Breaker:
    """
    Args:
        rng: for jitter.

    Attributes:
        is_open: whether it is OPEN or HALF_OPEN.
        ordinary: the permit of a request that probes nothing: below 0, another one after each opening; 0 while it is
            open. What was sent before an opening says nothing about the endpoint after it, however late it fails.
        watches_shares: whether it has a rule about shares, so that it has to be told of each success.
        requests: that ended. While it is CLOSED and watches no shares, a success may just be added here.
        opened: how often it has.
        opened_at: instant at which it did last, counted from CLOSED; -math.inf if it never did.
        tripped_at: instant of its newest opening, that after a failed probe among them; -math.inf if it never opened.
        open_until: instant at which it is (or was) HALF_OPEN; -math.inf if it never opened.
    """

    __slots__ = (
        "_buckets", "_closed_at", "_config", "_failed", "_level", "_period", "_probing", "_rng", "closed_permit",
        "is_open", "open_until", "opened", "opened_at", "requests", "tripped_at", "watches_shares",
    )  # fmt: skip

    def __init__(self, config: BreakerConfig, rng: random.Random) -> None:
        self._config, self._rng = config, rng
        self.watches_shares = bool(config.failure_share or config.slow_after < math.inf)
        self.requests = 0
        self._failed: deque[tuple[float, int]] = deque(maxlen=config.failures)  # when, and how many requests before
        self._buckets: deque[_Bucket] = deque(maxlen=BUCKETS + 1)
        self._period = 0  # counts openings; a probe belongs to the half-open time behind one
        self._probing = 0
        self._level = 0  # how often the next opening is twice as long as the first
        self._closed_at = -math.inf
        self.is_open = False
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
        """Count a request in, whether it passes or is sent although it does not: then it is no probe, and decides
        nothing.

        Returns:
            A permit for `end()`.
        """
        if not self.is_open or now < self.open_until or self._probing >= self._config.probes:
            return self.closed_permit
        self._probing += 1
        return self._period

    def end(self, permit: int, now: float, *, failed: bool | None, seconds: float = 0.0) -> None:
        """Count a request out; once for each permit.

        Args:
            failed: None if it says nothing about the endpoint.
            seconds: until the head of its answer.
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
        return now - since <= self._config.window and len(self._failed) >= LEAST_SHARE * requests

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
        self.is_open = True
        self.closed_permit = 0
        self._period += 1
        self._probing = 0
        self.opened += 1

    def _shorten_opening(self, now: float) -> None:
        """Shorten the next opening by one step for each time of the first one that the endpoint was healthy."""
        if self._level:
            self._level = max(0, self._level - int((now - self._closed_at) / self._config.open_for))

    def close(self, now: float) -> None:
        """The endpoint works again. What its next opening takes does not change by that."""
        self.is_open = False
        self.closed_permit = -1 - self._period
        self._closed_at = now
        self._failed.clear()
        self._buckets.clear()

    # ---- from outside

    def force_open(self, now: float, seconds: float) -> None:
        """Open for so many seconds. The next opening is no longer for that."""
        if not self.is_open:
            self.opened_at = now
        self._begin_opening(now, now + seconds)

    def reset(self, now: float) -> None:
        """Close, and forget all failures and openings, so that the next opening is as short as the first."""
        self.close(now)
        self._level = 0

    def reconfigure(self, config: BreakerConfig) -> None:
        """Use another configuration. An opening that runs lasts as long as it was to last."""
        self._config = config
        self.watches_shares = bool(config.failure_share or config.slow_share)
        self._failed = deque(self._failed, maxlen=config.failures)
