"""Which endpoints have more streams than their share, and how many of those may be moved now.

Streams last for hours. While an endpoint is out, the others get those that would have been its own, and keep them
when it is back. To move a stream is to end it well: its client asks again, and the balancer
gives it to whoever has fewer. That disturbs the client, so it is done only where it helps:

    an endpoint gives      what it has above its share, and above what is tolerated
    as long as another     has room for whole streams below its share, is well, and is past its slow start
    in all no more than    there is room for, what is still on its way counted
    and at a pace          of so many per second

While an endpoint's share of the traffic grows it takes nothing, because most of what
was moved for it would come back to where it was. And where clients come back to the same endpoint for
other reasons (a session, a key, an answer that is quicker), moving stops: see `Rebalancing`.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping

from tornado_gateway.policy.token_bucket import TokenBucket
from tornado_gateway.policy.upstream.endpoint import Endpoint

TOLERANCE = 0.1  # of its share that an endpoint may have more
LEAST = 2  # streams above its share that are worth a move
AWAY = 10.0  # seconds to wait for a stream's client to come back: policy/http/sse.py's RETRY_MS and some more
HELPED = 0.75  # of a surplus that may be left when as many streams have been moved


def surplus(held: Mapping[Endpoint, int], away: int, now: float, slow_start: float) -> dict[Endpoint, int]:
    """How many streams each endpoint should give, those with the largest surplus first.

    Args:
        held: what each endpoint has that may be chosen.
        away: streams that were moved and have not come back: they will go where there is room.
        slow_start: see Endpoint.share().
    """
    total, weights = sum(held.values()) + away, sum(endpoint.weight for endpoint in held)
    above = {endpoint: count - total * endpoint.weight / weights for endpoint, count in held.items()}
    room = (
        sum(int(-each) for endpoint, each in above.items() if each < 0 and takes_streams(endpoint, now, slow_start))
        - away
    )
    gives = {}
    for endpoint in sorted(above, key=above.__getitem__, reverse=True):
        share = total * endpoint.weight / weights
        tolerated = max(math.floor(share * (1 + TOLERANCE)), math.ceil(share + LEAST) - 1)
        count = min(held[endpoint] - tolerated, room)
        if count > 0:
            gives[endpoint] = count
            room -= count
    return gives


def takes_streams(endpoint: Endpoint, now: float, slow_start: float) -> bool:
    """Whether an endpoint that may be chosen should get streams of others: in a panic, that is not all of them."""
    return endpoint.healthy and endpoint.share(now, slow_start) == 1.0


class Rebalancing:
    """Moves the streams of one service, in rounds.

    In a round, as many are moved as were too many when it began. There is another one only if that has helped, or the
    endpoints that take streams are others, or what was too many has gone by itself meanwhile: so
    clients that always come back to the same endpoint are not sent away for ever.

    Args:
        per_second: streams that may be moved; > 0. After a pause no more than that at once.
        now: seconds on any monotonic clock.
    """

    def __init__(self, per_second: int, now: float) -> None:
        self.per_second = per_second
        self._bucket = TokenBucket(per_second, now)
        self._away: deque[float] = deque()  # when each was moved that has not come back
        self._held = 0  # streams at the last look, without those that were to be moved then
        self._takers: dict[Endpoint, int] = {}
        self._began_with = math.inf  # streams that were too many when the round began
        self._left = 0  # of them

    def take(
        self, endpoints: Iterable[Endpoint], leaving: Mapping[Endpoint, int], now: float, slow_start: float
    ) -> dict[Endpoint, int]:
        """How many streams of which endpoints are to be moved now.

        Args:
            leaving: streams of endpoints that were told to, but still count.
        """
        held = {each: each.streams - leaving.get(each, 0) for each in endpoints if each.is_admitted}
        self._expect(sum(held.values()), now)
        self._look_who_takes_streams({each: each.weight for each in held if takes_streams(each, now, slow_start)})
        gives = surplus(held, len(self._away), now, slow_start)
        self._look_if_it_helped(sum(gives.values()))
        moved = {}
        for endpoint, count in gives.items():
            most = min(count, self._left, int(self._bucket.available(now)))
            if most:
                moved[endpoint] = most
                self._spend(most, now)
        return moved

    def _spend(self, count: int, now: float) -> None:
        self._bucket.take(count)
        self._left -= count
        self._held -= count
        self._away.extend([now] * count)

    def _expect(self, held: int, now: float) -> None:
        """Whatever is more than at the last look has come back, as far as anybody can tell."""
        for _ in range(min(held - self._held, len(self._away))):
            self._away.popleft()
        while self._away and self._away[0] <= now - AWAY:
            self._away.popleft()
        self._held = held

    def _look_who_takes_streams(self, takers: dict[Endpoint, int]) -> None:
        if takers != self._takers:
            self._takers = takers
            self._began_with, self._left = math.inf, 0

    def _look_if_it_helped(self, too_many: int) -> None:
        """See whether another round may begin: none does before all of the last one are back."""
        if self._away:
            return
        if not too_many:
            self._began_with, self._left = math.inf, 0
        elif not self._left and too_many <= self._began_with * HELPED:
            self._began_with = self._left = too_many
