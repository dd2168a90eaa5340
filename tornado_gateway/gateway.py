"""The record of everything that handlers may use. No behaviour."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tornado_gateway.adapters.access_log import AccessLog
from tornado_gateway.adapters.batched_limits import BatchedLimits
from tornado_gateway.adapters.passwords import OperatorPassword
from tornado_gateway.adapters.redis_cache import RedisCache
from tornado_gateway.adapters.redis_connection import RedisConnection
from tornado_gateway.adapters.revocation_store import RevocationStore
from tornado_gateway.adapters.shared_endpoints import SharedEndpoints
from tornado_gateway.adapters.tracing import Tracer
from tornado_gateway.policy.acting import AdminConfig
from tornado_gateway.policy.attempts import Attempts
from tornado_gateway.policy.http.caching.purge import Purge, Purged
from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Found, Stored
from tornado_gateway.policy.http.caching.totals import CacheTotals
from tornado_gateway.policy.http.cors import CorsConfig
from tornado_gateway.policy.http.forwarding import ForwardingConfig
from tornado_gateway.policy.limits.in_flight import InFlight
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.limits.totals import LimitTotals
from tornado_gateway.policy.limits.verdict import Verdict
from tornado_gateway.policy.overload import Overload
from tornado_gateway.policy.principal import Authenticator
from tornado_gateway.policy.revocations import Revocations
from tornado_gateway.policy.sessions import SessionStore
from tornado_gateway.policy.tickets.allowance import Allowance
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.views.cached import Top
from tornado_gateway.policy.views.durations import Durations
from tornado_gateway.policy.views.request_tail import RequestTail
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.registry import ServiceRegistry
from tornado_gateway.upkeep.observer import Observer
from tornado_gateway.upkeep.pressure import Pressure
from tornado_gateway.upkeep.shared import Shared
from tornado_gateway.upkeep.streams import Streams
from tornado_gateway.upkeep.whole import Gathered, Whole
from tornado_gateway.wire.client.client import PooledHTTPClient


@dataclass(slots=True)
class Lifecycle:
    """The state of the process.

    Attributes:
        began: instant (gateway clock) of the start.
        draining: whether the process was told to stop, so that load balancers should send no new requests.
        is_replaced: whether another process has taken over the listening sockets, so that load balancers have nothing
            to change.
        leaves_alone: whether this worker drains and the other workers do not, so that another takes its place.
        stopped: whether the process is ending all connections, so that the end of a connection is not the client's.
    """

    began: float = 0.0
    draining: bool = False
    is_replaced: bool = False
    leaves_alone: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload has done.

    Attributes:
        changes: a clause for each change.
        needs_restart: variables that have changed, and whose new value counts from the next start.
        warnings: about the new configuration.
    """

    changes: tuple[str, ...]
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Reloading:
    """How the gateway takes another configuration.

    Attributes:
        carry_out: reads the configuration again; None while the gateway cannot. May raise ConfigurationRefused.
        follow: begins to read the configuration again if files are watched, and returns whether; None while the
            gateway cannot.
    """

    carry_out: Callable[[], Awaitable[Reloaded]] | None = None
    follow: Callable[[], bool] | None = None


class LimitStore(Protocol):
    """Counts requests."""

    def take(self, asked: Sequence[Asked], now: float, /) -> list[Verdict] | Awaitable[list[Verdict]]:
        """Count a request if all rules admit the request; count nothing otherwise.

        Args:
            now: seconds on the gateway clock.

        Returns:
            The verdicts in the order of the rules, or an awaitable of the verdicts if the store has to do I/O.

        Raises:
            LimitsUnavailable: nobody can tell, and RATE_LIMIT_ON_ERROR is closed.
        """

    def charge(self, asked: Sequence[Asked], cost: int, now: float, /) -> None:
        """Count `cost` more requests, even above the limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The rate limits.

    Attributes:
        store: has the counters.
        memory: has the counters of this process.
        shared: has the counters of all processes; None for one process without Redis.
        default: of requests that reach no service.
        totals: what the limits have done.
        now: seconds on the gateway clock.
        in_flight: the requests in flight of each client.
    """

    store: LimitStore
    memory: MemoryStore
    shared: BatchedLimits | None
    default: LimitConfig
    totals: LimitTotals
    now: Callable[[], float]
    in_flight: InFlight


