"""Counters of rate limits in Redis, shared by any number of gateways; redis-py translates.

    take ──► waiting ──► one pipeline of EVALSHA ──► Redis      a request of the next pipeline waits for this one
                                │ error, or TIMEOUT
                                ▼
             down: RATE_LIMIT_ON_ERROR decides at once ◄──► a probe, in the background, until Redis answers

The script (limits.lua) counts a request under all its rules in one round trip, by the clock of Redis. Requests that
come while a pipeline is on its way share the next pipeline, so a loaded gateway has few round trips. No request waits
longer than TIMEOUT, and once Redis has failed, no request waits.

redis-py is an optional library. It is imported when a store is made.
"""

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from tornado_gateway.errors import LimitsUnavailable
from tornado_gateway.policy.limits.algorithms import SLICES, Judgement
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.verdict import Verdict

TIMEOUT = 0.25  # seconds that Redis may take; longer than any healthy Redis takes, and hardly felt by a person
BATCH = 128  # requests of a pipeline: some 3 ms of Redis
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between two probes of a Redis that is down
PREFIX = "gateway:limit:"

MEMORY, SENTINEL = "memory", "redis+sentinel"
SCHEMES = (MEMORY, "redis", "rediss", SENTINEL)
LOCAL, OPEN, CLOSED = "local", "open", "closed"  # values of RATE_LIMIT_ON_ERROR

_SCRIPT = Path(__file__).with_name("limits.lua")
_SENTINEL_PORT = 26379

log = logging.getLogger("tornado_gateway")


@dataclass(frozen=True, slots=True)
class LimitStoreConfig:
    """Where the counters are.

    Attributes:
        url: of one of SCHEMES; "" for REDIS_URL, or the memory of the process.
        on_error: LOCAL, OPEN or CLOSED: what happens while Redis is away.
    """

    url: str = field(default="", repr=False)
    on_error: str = LOCAL


def is_installed() -> bool:
    """Whether redis-py is there."""
    return importlib.util.find_spec("redis") is not None


class _Waiting(NamedTuple):
    asked: Sequence[Asked]
    now: float
    answer: "asyncio.Future[list[Verdict]]"
    cost: int = 0  # of a request that was admitted; 0 for a request that asks


