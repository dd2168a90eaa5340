"""Active health checks: whether an endpoint is healthy by the results of checks, and when the next check is due.

    UP ── `fall` failed checks in a row ──► DOWN ── `rise` passed checks in a row ──► UP

A single failed check says little: a deployment, a lost packet. While an endpoint is down, checks are more frequent,
because each check can shorten an outage. (HAProxy's terms: rise, fall, inter, downinter.)

This module sends no checks: upkeep/health_checks.py does.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


class HealthKind(Enum):
    """How an endpoint is checked."""

    OFF = "off"
    HTTP = "http"
    TCP = "tcp"
    WEBSOCKET = "websocket"


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """How the endpoints of a service are checked.

    Attributes:
        kind: OFF: no checks; TCP: connect; HTTP: request the path; WEBSOCKET: handshake at the path.
        path: target of a check, below the endpoint's base path.
        statuses: HTTP statuses that pass; a WEBSOCKET check passes with 101 only.
        interval: seconds between two checks; > 0.
        interval_down: seconds between two checks of an endpoint that is down; > 0.
        jitter: share by which an interval is longer or shorter at random, so that checks spread out.
        timeout: seconds for a check; > 0.
        rise: passed checks in a row after which an endpoint is up; ≥ 1.
        fall: failed checks in a row after which an endpoint is down; ≥ 1.
    """

    kind: HealthKind = HealthKind.OFF
    path: str = "/"
    statuses: Collection[int] = frozenset(range(200, 400))
    interval: float = 10.0
    interval_down: float = 2.0
    jitter: float = 0.1
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3

    @property
    def shortest_timeout(self) -> float:
        """The shortest duration, in seconds, whose end a periodic sweep notices."""
        return min(self.interval, self.interval_down)

    @property
    def longest_pause(self) -> float:
        """Seconds between two checks at most."""
        return max(self.interval, self.interval_down) * (1 + self.jitter)

    @property
    def expected(self) -> Collection[int]:
        """Statuses that pass."""
        return (101,) if self.kind is HealthKind.WEBSOCKET else self.statuses


class Health:
    """The health of one endpoint, by checks. An endpoint begins healthy: a starting gateway must not wait for checks.

    Each call takes the configuration, because a service may be reconfigured between two checks.

    Attributes:
        is_up: whether the endpoint is healthy.
    """

    __slots__ = ("_contrary", "is_up")

    def __init__(self) -> None:
        self._contrary = 0  # checks in a row that contradict is_up
        self.is_up = True

    def follow(self, *, up: bool) -> None:
        """Take over the health that another process has found."""
        if up is not self.is_up:
            self.is_up, self._contrary = up, 0

    def record(self, config: HealthConfig, *, passed: bool) -> bool:
        """Record the result of a check. Returns whether `is_up` has changed."""
        if passed is self.is_up:
            self._contrary = 0
            return False
        self._contrary += 1
        if self._contrary < (config.fall if self.is_up else config.rise):
            return False
        self.is_up, self._contrary = passed, 0
        return True

    def pause(self, config: HealthConfig, rng: random.Random) -> float:
        """Seconds until the next check."""
        interval = config.interval if self.is_up and not self._contrary else config.interval_down
        return interval * (1 + config.jitter * rng.uniform(-1, 1))


def first_pause(config: HealthConfig, rng: random.Random) -> float:
    """Seconds until the first check: random within an interval, so that checks spread out from the start."""
    return config.interval * rng.random()
