"""The connection to a Redis, with one policy for everything that several gateways share; redis-py translates.

    ask ──► one of CONNECTIONS connections ──► Redis
     │ error, or TIMEOUT
     ▼
    away: every ask() fails at once ◄──► a probe, in the background, until Redis answers and writes

No request waits longer than TIMEOUT, and once Redis has failed, no request waits. Loss and return stand in the log once
each. A subscription ends with the loss and begins anew with the return.

redis-py is an optional library. It is imported when a connection is made.
"""

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from tornado_gateway.adapters import redis_cluster
from tornado_gateway.adapters.redis_cluster import TAG, find_node
from tornado_gateway.adapters.redis_url import split_url

SENTINEL = "redis+sentinel"
SCHEMES = ("redis", "rediss", SENTINEL, *redis_cluster.SCHEMES)

TIMEOUT = 0.25  # seconds that Redis may take; longer than any healthy Redis takes, and hardly felt by a person
CONNECTIONS = 4  # at once, beside one for each subscription; Redis works on one command at a time
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between two probes of a Redis that is down
PING_AFTER = 5.0  # seconds of silence in a subscription; a firewall may have dropped the connection
PROBE = f"{TAG}:probe"  # a key

_SENTINEL_PORT = 26379

log = logging.getLogger("tornado_gateway")

T = TypeVar("T")


class RedisAway(Exception):
    """Redis does not answer."""


class _Subscription(NamedTuple):
    channel: str
    begin: Callable[[], Awaitable[None]]
    take: Callable[[bytes], None]
    end: Callable[[], None]


def is_installed() -> bool:
    """Whether redis-py is there."""
    return importlib.util.find_spec("redis") is not None


class RedisConnection:
    """A Redis that may be away. Made inside a running event loop.

    Args:
        url: of one of SCHEMES.

    Attributes:
        meanings: give the clauses of the log: what holds while Redis is away.
        timeout: seconds for an `ask()`, with the connection.
        is_up: whether Redis has answered the last time.
        errors: how often Redis has failed.
    """

    def __init__(self, url: str) -> None:
        self._cluster = url if split_url(url).scheme in redis_cluster.SCHEMES else ""
        clients = [None] if self._cluster else _connect(url)
        self._client: Any = clients[0]  # of a cluster: found when needed
        self._sentinels = clients[1:]
        self._finding, self._place = asyncio.Lock(), _place_of(url)
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._subscriptions: list[_Subscription] = []
        self._listeners: set[asyncio.Task[None]] = set()
        self._healer: asyncio.Task[None] | None = None
        self.meanings: list[Callable[[], str]] = []
        self.timeout = TIMEOUT
        self.is_up = True
        self.errors = 0

    async def ask(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """The result of `work`, which gets a client of redis-py. Any exception of `work` counts as a loss of Redis.

        Raises:
            RedisAway: Redis has failed; at once if Redis was away before.
        """
        if not self.is_up:
            raise RedisAway
        try:
            async with asyncio.timeout(self.timeout), self._room:
                return await work(self._client or await self._find())
        except Exception as error:  # whatever redis-py raises; RedisError, OSError and TimeoutError among others
            self._fail(error)
            raise RedisAway from error

    def subscribe(
        self,
        channel: str,
        begin: Callable[[], Awaitable[None]],
        take: Callable[[bytes], None],
        end: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the messages of a channel until `close()`.

        Args:
            begin: is awaited after each beginning of the subscription: messages before are lost. May raise RedisAway.
            take: is called with each message.
            end: is called when Redis is found away.
        """
        subscription = _Subscription(channel, begin, take, end)
        self._subscriptions.append(subscription)
        if self.is_up:
            self._listen(subscription)

    async def close(self) -> None:
        """End the connections, and leave nothing running."""
        tasks = [*self._listeners, *([self._healer] if self._healer else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for client in filter(None, (self._client, *self._sentinels)):
            await client.aclose()
            await client.connection_pool.disconnect()

    async def _find(self) -> Any:
        """The client of the node of a cluster."""
        async with self._finding:
            if self._client is None:
                self._client = await find_node(self._cluster, lambda url: _connect(url)[0])
        return self._client

    async def _forget(self) -> None:
        """Leave no connection that may be broken. Of a cluster, another node may be the right one by now."""
        if self._client is None:
            return
        await self._client.connection_pool.disconnect()
        if self._cluster:
            self._client = None

    # ---- subscriptions

    def _listen(self, subscription: _Subscription) -> None:
        task = self._loop.create_task(self._take_messages(subscription))
        self._listeners.add(task)
        task.add_done_callback(self._listeners.discard)

    async def _take_messages(self, subscription: _Subscription) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                client = self._client or await self._find()
            async with client.pubsub() as pubsub:
                async with asyncio.timeout(self.timeout):
                    await pubsub.subscribe(subscription.channel)
                    await pubsub.get_message(timeout=self.timeout)  # the confirmation
                await subscription.begin()
                while True:
                    message = await self._next_message(pubsub)
                    if message["type"] == "message":
                        subscription.take(message["data"])
        except RedisAway:  # begin() has met the loss, which ask() has told
            return
        except Exception as error:
            self._fail(error)

    async def _next_message(self, pubsub: Any) -> Any:
        message = await pubsub.get_message(timeout=PING_AFTER)
        if message is None:
            await pubsub.ping()
            message = await pubsub.get_message(timeout=self.timeout)
        if message is None:
            raise TimeoutError
        return message

    # ---- Redis is away

    def _fail(self, error: Exception) -> None:
        self.errors += 1
        if not self.is_up:
            return
        self.is_up = False
        meaning = "; ".join(each() for each in self.meanings)
        log.warning("Redis at %s failed (%s); until Redis answers: %s", self._place, type(error).__name__, meaning)
        for task in self._listeners:
            if task is not asyncio.current_task():
                task.cancel()
        for each in self._subscriptions:
            each.end()
        self._healer = self._loop.create_task(self._heal())

    async def _heal(self) -> None:
        """Write until Redis takes the write: a replica, and a Redis without memory, answer PING and write nothing."""
        pause = SHORTEST_PAUSE
        while not self.is_up:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                async with asyncio.timeout(self.timeout):
                    await self._forget()
                    client = self._client or await self._find()
                    await client.set(PROBE, 1, px=1000)
            except Exception:  # still away, for whatever reason
                self.errors += 1
            else:
                self.is_up = True
        self._healer = None
        log.warning("Redis at %s answers again", self._place)
        for each in self._subscriptions:
            self._listen(each)


# ---- the library


def _connect(url: str) -> list[Any]:
    """A client of redis-py, and the clients of the Sentinels. No client retries: a retry would cost a request time."""
    redis = importlib.import_module("redis.asyncio")
    retry = importlib.import_module("redis.asyncio.retry").Retry(
        importlib.import_module("redis.backoff").NoBackoff(), 0
    )
    options = {"socket_timeout": None, "socket_connect_timeout": None, "retry": retry}  # ask() limits the time
    parts = split_url(url)
    if parts.scheme != SENTINEL:
        return [redis.Redis.from_url(url, **options)]
    sentinel = importlib.import_module("redis.asyncio.sentinel").Sentinel(
        parts.addresses(_SENTINEL_PORT), sentinel_kwargs=options
    )
    master = parts.first
    name, _, database = master.path.strip("/").partition("/")
    secrets = {"username": master.username, "password": master.password}
    return [sentinel.master_for(name, db=int(database or 0), **secrets, **options), *sentinel.sentinels]


def _place_of(url: str) -> str:
    """Where a URL leads, without user and password."""
    return ",".join(split_url(url).places)
