"""The newest requests, for operators: troubles apart from all others, so that good traffic does not push out failures.

    Journal ── at most PER_LOOK of each kind between two looks ──► two rings of KEPT ──► the dashboard, ctl

The bound between two looks makes the cost small whatever the rate: beyond the bound, a request costs one comparison.
The counts of the dashboard and of /metrics have all requests.

What is hidden follows the access log: LOG_QUERY says whether queries are shown, LOG_REDACT names what is hidden.

The numbers of requests are those of a clock that all workers share. So a list of the requests of several workers is in
the order of time, whatever the wall clock does, and no two requests have the same number.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tornado_gateway.errors import GatewayError, UpstreamError
from tornado_gateway.policy.http.redaction import HIDDEN, Redaction, without_tokens

KEPT = 250  # requests of each ring
PER_LOOK = 20  # requests of each kind between two looks: a look a second tells a viewer 8 KiB at most
MOST = 2 * KEPT  # requests of a page
TICKS = 100_000  # numbers of a second for each worker: JavaScript knows whole numbers for ten years of 280 workers
LONGEST_TARGET = 512  # bytes that are kept of a target
LONGEST = 120  # characters of a path, a query or a principal in the list
SLOW = 1.0  # seconds from which on a request is slow where SLOW_REQUEST_MS says nothing

FAILED, SLOW_ONE, FINE = "failed", "slow", "fine"
RANKS = (FAILED, SLOW_ONE, FINE)

COLUMNS = (
    "id", "at", "rank", "status", "reason", "method", "path", "query", "service", "endpoint", "attempts", "ms",
    "client", "principal", "requestId",
)  # fmt: skip

# Columns by the name that LOG_REDACT gives to fields of the access log.
HIDING = {each.lower(): each for each in ("path", "endpoint", "client", "principal", "requestId")}

Cell = str | int | float


def _reasons(kind: type[GatewayError]) -> set[str]:
    return {kind.reason}.union(*map(_reasons, kind.__subclasses__()))


BROKEN = frozenset(_reasons(UpstreamError))  # reasons that are failures of a service, whatever the status


class Ended(NamedTuple):
    """A request that has ended.

    Attributes:
        at: end, in seconds since 1970.
        status: that the client got.
        reason: of the failure, or a remark; "" for none.
        seconds: duration; of a stream the time to the head of the answer.
        client: address; "" for none.
        principal: name; "" for none.
    """

    at: float
    status: int
    reason: str
    method: bytes
    target: bytes
    service: str
    endpoint: str
    attempts: int
    seconds: float
    client: str
    principal: str
    request_id: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests are wanted; an empty value wants every request.

    Attributes:
        rank: one of RANKS.
        text: a part of any text of the request, in any case.
    """

    rank: str = ""
    service: str = ""
    text: str = ""

    def admits(self, row: Sequence[Cell]) -> bool:
        """Whether a request is wanted.

        Args:
            row: cells of COLUMNS.
        """
        shown = dict(zip(COLUMNS, row, strict=True))
        return (
            self.rank in ("", shown["rank"])
            and self.service in ("", shown["service"])
            and (not self.text or self.text.lower() in "\n".join(map(str, row[3:])).lower())
        )


