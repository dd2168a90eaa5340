"""When an endpoint counts as healthy by what checks of it have shown, and when to look again.

One check that fails says little: a deployment, a lost packet. `fall` in a row make an endpoint unhealthy, `rise` in a
row make it healthy again; while it is down one looks more often, because every check
then shortens an outage. (HAProxy's words: rise, fall, and "inter" and "downinter" for the intervals.)
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
    """
    Attributes:
        kind: OFF checks nothing; TCP makes a connection; HTTP requests the path; WEBSOCKET makes a handshake there.
        path: below the endpoint's base path.
        statuses: that mean healthy, of HTTP; of WEBSOCKET, 101 alone does.
        interval: seconds between two checks; > 0.
        interval_down: seconds between two checks of an endpoint that is down; > 0.
        jitter: share by which an interval is longer or shorter at random, so that checks do not come in step.
        timeout: seconds for a check; > 0.
        rise, fall: checks in a row that change an endpoint's health; ≥ 1.
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
        """Of the durations whose end a sweep notices."""
        return min(self.interval, self.interval_down)

    @property
    def expected(self) -> Collection[int]:
        """Statuses that mean healthy."""
        return (101,) if self.kind is HealthKind.WEBSOCKET else self.statuses


class Health:
    """What the checks of one endpoint have shown. It begins healthy: a gateway that starts must not wait for checks.

    Attributes:
        is_up: whether the endpoint counts as healthy.
    """

    __slots__ = ("_config", "_contrary", "is_up")

    def __init__(self, config: HealthConfig) -> None:
        self._config = config
        self._contrary = 0  # checks in a row that speak against what is believed
        self.is_up = True

    def record(self, *, passed: bool) -> bool:
        """Take a check's result; whether the endpoint's health has changed."""
        if passed is self.is_up:
            self._contrary = 0
            return False
        self._contrary += 1
        if self._contrary < (self._config.fall if self.is_up else self._config.rise):
            return False
        self.is_up, self._contrary = passed, 0
        return True

    def pause(self, rng: random.Random) -> float:
        """Seconds until the next check."""
        interval = self._config.interval if self.is_up and not self._contrary else self._config.interval_down
        return interval * (1 + self._config.jitter * rng.uniform(-1, 1))

    def first_pause(self, rng: random.Random) -> float:
        """Seconds until the first check: anywhere within an interval, so that checks are spread from the start."""
        return self._config.interval * rng.random()