class RedisStore:
    """Counts requests in Redis. Made inside a running event loop.

    Args:
        url: of one of SCHEMES but MEMORY.
        on_error: LOCAL, OPEN or CLOSED.
        memory: counts while Redis is away, with LOCAL.

    Attributes:
        timeout: seconds for a pipeline, with the connection.
        is_up: whether Redis has answered the last time.
        errors: how often Redis has failed.
    """

    def __init__(self, url: str, on_error: str, memory: MemoryStore) -> None:
        self._client, *others = _connect(url)
        self._clients, self._place = (self._client, *others), _place_of(url)
        self._on_error, self._memory = on_error, memory
        self._script = _SCRIPT.read_text(encoding="ascii")
        self._sha = ""
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None
        self._healer: asyncio.Task[None] | None = None
        self.timeout = TIMEOUT
        self.is_up = True
        self.errors = 0

    def take(self, asked: Sequence[Asked], now: float) -> list[Verdict] | Awaitable[list[Verdict]]:
        """As LimitStore.take()."""
        if not self.is_up:
            return self._without_redis(asked, now)
        return self._wait(_Waiting(asked, now, self._loop.create_future()))

    def charge(self, asked: Sequence[Asked], cost: int, now: float) -> None:
        """As LimitStore.charge(). A cost that Redis does not take is counted in memory, with LOCAL, or lost."""
        waiting = _Waiting(asked, now, self._loop.create_future(), cost)
        if self.is_up:
            self._wait(waiting)
        else:
            self._answer_without_redis(waiting)

    def _wait(self, waiting: _Waiting) -> "asyncio.Future[list[Verdict]]":
        self._waiting.append(waiting)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        return waiting.answer

    async def close(self) -> None:
        """End the connections, and leave nothing running."""
        for task in filter(None, (self._sender, self._healer)):
            task.cancel()
            await asyncio.wait([task])
        for each in self._waiting:
            each.answer.cancel()
        for client in self._clients:
            await client.aclose()
            await client.connection_pool.disconnect()

    # ---- Redis answers

    async def _send(self) -> None:
        """Send what waits, pipeline after pipeline."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._answer(batch)
        finally:
            self._sender = None

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                answers = await self._evaluate(batch)
        except Exception as error:  # whatever redis-py raises; RedisError, OSError and TimeoutError among others
            self._fail(error)
            for each in batch:
                self._answer_without_redis(each)
            return
        except asyncio.CancelledError:  # the gateway stops
            for each in batch:
                each.answer.cancel()
            raise
        for each, answer in zip(batch, answers, strict=True):
            if not each.answer.done():
                each.answer.set_result(_verdicts(each.asked, answer))

    async def _evaluate(self, batch: list[_Waiting]) -> list[Any]:
        if not self._sha:
            self._sha = await self._client.script_load(self._script)
        answers = await self._pipeline(batch)
        unknown = [index for index, answer in enumerate(answers) if _is_unknown_script(answer)]
        if unknown:  # Redis has restarted, or SCRIPT FLUSH was called
            await self._client.script_load(self._script)
            again = await self._pipeline([batch[index] for index in unknown])
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _pipeline(self, batch: list[_Waiting]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for each in batch:
            keys = [f"{PREFIX}{rule.id}:{key}" for rule, key in each.asked]
            arguments = [argument for rule, _ in each.asked for argument in _arguments(rule)]
            pipeline.evalsha(self._sha, len(keys), *keys, *arguments, each.cost)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    # ---- Redis is away

    def _fail(self, error: Exception) -> None:
        self.errors += 1
        if not self.is_up:
            return
        self.is_up, self._sha = False, ""
        log.warning(
            "Redis at %s failed (%s): rate limits are %s until Redis answers",
            self._place, type(error).__name__, _MEANINGS[self._on_error],
        )  # fmt: skip
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._answer_without_redis(each)
        self._healer = self._loop.create_task(self._heal())

    async def _heal(self) -> None:
        """Run the script until Redis answers: a replica, and a Redis without memory, answer PING and write nothing."""
        pause = SHORTEST_PAUSE
        while not self.is_up:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                async with asyncio.timeout(self.timeout):
                    await self._client.connection_pool.disconnect()
                    await self._client.eval(self._script, 1, f"{PREFIX}probe", "gcra", 1, 1000, 1, 0)
            except Exception:  # still away, for whatever reason
                self.errors += 1
            else:
                self.is_up = True
                log.warning("Redis at %s answers again: rate limits are shared", self._place)
        self._healer = None

    def _without_redis(self, asked: Sequence[Asked], now: float) -> list[Verdict]:
        if self._on_error == LOCAL:
            return self._memory.take(asked, now)
        if self._on_error == CLOSED:
            raise LimitsUnavailable
        return []

    def _answer_without_redis(self, waiting: _Waiting) -> None:
        if waiting.answer.done():
            return
        if waiting.cost:
            if self._on_error == LOCAL:
                self._memory.charge(waiting.asked, waiting.cost, waiting.now)
            waiting.answer.cancel()  # nobody waits
            return
        try:
            waiting.answer.set_result(self._without_redis(waiting.asked, waiting.now))
        except LimitsUnavailable as error:
            waiting.answer.set_exception(error)


_MEANINGS = {LOCAL: "counted by each process", OPEN: "off", CLOSED: "a 503 for every request"}


def _arguments(rule: Any) -> tuple[object, ...]:
    quota = rule.quota
    size = SLICES if rule.algorithm_name == "sliding" else quota.burst or quota.limit
    return rule.algorithm_name, quota.limit, round(quota.window * 1_000_000), size


def _verdicts(asked: Sequence[Asked], answer: Sequence[Sequence[int]]) -> list[Verdict]:
    return [
        Verdict(rule, Judgement(wait / 1e6, remaining, renewal / 1e6, reset / 1e6))
        for (rule, _), (wait, remaining, renewal, reset) in zip(asked, answer, strict=True)
    ]


def _is_unknown_script(answer: object) -> bool:
    return isinstance(answer, Exception) and type(answer).__name__ == "NoScriptError"


# ---- the library


def _connect(url: str) -> list[Any]:
    """A client of redis-py, and the clients of the Sentinels. No client retries: a retry would cost a request time."""
    redis = importlib.import_module("redis.asyncio")
    retry = importlib.import_module("redis.asyncio.retry").Retry(
        importlib.import_module("redis.backoff").NoBackoff(), 0
    )
    options = {"socket_timeout": None, "socket_connect_timeout": None, "retry": retry}  # RedisStore limits the time
    parts = urlsplit(url)
    if parts.scheme != SENTINEL:
        pool = redis.BlockingConnectionPool.from_url(url, max_connections=2, timeout=None, **options)
        return [redis.Redis(connection_pool=pool)]
    sentinel = importlib.import_module("redis.asyncio.sentinel").Sentinel(_sentinels(parts), sentinel_kwargs=options)
    name, _, database = parts.path.strip("/").partition("/")
    secrets = {"username": parts.username, "password": parts.password}
    return [sentinel.master_for(name, db=int(database or 0), **secrets, **options), *sentinel.sentinels]


def _sentinels(parts: SplitResult) -> list[tuple[str, int]]:
    found = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = each.partition(":")
        found.append((host, int(port or _SENTINEL_PORT)))
    return found


def _place_of(url: str) -> str:
    """Where a URL leads, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
