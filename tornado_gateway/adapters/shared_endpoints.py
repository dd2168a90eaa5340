"""What gateways tell each other over Redis about endpoints and reloads; policy/statements.py says what counts.

    tell ──► known here ──► Redis: a hash by key, and a message ──► every other gateway ──► carry_out
                 ▲                      │
                 └── the whole hash ◄───┘ when a connection to Redis begins

While Redis is away, each gateway goes on with what it knows. When Redis is back, the gateway reads the hash, and writes
what the hash lacks: what was told meanwhile, or what Redis has lost.

Whoever may write to Redis but lacks the secret can delete a statement, and put back one that was kept before; no such
writer can make a statement. What does not count is ignored, counted, and told by the log once a minute.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.policy.statements import DAY, MOST, Flaw, Ignored, Ledger, Statement, read, write

KEY = f"{TAG}:endpoints"  # the hash; also the place that seals name
CHANNEL = "gateway:endpoints"
PAGE = 500  # fields in one round trip
KEPT = 7 * DAY  # seconds for which Redis keeps the hash after the last gateway that could renew it
RENEWAL = 3600.0  # seconds between two renewals
QUIET = 60.0  # seconds between two lines of the log about ignored messages
APPLIED = "applied"

log = logging.getLogger("tornado_gateway")


class SharedEndpoints:
    """The Sweeper that tells and hears. Made inside a running event loop.

    Args:
        secret: of all gateways.
        sender: name of this gateway, which no other gateway has.
        wall: seconds since 1970.

    Attributes:
        began: instant of the start, in seconds since 1970.
        carry_out: is called with each statement that is news, and may raise Ignored; set before the event loop goes on.
        speaks: whether this process logs and counts for the gateway: one of several workers does.
        messages: messages of others, by what has become of them.
    """

    shortest_timeout = math.inf

    def __init__(
        self, connection: RedisConnection, secret: bytes, sender: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._connection, self._secret, self.sender, self._wall = connection, secret, sender, wall
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger()
        self._pending: dict[str, Statement] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None
        self._has_read = asyncio.Event()
        self.began = wall()
        self._told_at, self._renews_at = -math.inf, self.began + RENEWAL
        self.carry_out: Callable[[Statement], None] = lambda _: None
        self.speaks: Callable[[], bool] = lambda: True
        self.messages: Counter[str] = Counter()
        connection.meanings.append(lambda: "each gateway knows its own drains and ejections")
        connection.subscribe(CHANNEL, self._synchronize, self._hear)

    async def first_look(self) -> None:
        """Wait until this gateway knows what others have said, or until Redis is found away."""
        try:
            async with asyncio.timeout(self._connection.timeout):
                await self._has_read.wait()
        except TimeoutError:
            return

    @property
    def counts(self) -> dict[str, int]:
        """`messages`, with each of the results: an alert finds no increase in a counter that begins with 1."""
        return {each: self.messages[each] for each in (APPLIED, *(flaw.value for flaw in Flaw))}

    # ---- what this gateway says

    def tell(self, key: str, name: str, body: object = None) -> Statement:
        """Tell all gateways, in the background; return what is told."""
        statement = Statement(self.sender, self._ledger.instant_for(key, self._wall()), key, name, body)
        self._ledger.take(statement)
        self._send(statement)
        return statement

    def note(self, statement: Statement) -> bool:
        """Know a statement that another worker of this gateway has told, or heard.

        Returns:
            Whether the statement counts: nothing newer is known, nor the same.
        """
        return self._ledger.take(statement)

    def known(self, key: str) -> Statement | None:
        """The newest statement about a matter."""
        return self._ledger.of(key)

    @property
    def lasting(self) -> list[Statement]:
        """The statements that count until others about their matters."""
        return [each for each in self._ledger if each.is_lasting]

    def _send(self, statement: Statement) -> None:
        self._pending[statement.key] = statement
        if self._writer is None:
            self._writer = self._begin(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._pending:
                keys = list(islice(self._pending, PAGE))
                await self._write([self._pending.pop(each) for each in keys])
        except RedisAway:  # _synchronize() sends what the hash lacks
            self._pending.clear()
        finally:
            self._writer = None

    async def _write(self, statements: Sequence[Statement]) -> None:
        """
        Raises:
            RedisAway: Redis has failed.
        """
        now = self._wall()
        entries = {each.key: write(each, self._secret, KEY, now) for each in statements}
        await self._connection.ask(partial(_write, entries))

    def _begin(self, work: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- what others say

    async def _synchronize(self) -> None:
        """Take what Redis has, and send what Redis has not.

        Raises:
            RedisAway: Redis has failed.
        """
        found, cursor, seen = dict[str, float](), 0, 0
        while True:
            cursor, fields = await self._connection.ask(partial(_page, cursor))
            found |= self._take_kept(fields)
            seen += len(fields)
            if not cursor or seen > MOST:
                break
        self._has_read.set()
        missing = [each for each in self._ledger if found.get(each.key, -math.inf) < each.at]
        for start in range(0, len(missing), PAGE):
            await self._write(missing[start : start + PAGE])

    def _take_kept(self, fields: Mapping[bytes, bytes]) -> dict[str, float]:
        """Take the statements of some fields; return their instants by key."""
        found = {}
        for field, entry in fields.items():
            statement = self._read(entry, is_kept=True)
            if statement and statement.key.encode() != field:
                self._ignore(Flaw.FORGED)
            elif statement:
                found[statement.key] = statement.at
                self._take(statement)
        return found

    def _hear(self, message: bytes) -> None:
        statement = self._read(message)
        if statement:
            self._take(statement)

    def _read(self, message: bytes, *, is_kept: bool = False) -> Statement | None:
        try:
            return read(message, self._secret, KEY, self._wall(), is_kept=is_kept)
        except Ignored as error:
            self._ignore(error.flaw)
            return None

    def _take(self, statement: Statement) -> None:
        known = self._ledger.of(statement.key)
        if self._ledger.take(statement):
            self._carry_out(statement)
        elif known and known.sender == self.sender and known.at > statement.at:
            self._send(known)  # two gateways have written at once, and the older statement stands in Redis

    def _carry_out(self, statement: Statement) -> None:
        try:
            self.carry_out(statement)
        except Ignored as error:
            self._ignore(error.flaw)
        else:
            self.messages[APPLIED] += statement.sender != self.sender and self.speaks()

    def _ignore(self, flaw: Flaw) -> None:
        if not self.speaks():
            return
        self.messages[flaw.value] += 1
        now = self._loop.time()
        if now - self._told_at >= QUIET:
            self._told_at = now
            counts = ", ".join(f"{self.messages[each.value]} {each.value}" for each in Flaw)
            log.warning("ignored messages about endpoints in Redis, since the start: %s", counts)

    # ---- upkeep

    def sweep(self, _: float) -> None:
        """Now and then, forget what has ended, and let Redis keep the hash for longer."""
        now = self._wall()
        if now >= self._renews_at:
            self._renews_at = now + RENEWAL
            self._begin(self._renew(self._ledger.forget_ended(now)))

    async def _renew(self, ended: list[str]) -> None:
        try:
            await self._connection.ask(partial(_renew, ended))
        except RedisAway:  # another gateway renews, or the next time comes
            return

    async def close(self) -> None:
        """Leave nothing running. The connection stays."""
        tasks = list(self._tasks)
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _page(cursor: int, client: Any) -> tuple[int, dict[bytes, bytes]]:
    """Some fields. HSCAN gives every field that is there from the first page to the last, whatever else changes."""
    page: tuple[int, dict[bytes, bytes]] = await client.hscan(KEY, cursor, count=PAGE)
    return page


async def _write(entries: dict[str, bytes], client: Any) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.hset(KEY, mapping=entries)
    pipeline.expire(KEY, round(KEPT))
    for each in entries.values():
        pipeline.publish(CHANNEL, each)
    await pipeline.execute()


async def _renew(ended: list[str], client: Any) -> None:
    pipeline = client.pipeline(transaction=True)
    if ended:
        pipeline.hdel(KEY, *ended)
    pipeline.expire(KEY, round(KEPT))
    await pipeline.execute()
