"""Rebalancing: how many streams of which endpoints to end, so that the clients reconnect to less loaded endpoints.

Streams last for hours. During an outage of one endpoint, the other endpoints get all new streams, and keep these
streams after the outage. Moving a stream means ending the stream cleanly: the client reconnects, and the balancer
chooses an endpoint with fewer streams. That disturbs the client, so streams are moved only within limits:

    an endpoint gives      at most the streams above its share and above a tolerance
    while another          is healthy, is past slow start, and is at least one stream below its share
    at most in all         the streams that the other endpoints lack, minus the moved streams that have not returned
    at most per second     the configured rate

An endpoint in slow start receives no streams: the balancer would send most of the moved streams back. Moving stops when
clients return to the same endpoint for another reason (a session, a key, a lower latency): see `Rebalancing`.

This module does not choose the streams to end: upkeep/streams.py does.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping

from tornado_gateway.policy.token_bucket import TokenBucket
from tornado_gateway.policy.upstream.endpoint import Endpoint

TOLERANCE = 0.1  # share by which an endpoint may exceed its share of the streams
MIN_SURPLUS = 2  # streams above an endpoint's share below which nothing is moved
RECONNECT_TIME = 10.0  # seconds in which a client should reconnect: RETRY_MS of policy/http/sse.py and a margin
MAX_LEFT = 0.75  # share of a surplus that may be left after a round; with more left, the round has not helped


def surplus(held: Mapping[Endpoint, int], away: int, now: float, slow_start: float) -> dict[Endpoint, int]:
    """How many streams each endpoint should give, the largest surplus first.

    Args:
        held: streams of each admitted endpoint.
        away: moved streams whose clients have not reconnected: these streams will take up room.
        slow_start: seconds; see Endpoint.share().
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
        tolerated = max(math.floor(share * (1 + TOLERANCE)), math.ceil(share + MIN_SURPLUS) - 1)
        count = min(held[endpoint] - tolerated, room)
        if count > 0:
            gives[endpoint] = count
            room -= count
    return gives


def takes_streams(endpoint: Endpoint, now: float, slow_start: float) -> bool:
    """Whether an admitted endpoint should receive moved streams: healthy, which in a panic not all are, and settled."""
    return endpoint.healthy and endpoint.share(now, slow_start) == 1.0


class Rebalancing:
    """Moves the streams of one service, in rounds.

    A round moves as many streams as the surplus at the start of the round. The next round begins only if the round has
    reduced the surplus, if other endpoints receive streams now, or if the surplus has vanished in between. Clients that
    always return to the same endpoint are therefore not disconnected forever.

    Args:
        per_second: streams that may be moved per second, and at once after a pause; > 0.
        now: seconds on any monotonic clock.
    """

    def __init__(self, per_second: int, now: float) -> None:
        self.per_second = per_second
        self._bucket = TokenBucket(per_second, now)
        self._away: deque[float] = deque()  # when each moved stream was moved whose client has not reconnected
        self._held = 0  # streams at the last take(), without the streams moved then
        self._takers: dict[Endpoint, int] = {}  # weights of the endpoints that receive streams
        self._round_size = math.inf  # the surplus at the start of the round
        self._left = 0  # streams that the round may still move

    def take(
        self, endpoints: Iterable[Endpoint], leaving: Mapping[Endpoint, int], now: float, slow_start: float
    ) -> dict[Endpoint, int]:
        """Take the streams to move now: how many of which endpoint.

        Args:
            leaving: streams of each endpoint that are ending, but still count.
        """
        held = {each: each.streams - leaving.get(each, 0) for each in endpoints if each.is_admitted}
        self._count_returned(sum(held.values()), now)
        self._update_takers({each: each.weight for each in held if takes_streams(each, now, slow_start)})
        gives = surplus(held, len(self._away), now, slow_start)
        self._begin_round(sum(gives.values()))
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

    def _count_returned(self, held: int, now: float) -> None:
        """Count as returned each stream more than at the last take(), and each stream moved RECONNECT_TIME ago."""
        for _ in range(min(held - self._held, len(self._away))):
            self._away.popleft()
        while self._away and self._away[0] <= now - RECONNECT_TIME:
            self._away.popleft()
        self._held = held

    def _update_takers(self, takers: dict[Endpoint, int]) -> None:
        if takers != self._takers:
            self._takers = takers
            self._round_size, self._left = math.inf, 0

    def _begin_round(self, total: int) -> None:
        """Begin a round if the last round has helped, and all of its streams have returned."""
        if self._away:
            return
        if not total:
            self._round_size, self._left = math.inf, 0
        elif not self._left and total <= self._round_size * MAX_LEFT:
            self._round_size = self._left = total