class RequestTail:
    """The newest requests.

    Args:
        redaction: what is hidden.
        slow: seconds from which on a request is slow; math.inf for SLOW.
        worker, workers: number of the worker, and of all workers.

    Attributes:
        slow: see above.
        room, room_for_trouble: how many requests are kept until the next look.
    """

    __slots__ = (
        "_fine", "_newest", "_redaction", "_told", "_troubles", "_worker", "_workers", "room", "room_for_trouble",
        "slow",
    )  # fmt: skip

    def __init__(self, redaction: Redaction, slow: float = SLOW, worker: int = 0, workers: int = 1) -> None:
        self.reconfigure(redaction, slow)
        self._worker, self._workers = worker, workers
        self._newest, self._told = worker, 0
        self._fine: deque[tuple[int, Ended]] = deque(maxlen=KEPT)
        self._troubles: deque[tuple[int, Ended]] = deque(maxlen=KEPT)
        self.room = self.room_for_trouble = PER_LOOK

    def reconfigure(self, redaction: Redaction, slow: float) -> None:
        """Hide other values, or call other requests slow; see the class."""
        self._redaction, self.slow = redaction, SLOW if slow == math.inf else slow

    def has_room(self, status: int, reason: str, seconds: float) -> bool:
        """Whether there is room for a request; see rank_of() for the arguments."""
        is_fine = rank_of(status, reason, seconds, self.slow) == FINE
        return (self.room if is_fine else self.room_for_trouble) > 0

    def keep(self, ended: Ended, now: float) -> None:
        """Keep a request for which there is room.

        Args:
            now: instant (gateway clock) of the end.
        """
        ended = ended._replace(target=ended.target[:LONGEST_TARGET])
        number = self._newest = max(round(now * TICKS) * self._workers + self._worker, self._newest + self._workers)
        if self._rank(ended) == FINE:
            self.room -= 1
            self._fine.append((number, ended))
        else:
            self.room_for_trouble -= 1
            self._troubles.append((number, ended))

    def make_room(self) -> None:
        """Make room for more requests, as each look does."""
        self.room = self.room_for_trouble = PER_LOOK

    def look(self) -> list[list[Cell]]:
        """The rows since the last look, the oldest first; makes room for more."""
        self.make_room()
        before, news = self._told, []
        for number, ended in self._all():
            if number > before:
                news.append(self._row(number, ended))
                self._told = number
        return news

    def rows(self, after: int = 0) -> list[list[Cell]]:
        """All rows, the oldest first.

        Args:
            after: number behind which requests are wanted.
        """
        return [self._row(number, ended) for number, ended in self._all() if number > after]

    def _all(self) -> list[tuple[int, Ended]]:
        return sorted([*self._fine, *self._troubles])

    def _rank(self, ended: Ended) -> str:
        return rank_of(ended.status, ended.reason, ended.seconds, self.slow)

    def _row(self, number: int, ended: Ended) -> list[Cell]:
        path, _, _ = ended.target.partition(b"?")
        query = self._redaction.query(ended.target)
        row: dict[str, Cell] = {
            "id": number,
            "at": round(ended.at, 3),
            "rank": self._rank(ended),
            "status": ended.status,
            "reason": ended.reason,
            "method": ended.method.decode("latin-1")[:LONGEST],
            "path": without_tokens(path.decode("latin-1"))[:LONGEST],
            "query": without_tokens(query)[:LONGEST],
            "service": ended.service,
            "endpoint": ended.endpoint,
            "attempts": ended.attempts,
            "ms": float(f"{ended.seconds * 1000:.3g}"),
            "client": ended.client,
            "principal": ended.principal[:LONGEST],
            "requestId": ended.request_id.decode("latin-1"),
        }
        hidden = {column: HIDDEN for name, column in HIDING.items() if name in self._redaction.names and row[column]}
        return list((row | hidden).values())


class Followed:
    """The newest requests of all workers: as many as of one, and as many news of a look, so that a viewer gets no more.

    Args:
        workers: number of the workers.

    Attributes:
        newest: number of the newest known request, by worker.
    """

    def __init__(self, workers: int) -> None:
        self.newest = [0] * workers
        self._rings: dict[bool, deque[Sequence[Cell]]] = {each: deque(maxlen=KEPT) for each in (False, True)}
        self._news: list[Sequence[Cell]] = []

    def learn(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Take rows of a worker that are newer than the known ones, the oldest first."""
        for row in rows:
            number = int(row[0])
            self.newest[number % len(self.newest)] = number
            self._news.append(row)

    def look(self) -> list[Sequence[Cell]]:
        """The newest rows since the last look, the oldest first."""
        news, self._news = sorted(self._news, key=_number), []
        for row in news:
            self._rings[_is_fine(row)].append(row)
        fine = [each for each in news if _is_fine(each)][-PER_LOOK:]
        troubles = [each for each in news if not _is_fine(each)][-PER_LOOK:]
        return sorted([*fine, *troubles], key=_number)

    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all looks, the oldest first."""
        return sorted((row for ring in self._rings.values() for row in ring), key=_number)


def _number(row: Sequence[Cell]) -> int:
    return int(row[0])


def _is_fine(row: Sequence[Cell]) -> bool:
    return row[COLUMNS.index("rank")] == FINE


def rank_of(status: int, reason: str, seconds: float, slow: float) -> str:
    """FAILED, SLOW_ONE or FINE.

    An error of a client, such as 404 or 429, is no failure of a service. An answer below 500 may have failed in the
    middle: the reason says so.

    >>> rank_of(502, "", 0.1, 1.0), rank_of(200, "", 2.0, 1.0), rank_of(404, "", 0.1, 1.0)
    ('failed', 'slow', 'fine')
    >>> rank_of(200, "upstream_reset", 0.1, 1.0), rank_of(200, "draining", 0.1, 1.0)
    ('failed', 'fine')
    """
    if status >= 500 or reason in BROKEN:
        return FAILED
    return SLOW_ONE if seconds >= slow else FINE


def page(rows: Iterable[Sequence[Cell]], wanted: Wanted, limit: int) -> dict[str, Any]:
    """A page of the wanted requests: failed, then slow, then all others; each the newest first.

    Args:
        rows: of RequestTail.rows().
        limit: requests of the page, 1 to MOST.
    """
    found = [dict(zip(COLUMNS, row, strict=True)) for row in rows if wanted.admits(row)]
    return {"matching": len(found), "requests": sorted(found, key=_place)[:limit]}


def joined(pages: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """The page of all workers, of the pages of each."""
    found = sorted((each for page in pages for each in page["requests"]), key=_place)
    return {"matching": sum(page["matching"] for page in pages), "requests": found[:limit]}


def _place(request: Mapping[str, Any]) -> tuple[int, int]:
    return RANKS.index(request["rank"]), -request["id"]