class TicketStore(Protocol):
    """Keeps tickets until their first use."""

    def put(self, digest: str, ticket: bytes, seconds: float, now: float, /) -> Awaitable[None] | None:
        """Keep a ticket.

        Args:
            seconds: that the ticket is good for; TTL of policy/tickets/ticket.py at most.
            now: seconds on the gateway clock.

        Returns:
            None, or an awaitable if the store has to do I/O.

        Raises:
            TicketsUnavailable: the store is full or away.
        """

    def take(self, digest: str, now: float, /) -> bytes | Awaitable[bytes | None] | None:
        """Take a ticket out of the store: of any number of calls for a ticket, one gets the ticket.

        Returns:
            The ticket; None for a ticket that is unknown, used or too old; an awaitable of either if the store has to
            do I/O.

        Raises:
            TicketsUnavailable: the store is away.
        """


@dataclass(frozen=True, slots=True)
class Tickets:
    """The one-time tickets.

    Attributes:
        store: has the tickets.
        memory: has the tickets of this process; None for a store of several processes.
        allowance: how many tickets each principal may make.
        totals: tickets by what has become of them: MADE, USED or REFUSED of policy/tickets/ticket.py.
    """

    store: TicketStore
    memory: MemoryTickets | None
    allowance: Allowance
    totals: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Operators:
    """The pages below /admin, and who may use the pages.

    Attributes:
        config: who may act.
        asks: whether the pages need a credential.
        sessions: of operators who have logged in.
        attempts: counts log-ins.
        is_password: None if there is no password.
    """

    config: AdminConfig
    asks: bool
    sessions: SessionStore
    attempts: Attempts
    is_password: OperatorPassword | None


class ResponseStore(Protocol):
    """Keeps responses by key; see adapters/response_cache.py.

    Attributes:
        responses: number of stored responses; a key has a response for each variant.
        evictions: number of keys that were pushed out.
        max_bytes: bytes of memory that all stored responses may take.
        changes: number of the latest invalidation or purge.
    """

    responses: int
    evictions: int
    max_bytes: int
    changes: int

    def __len__(self) -> int:
        """The number of keys with stored responses."""

    @property
    def size(self) -> int:
        """Bytes of memory of all stored responses, estimated."""

    def find(self, key: Key, /) -> Found | None:
        """The stored responses of a key."""

    def keep(self, key: Key, response: Stored, /) -> bool:
        """Store a response; return whether the response is stored."""

    def drop(self, key: Key, response: Stored, /) -> None:
        """Forget a response, if the response is stored still."""

    def is_current(self, resource: bytes, tags: bytes | None, since: int, /) -> bool:
        """Whether nothing has invalidated or purged a response since the request for the response.

        Args:
            tags: of the response; None if not known yet.
            since: `changes` at the time of the request.
        """

    def purge(self, purge: Purge, now: float, /) -> Steps[Purged]:
        """Purge stored responses. No response that was asked for before is stored afterwards.

        Args:
            now: instant (gateway clock).
        """

    def top(self, count: int, /) -> Steps[Top]:
        """The keys whose responses take the most bytes, and the keys that requests have found most often."""

    def invalidate(self, resource: bytes, /) -> int:
        """Forget all responses of a resource; return the number of keys that had responses."""


