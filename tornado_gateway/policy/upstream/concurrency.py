"""Adaptive concurrency: a limit of the requests in flight at a service, computed from the latency.

The limit grows while more requests in flight do not raise the latency, and shrinks when requests queue inside the
service:

    gradient = least latency x (1 + tolerance) / latency now       0.5 to 2
    limit    = gradient x limit + √limit                            √: a queue that is always allowed

From time to time the limit falls to its minimum and the least latency is measured again: a service that is always busy
never shows the least latency.

Streams are neither counted nor sampled.

Source: Envoy's gradient controller, after Netflix's concurrency-limits.
"""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdaptiveConfig:
    """How the limit follows the latency.

    Attributes:
        least, most: bounds of the limit; ≥ 1.
        tolerance: share by which the latency may exceed the least latency before the limit shrinks.
        window: seconds between two computations of the limit.
        samples: requests that a computation of the limit, or of the least latency, needs.
        percentile: quantile of the sampled latencies that represents a window, 0 to 1.
        measure_every: seconds between two measurements of the least latency; ± 10 % at random, so that several
            gateways do not measure together.
    """

    least: int = 3
    most: int = 1000
    tolerance: float = 0.25
    window: float = 0.1
    samples: int = 20
    percentile: float = 0.9
    measure_every: float = 60.0


class AdaptiveLimit:
    """The limit of one service.

    Attributes:
        limit: requests that may be in flight now.
        least_latency: seconds; 0 before the first measurement.
    """

    __slots__ = ("_before", "_began", "_config", "_measure_at", "_rng", "_samples", "least_latency", "limit")

    def __init__(self, config: AdaptiveConfig, rng: random.Random) -> None:
        self._config, self._rng = config, rng
        self._samples: list[float] = []
        self._began = self._measure_at = -math.inf
        self._before: int | None = None  # the limit to go back to after measuring; None while not measuring
        self.limit = config.least
        self.least_latency = 0.0

    @property
    def is_measuring(self) -> bool:
        """Whether the least latency is being measured."""
        return self._before is not None

    def add(self, now: float, seconds: float, in_flight: int) -> None:
        """Add the latency of a request with a good answer.

        Args:
            seconds: from the request to the head of the response.
            in_flight: requests in flight, with this request.
        """
        if self.is_measuring and now - seconds < self._began:
            return
        config, samples = self._config, self._samples
        samples.append(seconds)
        if now >= self._measure_at and not self.is_measuring:
            self._begin_to_measure(now)
        elif len(samples) >= config.samples and (self.is_measuring or now - self._began >= config.window):
            latency = sorted(samples)[min(int(len(samples) * config.percentile), len(samples) - 1)]
            self._samples, self._began = [], now
            if self.is_measuring:
                self._end_measuring(latency)
            else:
                self._adjust(latency, in_flight)

    def _begin_to_measure(self, now: float) -> None:
        config = self._config
        self._before, self.limit = self.limit, config.least
        self._began = now
        self._measure_at = now + config.measure_every * (1 + self._rng.uniform(-0.1, 0.1))
        self._samples = []

    def _end_measuring(self, latency: float) -> None:
        self.least_latency = max(latency, 1e-6)
        self.limit, self._before = self._before or self.limit, None

    def _adjust(self, latency: float, in_flight: int) -> None:
        config = self._config
        gradient = min(max(self.least_latency * (1 + config.tolerance) / max(latency, 1e-6), 0.5), 2.0)
        wanted = gradient * self.limit + math.sqrt(self.limit)
        if wanted > self.limit and in_flight * 2 < self.limit:
            return  # the limit delays no request: a limit that is not used is not known to be good
        self.limit = int(min(max(wanted, config.least), config.most))
