"""The scenarios that are measured."""

from dataclasses import dataclass

from benchmarks.cost.loads import Load, Requests, Streams
from tornado_gateway.adapters.response_cache import StoreConfig


@dataclass(frozen=True, slots=True)
class Unit:
    """The headings of a table's columns.

    Attributes:
        cost: heading of Sample.cost.
        rate: heading of Sample.rate.
        latency: whether the table has Sample.p50 and p99.
    """

    cost: str
    rate: str
    latency: bool = True


PER_REQUEST = Unit("CPU µs per request", "requests/s")
PER_EVENT = Unit("CPU µs per event", "events/s")
PER_ROUND_TRIP = Unit("CPU µs per round trip", "round trips/s")
PER_ENTRY = Unit("KiB per kept response", "requests/s")
PER_CONNECTION = Unit("KiB per idle connection", "opened/s", latency=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load to measure.

    Attributes:
        about: description for --help and the tables.
        unit: unit of the figures; scenarios with the same unit share a table.
        load: the work.
        seconds: duration of a run without the warm-up.
        access_log: whether proxies write an access log; proxies without an access log are left out.
        caches: see Place; proxies without a cache are left out.
        tls: whether clients speak TLS; proxies that are not measured with TLS are left out.
        beside: another scenario that the cost is compared with; "" for none.
        peers: names of the proxies that are measured; none for all.
    """

    about: str
    unit: Unit
    load: Load
    seconds: int
    access_log: bool = False
    caches: int = 0
    tls: bool = False
    beside: str = ""
    peers: tuple[str, ...] = ()


_SMALL = Requests("small", connections=64)
_POST = Requests("small", connections=64, posts='{"name":"Grace Hopper","roles":["admin","editor"]}')

_AS_KEPT = StoreConfig().max_bytes  # as the gateway is delivered: what comes pushes out what came before
_ALL_OF_A_LOAD = 1024**3

SCENARIOS = {
    "http": Scenario("small GET, 8 request header fields, 64 kept connections", PER_REQUEST, _SMALL, 4),
    "http-log": Scenario("the same, with an access log to a file", PER_REQUEST, _SMALL, 4, access_log=True),
    "kib": Scenario("GET of 1 KiB, 64 kept connections", PER_REQUEST, Requests("kib", 64), 4),
    "kib-varied": Scenario("the same, each with a query of its own", PER_REQUEST, Requests("kib", 64, varied=True), 4),
    "cache-hit": Scenario(
        "GET of 1 KiB, answered from the cache", PER_REQUEST, Requests("kib", 64), 4, caches=_AS_KEPT, beside="kib"
    ),
    "cache-miss": Scenario(
        "GET of 1 KiB, each with a query of its own: the answer is kept",
        PER_REQUEST,
        Requests("kib", 64, varied=True),
        4,
        caches=_AS_KEPT,
        beside="kib-varied",
    ),
    "cache-pass": Scenario(
        "small GET with an answer that no cache may keep", PER_REQUEST, _SMALL, 4, caches=_AS_KEPT, beside="http"
    ),
    "post": Scenario("small POST, answered as the small GET", PER_REQUEST, _POST, 4),
    "cache-post": Scenario(
        "small POST, which makes what is kept invalid", PER_REQUEST, _POST, 4, caches=_AS_KEPT, beside="post"
    ),
    "body64k": Scenario("64 KiB response, 32 kept connections", PER_REQUEST, Requests("64k", 32), 4),
    "body64m": Scenario("64 MiB response, 4 kept connections", PER_REQUEST, Requests("64m", 4), 5),
    "churn": Scenario(
        "small GET, a new connection for each, 32 at a time",
        PER_REQUEST,
        Requests("small", 32, ("Connection: close",)),
        3,
    ),
    "tls": Scenario("small GET over TLS 1.3, 64 kept connections", PER_REQUEST, _SMALL, 4, tls=True, beside="http"),
    "tls-handshake": Scenario(
        "small GET over TLS 1.3, a new connection with a whole handshake for each, 32 at a time",
        PER_REQUEST,
        Requests("small", 32, is_met_first=True),
        4,
        tls=True,
        beside="churn",
    ),
    "tls-resumed": Scenario(
        "the same, with a handshake that resumes a session",
        PER_REQUEST,
        Requests("small", 32, ("Connection: close",)),
        4,
        tls=True,
        beside="churn",
    ),
    "sse": Scenario(
        "1,000 event streams with 20 events of 100 bytes per second each; the latency is an event's delay",
        PER_EVENT,
        Streams("sse", 1000, 100, rate=20),
        5,
    ),
    "ws": Scenario("64 WebSockets, a message of 128 bytes back and forth", PER_ROUND_TRIP, Streams("ws", 64, 128), 4),
    "ws64k": Scenario(
        "16 WebSockets, a message of 64 KiB back and forth", PER_ROUND_TRIP, Streams("ws", 16, 64 * 1024), 4
    ),
    "cache-entry": Scenario(
        "memory of a kept response of 1 KiB",  # nginx keeps responses in files
        PER_ENTRY,
        Requests("kib", 64, varied=True, is_kept=True),
        4,
        caches=_ALL_OF_A_LOAD,
        peers=("gateway",),
    ),
    "idle-sse": Scenario("4,000 silent event streams", PER_CONNECTION, Streams("sse", 4000, 100, idle=True), 3),
    "idle-ws": Scenario("4,000 silent WebSockets", PER_CONNECTION, Streams("ws", 4000, 128, idle=True), 3),
}