@dataclass(frozen=True, slots=True)
class ResponseCache:
    """The response cache.

    Attributes:
        store: has the stored responses.
        name: of the cache in Cache-Status.
        now: seconds on the gateway clock.
        wall: seconds since 1970.
        new_boundary: makes a boundary of parts that occurs in no body, as far as chance goes.
        refreshing: keys whose stored response is validated in the background at present.
        flights: requests to services that other requests may join; see handlers/collapsing.py.
        alone: hashes of keys whose responses could not be shared, with the instant (gateway clock) of forgetting.
        totals: what the cache has done.
        shared: the store behind `store` that other gateways share; None for none.
        others: the other workers, which must learn what is invalid; None if there are none, or `shared` tells.
    """

    store: ResponseStore
    name: bytes
    now: Callable[[], float]
    wall: Callable[[], float]
    new_boundary: Callable[[], bytes]
    refreshing: set[Key] = field(default_factory=set)
    flights: dict[Key, Any] = field(default_factory=dict)
    alone: dict[int, float] = field(default_factory=dict)
    totals: CacheTotals = field(default_factory=CacheTotals)
    shared: RedisCache | None = None
    others: Whole | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """The pages of figures.

    Attributes:
        state: collects the figures of this process; see state_of() in figures.py.
        stats: the body of /admin/stats.
        text, open_metrics: the body of /metrics in each format, and its media type.
        cache: what this process has for /admin/api/cache.
    """

    state: Callable[..., Steps[State]]
    stats: Shared[str] | Gathered[str]
    text: Shared[tuple[bytes, str]] | Gathered[tuple[bytes, str]]
    open_metrics: Shared[tuple[bytes, str]] | Gathered[tuple[bytes, str]]
    cache: Shared[dict[str, Any]]

    def close(self) -> None:
        """End what is computed."""
        for each in (self.stats, self.text, self.open_metrics, self.cache):
            each.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of a running gateway. A reload makes another Gateway, which new requests get; see reload.py.

    Attributes:
        services: by name as in request targets; services may be added and retired.
        client: connections to endpoints.
        forwarding: how requests are forwarded.
        authenticator: checks credentials; None if nothing asks for a credential.
        tickets: None without `ticket` in AUTH_TOKEN_SOURCES.
        operators: who may use the pages below /admin.
        revocations: what is revoked.
        revocation_store: where revocations come and go.
        limits: None if nothing is limited.
        redis: the connections to Redis, by URL.
        cors: of requests that reach no service; None if all services answer CORS themselves, and no preflight passes
            without a credential.
        cache: None if no service's responses are cached.
        access_log: None for no access log.
        streams: open event streams and WebSockets.
        overload: which requests are shed.
        pressure: the measurements that `overload` decides by.
        figures: the pages of figures.
        durations: durations of all requests.
        observer: the dashboard's view of the gateway.
        tail: the newest requests.
        required: names of the services that must have a usable endpoint for the gateway to be ready; "*" for all.
        environment: development, test or production.
        rng: for choices that need no secrecy.
        new_request_id: makes a request id.
        tracer: None without TRACE_SAMPLE.
        new_journal: makes the Journal of a request for a service; see handlers/journal.py.
        new_attempts: makes what asks the endpoints of a service; see handlers/attempts.py.
        now: seconds on a monotonic clock.
        reloading: how the gateway takes another configuration.
        whole: the other workers; None for a gateway of one process.
        shared_endpoints: what other gateways know of endpoints; None without SHARED_ENDPOINTS_SECRET.
    """

    services: ServiceRegistry
    client: PooledHTTPClient
    forwarding: ForwardingConfig
    authenticator: Authenticator | None
    tickets: Tickets | None
    operators: Operators
    revocations: Revocations
    revocation_store: RevocationStore
    limits: Limits | None
    redis: dict[str, RedisConnection]
    cors: CorsConfig | None
    cache: ResponseCache | None
    access_log: AccessLog | None
    streams: Streams
    overload: Overload
    pressure: Pressure
    figures: Figures
    durations: Durations
    observer: Observer
    tail: RequestTail
    required: frozenset[str]
    environment: str
    rng: random.Random
    new_request_id: Callable[[], bytes]
    tracer: Tracer | None
    new_journal: Callable[..., Any]
    new_attempts: Callable[..., Any]
    now: Callable[[], float]
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    reloading: Reloading = field(default_factory=Reloading)
    whole: Whole | None = None
    shared_endpoints: SharedEndpoints | None = None
