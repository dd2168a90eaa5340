"""How long an endpoint takes to answer, and how that is forgotten.

Two estimates of the time to a response's head:

    average   moves a fifth of the way with each sample: what is shown
    peak      goes up at once and comes down with time alone: Finagle's peak EWMA, which fades each time it is read,
              read all the time; here, reading changes nothing

The peak fades while nothing is asked, or an endpoint that was slow once would never be asked again. For the same reason
what an average says ends: when it is STALE times as old as it is long, or OLDEST.

A failure that comes fast must not look like a fast answer: it is taken for one that took
PENALTY, or as long as the endpoint asked to be left alone. (Linkerd does so since 2026; others send most
requests to the endpoint that refuses them soonest.)
"""

import math

ALPHA = 0.2  # weight of the newest sample in the average; the public score of this gateway's family
DECAY = 10.0  # seconds in which what is not confirmed falls to 1/e of itself; Finagle's default
PENALTY = 5.0  # seconds that a failure is taken for
PROBE_AFTER = 1.0  # seconds until an endpoint that has failed is asked again, to see; unless it wishes otherwise
STALE = 100.0  # times itself that an average holds unconfirmed: to look again then takes 1 % of the time
OLDEST = 30.0  # seconds that any average does: a request in so long is little to lose, however slow the answer
FLEETING = 0.01  # seconds in which nothing fades, so that not every sample costs an exponential; 0.1 % would have
NEGLIGIBLE = 0.001  # seconds of penalty that are none any more: 85 s after the failure
LONGEST_PENALTY = 300.0  # seconds; whatever Retry-After says


class Latency:
    """
    Attributes:
        average: seconds, as it was at the newest sample; 0 before the first.
        last: seconds of the newest sample; 0 before the first.
        seen_at: instant of the newest sample, FLEETING earlier at most; -math.inf before the first, and once forgotten.
        full_penalty: seconds that failures were taken for, before any of them faded; 0 if there is none to be seen.
        probe_at: instant from which on an endpoint that has failed should be asked again; -math.inf if it has not.
        rests_until: instant until which it has asked to be left alone; -math.inf if it has not.
        penalised_at: instant of its newest failure; -math.inf if it had none.
    """

    __slots__ = (
        "_lately", "_peak", "average", "full_penalty", "last", "penalised_at", "probe_at", "rests_until", "seen_at",
    )  # fmt: skip

    def __init__(self) -> None:
        self.average = self.last = self._lately = self._peak = self._lately = self.full_penalty = 0.0
        self.seen_at = self.rests_until = self.penalised_at = self.probe_at = -math.inf

    def add(self, now: float, seconds: float) -> None:
        """Take a sample. It replaces as much of the average as has faded: all of one that says nothing any more."""
        weight, age = ALPHA, now - self.seen_at
        if age >= FLEETING:
            kept = _kept(self.seen_at, now)
            self._peak *= kept
            weight = 1.0 if age >= STALE * self.average or age >= OLDEST else max(weight, 1 - kept)
            self.seen_at = now
        self.average = (1 - weight) * self.average + weight * seconds
        self._lately = min(seconds, self.last) if self._lately else seconds
        self.last = seconds
        self._peak = max(self._peak, seconds)

    def penalise(self, now: float, retry_after: float = 0.0) -> None:
        """Take a failure for a slow answer.

        Args:
            retry_after: seconds for which the endpoint asked to be left alone: so long it fades not at all.
        """
        wanted = min(retry_after, LONGEST_PENALTY)
        self.full_penalty = max(wanted, PENALTY, self.penalty(now))
        self.rests_until = max(now + wanted, self.rests_until)
        self.penalised_at = now
        self.probe_at = max(now + max(wanted, PROBE_AFTER), self.probe_at)

    def peak(self, now: float) -> float:
        """Seconds to expect, going by the worst that was seen of late.

        >>> latency = Latency()
        >>> latency.add(0.0, 1.0)
        >>> round(latency.peak(10.0), 3)
        0.368
        """
        peak = self._peak and self._peak * _kept(self.seen_at, now)
        return max(peak, self.penalty(now)) if self.full_penalty else peak

    def expected(self, now: float) -> float:
        """Seconds to expect: the least of the average and the two newest answers; 0 if they are too old.

        The least, so that a single slow answer decides nothing: an endpoint that gets fewer requests for one
        would show late that it was the only one.
        """
        average, age = self.average, now - self.seen_at
        seconds = 0.0 if age >= STALE * average or age >= OLDEST else min(average, self._lately)
        return max(seconds, self.penalty(now)) if self.full_penalty else seconds

    def penalty(self, now: float) -> float:
        """Seconds that are left of what failures were taken for."""
        left = self.full_penalty and self.full_penalty * _kept(self.rests_until, now)
        return left if left >= NEGLIGIBLE else 0.0

    def clear_penalty(self, since: float) -> bool:
        """Take the penalty away: a request was answered well; whether there was any.

        How long that took is forgotten, too: it may have begun while the endpoint still hung.

        Args:
            since: when it was sent; if that was before the last failure, it shows nothing.
        """
        if not self.full_penalty or since < self.penalised_at:
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """What was known is no longer true: the endpoint has come back. The average is kept for those who look."""
        self._peak = self._lately = self.full_penalty = 0.0
        self.seen_at = self.rests_until = self.probe_at = -math.inf


def _kept(since: float, now: float) -> float:
    """The share of an estimate that is left."""
    return math.exp((since - now) / DECAY) if now > since else 1.0
