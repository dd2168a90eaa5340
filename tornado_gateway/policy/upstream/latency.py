"""The latency of an endpoint: seconds to a response's head, estimated from samples that expire.

    average   moves by a fifth of the difference with each sample; shown in figures
    peak      rises at once, falls with time alone: Finagle's peak EWMA, but reading changes nothing

The peak falls while the endpoint gets no requests: otherwise an endpoint that was slow once would never be chosen
again. Under light load even 1 ms of difference would exclude an endpoint for long. An average therefore expires after
STALE x its own value, at most OLDEST seconds.

A failure counts as a response that took PENALTY seconds, or as long as a Retry-After says: a fast failure must not
look like a fast answer and attract traffic. (Linkerd does so since 2026.)
"""

import math

ALPHA = 0.2  # weight of the newest sample in the average; the public score of this gateway's family
DECAY = 10.0  # seconds in which a peak or a penalty falls to 1/e; Finagle's default
PENALTY = 5.0  # seconds that a failure counts for
PROBE_AFTER = 1.0  # seconds from a failure to the next probe; a Retry-After may delay the probe
STALE = 100.0  # an average expires after STALE x its value without a sample: a new sample then costs 1 % of the time
OLDEST = 30.0  # seconds after which any average expires: one slow answer in 30 s costs little
DECAY_STEP = 0.01  # seconds without decay, which would be 0.1 %: not every sample costs an exponential
MIN_PENALTY = 0.001  # seconds; a smaller penalty counts as none: 85 s after the failure
MAX_PENALTY = 300.0  # seconds, whatever Retry-After says


class Latency:
    """The latency and the penalty of one endpoint.

    Attributes:
        average: seconds, at the newest sample; 0 before the first.
        last: seconds of the newest sample; 0 before the first.
        seen_at: instant of the newest sample, or up to DECAY_STEP earlier; -math.inf before the first and after
            forget().
        full_penalty: seconds of the penalty at the newest failure, before any decay; 0 without a penalty.
        probe_at: instant of the next probe of a failed endpoint; -math.inf without a penalty.
        rests_until: instant at which the endpoint's Retry-After ends; -math.inf without one.
        penalised_at: instant of the newest failure; -math.inf before the first.
    """

    __slots__ = (
        "_recent", "_peak", "average", "full_penalty", "last", "penalised_at", "probe_at", "rests_until", "seen_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.average = self.last = self._recent = self._peak = self.full_penalty = 0.0
        self.seen_at = self.rests_until = self.penalised_at = self.probe_at = -math.inf

    def add(self, now: float, seconds: float) -> None:
        """Add a sample. The weight of the sample grows with the age of the average; an expired average is replaced."""
        weight, age = ALPHA, now - self.seen_at
        if age >= DECAY_STEP:
            kept = _kept(self.seen_at, now)
            self._peak *= kept
            weight = 1.0 if age >= STALE * self.average or age >= OLDEST else max(weight, 1 - kept)
            self.seen_at = now
        self.average = (1 - weight) * self.average + weight * seconds
        # Comparisons: CPython 3.11 spends on a call of min() or max() what the rest of this method costs.
        self._recent = self.last if self._recent and self.last < seconds else seconds
        self.last = seconds
        self._peak = seconds if seconds > self._peak else self._peak

    def penalise(self, now: float, retry_after: float = 0.0) -> None:
        """Count a failure as a slow answer.

        Args:
            retry_after: seconds of the endpoint's Retry-After, during which the penalty does not decay; 0 without one.
        """
        rest = min(retry_after, MAX_PENALTY)
        self.full_penalty = max(rest, PENALTY, self.penalty(now))
        self.rests_until = max(now + rest, self.rests_until)
        self.penalised_at = now
        self.probe_at = max(now + max(rest, PROBE_AFTER), self.probe_at)

    def peak(self, now: float) -> float:
        """The expected latency in seconds, by the slowest recent sample.

        >>> latency = Latency()
        >>> latency.add(0.0, 1.0)
        >>> round(latency.peak(10.0), 3)
        0.368
        """
        peak = self._peak and self._peak * _kept(self.seen_at, now)
        return max(peak, self.penalty(now)) if self.full_penalty else peak

    def expected(self, now: float) -> float:
        """The expected latency in seconds: the minimum of the average and the two newest samples; 0 if expired.

        The minimum, so that a single slow answer decides nothing: with fewer requests, the endpoint would show late
        that other answers are fast.
        """
        average, age = self.average, now - self.seen_at
        seconds = 0.0 if age >= STALE * average or age >= OLDEST else min(average, self._recent)
        return max(seconds, self.penalty(now)) if self.full_penalty else seconds

    def penalty(self, now: float) -> float:
        """The penalty in seconds, after decay."""
        left = self.full_penalty and self.full_penalty * _kept(self.rests_until, now)
        return left if left >= MIN_PENALTY else 0.0

    def clear_penalty(self, since: float) -> bool:
        """Clear the penalty after a good answer. The latency is forgotten too: the endpoint may have hung at first.

        Args:
            since: when the answered request was sent. Before the newest failure, the answer clears nothing.

        Returns:
            Whether a penalty was cleared.
        """
        if not self.full_penalty or since < self.penalised_at:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Forget latency and penalty, because the endpoint has recovered. The average stays, for figures."""
        self._peak = self._recent = self.full_penalty = 0.0
        self.seen_at = self.rests_until = self.probe_at = -math.inf


def _kept(since: float, now: float) -> float:
    """The share of an estimate that is left after decay, 0 to 1."""
    return math.exp((since - now) / DECAY) if now > since else 1.0
