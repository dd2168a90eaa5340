"""Stored responses in Redis, shared by any number of gateways: the second tier behind the memory of each process.

    miss in memory ──► look_up ──► generation of the resource, entry ──► memory
    new response   ──► write, in the background

    {gateway}:cache:1:<name>     an entry; see policy/http/caching/entries.py
    {gateway}:cache:g:<name>     the generation of a resource: another value after each invalidation
    {gateway}:cache:log          the latest purges; numbered by {gateway}:cache:number

An entry has the generation, and the number of the latest purge, that its gateway knew when it asked the service. So an
entry that is written late is older than the change, and no gateway uses the entry. The channel tells changes to the
memory of all gateways.

Redis may be away, slow, full, or have lost or mixed up what it had: then requests miss. redis_connection.py says when
Redis is away. What is invalidated and purged meanwhile is written when Redis is back, before anything is read.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tornado_gateway.adapters.redis_cluster import TAG
from tornado_gateway.adapters.redis_connection import RedisAway, RedisConnection
from tornado_gateway.adapters.response_cache import MemoryCache
from tornado_gateway.policy.http.caching.entries import (
    MOST,
    Entry,
    Sign,
    Token,
    decode,
    encode,
    encode_sign,
    keeps_for,
    name_of,
    resource_name,
)
from tornado_gateway.policy.http.caching.purge import EVERYTHING, REMEMBERED, Purge, PurgeLog, purge_text, read_purge
from tornado_gateway.policy.http.caching.request import CacheRequest, Key
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.views.steps import Steps

ENTRY, GENERATION = f"{TAG}:cache:1:", f"{TAG}:cache:g:"
NUMBER, LOG = f"{TAG}:cache:number", f"{TAG}:cache:log"
CHANNEL = "gateway:cache"

GENERATION_KEPT = 8 * 86_400_000  # ms; longer than any entry, and a day for an answer that takes long to come

MOST_WAITING = 200  # look-ups at once; others miss, so that a flood of made-up queries does not make Redis seem away
MOST_WRITES = 256  # responses that wait to be written, of up to 1 MiB each; others stay in memory alone
MOST_PENDING = 10_000  # resources that were invalidated while Redis was away; beyond, everything is purged
IN_THREAD = 64 * 1024  # bytes of a response above which a thread makes and reads the entry

# Seconds by which a response from Redis was purged softly before it was found: stale for the requests that wait, too.
BEFORE = 1.0

_SCRIPT = Path(__file__).with_name("cache_purge.lua")

_PURGE, _INVALID = b"purge", b"invalid"
_NO_GENERATION = b"?"


class Shared(NamedTuple):
    """How entries are shared.

    Attributes:
        secret: of the seals of entries; b"" if no entries are shared, but only purges.
        now: seconds on the gateway clock.
        wall: seconds since 1970.
        carry_out: makes a long computation in slices.
    """

    secret: bytes
    now: Callable[[], float]
    wall: Callable[[], float]
    carry_out: Callable[[Steps[Any]], Coroutine[Any, Any, Any]]


class _Write(NamedTuple):
    key: Key
    stored: Stored
    token: Token
    stale: float


class RedisCache:
    """The second tier. Made inside a running event loop.

    Args:
        connection: serves nobody else: large entries must not let others wait.
        memory: the first tier of this process.

    Attributes:
        found, missed: look-ups that have brought a response into memory, and look-ups that have not.
        written: responses that were written.
    """

    def __init__(self, connection: RedisConnection, memory: MemoryCache, shared: Shared) -> None:
        self.connection, self._memory, self._shared = connection, memory, shared
        self._loop = asyncio.get_running_loop()
        self._own = secrets.token_hex(8)  # tells what this gateway has said itself
        self._script = _SCRIPT.read_text(encoding="ascii")
        self._log = PurgeLog()
        self._session, self._errors = 0, -1  # errors of the connection when it was last synchronized
        self._look_ups: dict[Key, asyncio.Task[Token | None]] = {}
        self._writes: deque[_Write] = deque()
        self._pending: dict[bytes, None] = {}  # resources to invalidate
        self._purges: list[Purge] = []  # to be told to others
        self._told: dict[int, asyncio.Future[None]] = {}  # purges that this gateway has told, and not heard yet
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writer: asyncio.Task[None] | None = None
        self.found = self.missed = self.written = 0
        connection.meanings.append(lambda: "each process has stored responses of its own")
        connection.subscribe(CHANNEL, self._synchronize, self._hear)

    @property
    def is_ready(self) -> bool:
        """Whether Redis answers, and knows what this gateway has invalidated."""
        return self.connection.is_up and self._errors == self.connection.errors

    # ---- responses

    def look_up(self, request: CacheRequest) -> "asyncio.Future[Token | None] | None":
        """Begin to bring the response for a request into memory.

        Returns:
            Done when the response is in memory, if there is one, with what write() needs; None if nobody has to wait.
        """
        under_way = self._look_ups.get(request.key)
        if under_way or not self._may_look(request.key):
            return under_way
        task = self._look_ups[request.key] = self._loop.create_task(self._find(request))
        task.add_done_callback(lambda _: self._look_ups.pop(request.key))
        return task

    def _may_look(self, key: Key) -> bool:
        if not self._shared.secret or not self.is_ready or len(self._look_ups) >= MOST_WAITING:
            return False
        resource, _ = key
        return resource not in self._pending  # Redis still has what was before the change

    async def _find(self, request: CacheRequest) -> Token | None:
        key, since = request.key, self._memory.changes
        resource, _ = key
        session, number = self._session, self._log.number
        try:
            generation, found = await self.connection.ask(partial(_read, key, name_of(key)))
            entry = await self._decoded(name_of(key), found)
            if isinstance(entry, Sign):
                name = name_of(key, request.selection(entry.vary))
                generation, found = await self.connection.ask(partial(_read, key, name))
                entry = await self._decoded(name, found)
        except RedisAway:
            return None
        stored = self._usable(key, entry, generation) if isinstance(entry, Entry) else None
        if stored and self._memory.is_current(resource, stored.tags, since) and self._is_news(request, stored):
            self._memory.keep(key, stored)
            self.found += 1
        else:
            self.missed += 1
        return Token(session, number, generation)

    async def _decoded(self, name: str, found: bytes) -> Entry | Sign | None:
        shared = self._shared
        if len(found) <= IN_THREAD:
            return decode(shared.secret, name, found, shared.wall(), shared.now())
        return await asyncio.to_thread(decode, shared.secret, name, found, shared.wall(), shared.now())

    def _usable(self, key: Key, entry: Entry, generation: bytes) -> Stored | None:
        """The response of an entry; None if the response is older than a change."""
        if entry.generation != generation or entry.number > self._log.number:
            return None
        resource, _ = key
        later = self._log.later(entry.number, resource, entry.stored.tags)
        if not later:
            return entry.stored
        is_stale = all(each.is_soft for each in later)
        return entry.stored.expired(self._shared.now() - BEFORE) if is_stale else None

    def _is_news(self, request: CacheRequest, stored: Stored) -> bool:
        """Whether memory has nothing newer for the request."""
        variants = self._memory.find(request.key)
        known = variants.find(request) if variants else None
        return known is None or known.came < stored.came

    def write(self, key: Key, stored: Stored, token: Token, stale: float) -> None:
        """Write a response, in the background.

        Args:
            token: from look_up() before the service was asked.
            stale: see keeps_for().
        """
        if token.session != self._session or not self.is_ready or len(self._writes) >= MOST_WRITES:
            return
        self._writes.append(_Write(key, stored, token, stale))
        self._begin_writing()

    def _begin_writing(self) -> None:
        if self._writer is None:
            self._writer = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        """Write what waits, one after the other: a gateway that stores much leaves connections for look-ups."""
        try:
            while self._pending or self._writes:
                if self._pending:
                    await self._tell_invalid()
                elif self._writes:
                    await self._write(self._writes.popleft())
        except RedisAway:
            self._writes.clear()
        finally:
            self._writer = None

    async def _write(self, each: _Write) -> None:
        """
        Raises:
            RedisAway: Redis has failed.
        """
        shared, stored = self._shared, each.stored
        now = shared.now()
        seconds = keeps_for(stored, stored.age(now), each.stale)
        if seconds <= 0 or each.token.session != self._session:
            return
        names = stored.terms.vary
        name = name_of(each.key, stored.selected_by if names else None)
        came = shared.wall() - (now - stored.came)
        arguments = (shared.secret, name, stored, each.token, came)
        is_large = len(stored.body) > IN_THREAD
        entry = await asyncio.to_thread(encode, *arguments) if is_large else encode(*arguments)
        if entry is None:
            return
        entries = {name: entry}
        first = name_of(each.key)
        if names and (sign := encode_sign(shared.secret, first, names)):
            entries[first] = sign
        await self.connection.ask(partial(_set, entries, max(1, round(seconds * 1000))))
        self.written += 1

    # ---- changes

    def invalidate(self, resource: bytes) -> None:
        """Tell all gateways, in the background, that a resource has changed."""
        self._pending[resource] = None
        if len(self._pending) > MOST_PENDING:
            self._pending.clear()
            self._purges = [EVERYTHING]
        if self.is_ready:
            self._begin_writing()

    async def _tell_invalid(self) -> None:
        """
        Raises:
            RedisAway: Redis has failed; everything is still to be told.
        """
        batch = list(self._pending)[:REMEMBERED]
        await self.connection.ask(partial(_invalidate, batch, self._own))
        for each in batch:
            self._pending.pop(each, None)

    async def purge(self, purge: Purge) -> bool:
        """Tell all gateways of a purge.

        Returns:
            Whether Redis has taken the purge; if not, the other gateways learn of the purge when Redis is back.
        """
        try:
            if not self.is_ready:
                raise RedisAway
            number = await self._tell(purge)
        except RedisAway:
            self._purges = [*self._purges, purge] if len(self._purges) < REMEMBERED else [EVERYTHING]
            return False
        await self._until_heard(number)
        return True

    async def _tell(self, purge: Purge) -> int:
        """Write a purge; return its number.

        Raises:
            RedisAway: Redis has failed.
        """
        arguments = (CHANNEL, self._own, purge_text(purge), REMEMBERED)
        number: int = await self.connection.ask(lambda client: client.eval(self._script, 2, NUMBER, LOG, *arguments))
        return number

    async def _until_heard(self, number: int) -> None:
        """Wait until no older entry can be used any more."""
        if number <= self._log.number:
            return
        told = self._told[number] = self._loop.create_future()
        try:
            async with asyncio.timeout(self.connection.timeout):
                await told
        except TimeoutError:
            self._told.pop(number, None)
            self._begin_again()

    # ---- what other gateways say

    async def _synchronize(self) -> None:
        """Tell what others have not heard, and learn what they have purged meanwhile.

        Raises:
            RedisAway: Redis has failed.
        """
        errors = self.connection.errors
        while self._pending:
            await self._tell_invalid()
        while self._purges:
            await self._tell(self._purges[0])
            self._purges.pop(0)
        number, entries = await self.connection.ask(_read_log)
        self._learn(number, [each for each in map(_read_line, reversed(entries)) if each])
        self._session, self._errors = self._session + 1, errors

    def _learn(self, number: int, lines: "list[_Line]") -> None:
        """Take the purges of a log, and carry out what this gateway has not heard of."""
        known, log = self._log.number, PurgeLog(number=number - len(lines))
        for each in lines:
            log.note(each.purge)
        self._note(log)
        if known < number - len(lines):
            self._carry_out(EVERYTHING)
            return
        for each in lines:
            is_news = each.number > known or number < known  # a number that falls: Redis has lost its memory
            if is_news and each.gateway != self._own:
                self._carry_out(each.purge)

    def _note(self, log: PurgeLog) -> None:
        """Let purges go on that have waited for their number."""
        self._log = log
        for number in [each for each in self._told if each <= log.number]:
            told = self._told.pop(number)
            if not told.done():
                told.set_result(None)

    def _hear(self, message: bytes) -> None:
        kind, _, rest = message.partition(b" ")
        if kind == _PURGE and (line := _read_line(rest)):
            self._hear_purge(line)
        elif kind == _INVALID:
            own, _, resource = rest.partition(b" ")
            if own != self._own.encode("ascii"):
                self._memory.invalidate(resource)

    def _hear_purge(self, line: "_Line") -> None:
        if line.number <= self._log.number:  # known from the log
            return
        if line.number > self._log.number + 1:  # a message was lost
            self._begin_again()
            return
        self._log.note(line.purge)
        self._note(self._log)
        if line.gateway != self._own:
            self._carry_out(line.purge)

    def _begin_again(self) -> None:
        self._errors = -1
        self._keep(self._loop.create_task(self._synchronize_again()))

    async def _synchronize_again(self) -> None:
        try:
            await self._synchronize()
        except RedisAway:  # the next subscription begins with it
            return

    def _carry_out(self, purge: Purge) -> None:
        """Purge the memory of this process."""
        steps = self._memory.purge(purge, self._shared.now())
        self._keep(self._loop.create_task(self._shared.carry_out(steps)))

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Leave nothing running. The connection stays."""
        tasks = [*self._look_ups.values(), *self._tasks, *([self._writer] if self._writer else [])]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Line(NamedTuple):
    number: int
    gateway: str
    purge: Purge


