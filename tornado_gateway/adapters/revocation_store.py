"""Where revocations come and go: known to this gateway, and shared with other gateways over Redis.

    revoke ──► known here ──► Redis: a sorted set by end, and a message ──► every other gateway
                  ▲                      │
                  └── the whole set ◄────┘ when a connection to Redis begins

Without Redis, and while Redis is away, the known revocations count. When Redis is back, the gateway reads the set, and
writes what the set lacks: what was revoked meanwhile, or what Redis has lost.

The gateway hears the others from the end of that reading until Redis is found away: by an error, by TIMEOUT without an
answer, or by PING_AFTER of silence and a ping without an answer (redis_connection.py). Meanwhile REVOCATION_ON_ERROR
decides (policy/revocations.py).
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.policy.revocations import LONGEST_LIFE, MEANINGS, By, Revocation, Revocations

KEY = f"{TAG}:revocations"  # the set
CHANNEL = "gateway:revocations"
PAGE = 500  # members in one round trip: some 2 ms of each side
KEPT_AFTER_END = 3600.0  # seconds that the set keeps a member: the clock of a gateway may be ahead

log = logging.getLogger("tornado_gateway")


class RevocationStore:
    """The Sweeper that takes and shares revocations. Made inside a running event loop if there is a connection.

    Args:
        known: gets the revocations of all gateways.
        on_change: is called when `known` has changed.
        connection: of the Redis that gateways share; None for none.
        wall: seconds since 1970.
    """

    shortest_timeout = math.inf

    def __init__(
        self,
        known: Revocations,
        on_change: Callable[[], None],
        connection: RedisConnection | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._known, self._on_change, self._wall = known, on_change, wall
        self._connection: RedisConnection | None = None
        self._has_looked = asyncio.Event()
        if connection:
            self.share(connection)

    def share(self, connection: RedisConnection) -> None:
        """Share revocations over a Redis from now on. A second call changes nothing."""
        if self._connection is None:
            self._connection = connection
            self._known.hear(is_heard=False)
            connection.meanings.append(lambda: MEANINGS[self._known.on_error])
            connection.subscribe(CHANNEL, partial(self._synchronize, connection), self._hear, self._lose)

    async def first_look(self) -> None:
        """Wait until this gateway knows what others have revoked, or until Redis is found away."""
        if self._connection and self._connection.is_up:
            await self._has_looked.wait()

    async def add(self, statement: Revocation) -> bool:
        """Take a statement of this gateway's own; return whether Redis has taken the statement, too."""
        before = self._known.known(statement)
        self._take([statement])
        if self._connection is None:
            return False
        write = partial(_write, [statement], [before] if before else [], self._wall())
        try:
            await self._connection.ask(write)
        except RedisAway:  # _synchronize() sends the statement when Redis is back
            return False
        return True

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take statements of another process of this gateway; see Revocations.to_plain()."""
        self._take([Revocation(By(by), *rest) for by, *rest in rows])

    def sweep(self, _: float) -> None:
        """Forget what has ended."""
        self._known.forget_ended(self._wall())

    def _take(self, statements: Iterable[Revocation]) -> None:
        now = self._wall()
        if any([self._known.take(each) for each in statements if now < each.until]):
            self._on_change()

    # ---- Redis

    def _hear(self, message: bytes) -> None:
        self._take(_read(message))

    async def _synchronize(self, connection: RedisConnection) -> None:
        """Take what Redis has, and send what Redis has not.

        Raises:
            RedisAway: Redis has failed.
        """
        found, cursor = set[Revocation](), 0
        while True:
            cursor, members = await connection.ask(partial(_page, cursor))
            statements = [each for member, _ in members for each in _read(member)]
            found.update(statements)
            self._take(statements)
            if not cursor:
                break
        missing = [each for each in self._known if each not in found]
        for start in range(0, len(missing), PAGE):
            await connection.ask(partial(_write, missing[start : start + PAGE], (), self._wall()))
        self._known.hear(is_heard=True)
        self._has_looked.set()

    def _lose(self) -> None:
        self._known.hear(is_heard=False)
        self._has_looked.set()


async def _page(cursor: int, client: Any) -> tuple[int, list[tuple[bytes, float]]]:
    """Some members. ZSCAN gives every member that is there from the first page to the last, whatever else changes."""
    page: tuple[int, list[tuple[bytes, float]]] = await client.zscan(KEY, cursor, count=PAGE)
    return page


async def _write(statements: Sequence[Revocation], replaced: Sequence[Revocation], now: float, client: Any) -> None:
    pipeline = client.pipeline(transaction=True)
    if replaced:
        pipeline.zrem(KEY, *map(_text, replaced))
    pipeline.zadd(KEY, {_text(each): each.until for each in statements})
    pipeline.zremrangebyscore(KEY, "-inf", now - KEPT_AFTER_END)
    pipeline.expire(KEY, round(LONGEST_LIFE + KEPT_AFTER_END))
    pipeline.publish(CHANNEL, f"[{','.join(map(_text, statements))}]")
    await pipeline.execute()


def _text(each: Revocation) -> str:
    return json.dumps([each.by.value, each.value, each.at, each.until, each.is_lifted])


def _read(text: bytes) -> list[Revocation]:
    """The statement of a member, or the statements of a message. What no gateway has written is left out."""
    try:
        said = json.loads(text)
        return [_statement(*each) for each in (said if isinstance(said[0], list) else [said])]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        log.warning("a revocation in Redis cannot be read: %s", type(error).__name__)
        return []


def _statement(by: str, value: str, at: float, until: float, is_lifted: bool) -> Revocation:
    """
    Raises:
        ValueError, TypeError: these are no values of a revocation.
    """
    statement = Revocation(By(by), value, float(at), float(until), is_lifted is True)
    if not (isinstance(value, str) and value and math.isfinite(statement.at) and math.isfinite(statement.until)):
        raise ValueError("not a revocation")
    return statement