def _read_line(text: bytes) -> _Line | None:
    """A purge of the log; None for what no gateway has written."""
    try:
        number, gateway, said = text.split(b" ", 2)
        return _Line(int(number), gateway.decode("ascii"), read_purge(said))
    except ValueError:
        return None


async def _read(key: Key, name: str, client: Any) -> tuple[bytes, bytes]:
    """The generation of a resource, and an entry as far as any entry goes."""
    resource, _ = key
    pipeline = client.pipeline(transaction=False)
    pipeline.get(f"{GENERATION}{resource_name(resource)}")
    pipeline.getrange(f"{ENTRY}{name}", 0, MOST)
    generation, found = await pipeline.execute(raise_on_error=False)
    for each in (generation, found):
        if isinstance(each, Exception) and not str(each).startswith("WRONGTYPE"):
            raise each
    # Whoever has written another type there has written no entry, and no generation of any entry.
    is_none = isinstance(found, Exception)
    return _NO_GENERATION if isinstance(generation, Exception) else generation or b"", b"" if is_none else found


async def _set(entries: dict[str, bytes], milliseconds: int, client: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    for name, entry in entries.items():
        pipeline.set(f"{ENTRY}{name}", entry, px=milliseconds)
    await pipeline.execute()


async def _invalidate(resources: list[bytes], own: str, client: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    for each in resources:
        pipeline.set(f"{GENERATION}{resource_name(each)}", secrets.token_bytes(8), px=GENERATION_KEPT)
        pipeline.publish(CHANNEL, b"%b %b %b" % (_INVALID, own.encode("ascii"), each))
    await pipeline.execute()


async def _read_log(client: Any) -> tuple[int, list[bytes]]:
    pipeline = client.pipeline(transaction=True)
    pipeline.get(NUMBER)
    pipeline.lrange(LOG, 0, REMEMBERED - 1)
    number, entries = await pipeline.execute()
    return int(number or 0), entries
