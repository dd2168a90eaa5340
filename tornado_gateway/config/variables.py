"""The variables of the environment: the one list of them.

What is loaded (settings.py), what is shown (rendering.py) and what is taken for a misspelling
(misspellings.py) all come from `VARIABLES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tornado_gateway.config.parsers import (
    MILLION,
    certificates,
    flag,
    hash_key,
    hosts,
    milliseconds,
    names,
    networks,
    one_of,
    origins,
    path,
    readable_file,
    repeatable,
    retry_on,
    size,
    statuses,
    token,
    whole,
)
from tornado_gateway.config.services import Option, services, services_file
from tornado_gateway.policy.http.target import BROWSER, FORWARD, STRICT
from tornado_gateway.policy.http.unavailable import RETRY, STATUS
from tornado_gateway.policy.upstream.balancing import BALANCERS


@dataclass(frozen=True, slots=True)
class Variable:
    """
    Attributes:
        parse: from the text, which is never "", to the value; raises as the parsers of values.py do.
        default: as text; "" leaves the variable unset.
        help: one line with unit, range and what 0 means.
        group: the heading it stands under.
        secret: whether its value must not be shown.
        aliases: other names, which count if `name` is not set.
        reserved: whether it is checked now, but takes effect with a later release.
        key: under which a service in UPSTREAMS may have a value of its own; "" if it may not. Marked with a star.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    group: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    reserved: bool = False
    key: str = ""

    @property
    def attribute(self) -> str:
        """The attribute of Settings that holds its value."""
        return "services" if self.name == "UPSTREAMS" else self.name.lower().removesuffix("_ms")

    @property
    def line(self) -> str:
        aliases = "".join(f"; also read from {alias}" for alias in self.aliases)
        return f"{self.help}{aliases}{' *' if self.key else ''}{' (reserved)' if self.reserved else ''}"

    def find(self, env: Mapping[str, str]) -> tuple[str, str]:
        """The name that is set, and its text; else the default."""
        given = ((name, env[name]) for name in (self.name, *self.aliases) if env.get(name))
        return next(given, (self.name, self.default))


def _of_services(name: str, parse: Callable[[str], Any], default: str, text: str, group: str) -> Variable:
    """A variable that a service in UPSTREAMS may have in its own way: BREAKER_OPEN_MS as "breakerOpenMs"."""
    first, *others = name.lower().split("_")
    return Variable(name, parse, default, text, group, key=first + "".join(map(str.capitalize, others)))


# fmt: off
_WAITING: tuple[Variable, ...] = (
    _of_services("HTTP_PROXY_TIMEOUT_MS", milliseconds(1), "30000",
                 "ms to a response's head, of all tries together, 1 to 86400000", "Upstreams"),
    _of_services("UPSTREAM_BODY_IDLE_TIMEOUT_MS", milliseconds(0), "",
                 "ms between two pieces of a body, 0 to 86400000; 0: no limit; unset: as HTTP_PROXY_TIMEOUT_MS",
                 "Upstreams"),
    _of_services("UPSTREAM_CONNECT_TIMEOUT_MS", milliseconds(1), "5000",
                 "ms for name, connection and TLS together, 1 to 86400000", "Upstreams"),
    _of_services("LONG_POLL", flag, "false",
                 "true or false: whether a service answers late on purpose: late answers cost an endpoint no traffic",
                 "Upstreams"),
)
_EVENT_STREAMS: tuple[Variable, ...] = (
    _of_services("SSE_HEARTBEAT_MS", milliseconds(0), "15000",
                 "ms of silence until a comment is sent to an event stream's reader, 0 to 86400000; 0: none",
                 "Event streams"),
    _of_services("REQUEST_TIMEOUT_MS", milliseconds(0), "0",
                 "ms from a request's head to its response's end, not of streams, 0 to 86400000; 0: no limit",
                 "Upstreams"),
    _of_services("MIN_UPLOAD_RATE", whole(0, MILLION), "100",
                 "least bytes/s of a request's body, averaged over 60 s, 0 to 1000000; 0: no limit", "Upstreams"),
    _of_services("MIN_RESPONSE_RATE", whole(0, MILLION), "100",
                 "least bytes/s of a response with a Content-Length, averaged over 60 s, 0 to 1000000; 0: no limit",
                 "Upstreams"),
    _of_services("SSE_IDLE_TIMEOUT_MS", milliseconds(0), "300000",
                 "ms an event stream's service may be silent, 0 to 86400000; 0: for ever", "Event streams"),
    _of_services("SSE_MAX_AGE_MS", milliseconds(0), "0",
                 "ms until an event stream is ended, spread over its last fifth, 0 to 86400000; 0: never",
                 "Event streams"),
    _of_services("SSE_MAX_BYTES", size(0), "0",
                 "bytes until an event stream is ended, 0 to 1125899906842624; 0: never", "Event streams"),
    _of_services("SSE_ERROR_EVENT", one_of("off", "generic", "openai", "anthropic"), "off",
                 "off, generic, openai or anthropic: the event that tells that a stream has failed", "Event streams"),
    _of_services("SSE_UNAVAILABLE", one_of(RETRY, STATUS), "",
                 "retry (a 200 with retry:) or status: an EventSource's 502, 503, 504; unset: retry, under /sse only",
                 "Event streams"),
    _of_services("SSE_LAST_EVENT_ID_QUERY", flag, "false",
                 "true or false: whether ?last_event_id= is sent on as Last-Event-ID", "Event streams"),
    _of_services("SSE_PEEK_MS", milliseconds(0), "0",
                 "ms to wait for the first event; after an error another endpoint is asked, 0 to 86400000; 0: none",
                 "Event streams"),
)
_WEBSOCKETS: tuple[Variable, ...] = (
    _of_services("WS_PING_INTERVAL_MS", milliseconds(0), "30000",
                 "ms between pings to either side, 0 to 86400000; 0: none", "WebSocket"),
    _of_services("WS_PONG_TIMEOUT_MS", milliseconds(1), "10000",
                 "ms to wait for a pong, or any byte, after a ping, 1 to 86400000", "WebSocket"),
    _of_services("WS_IDLE_TIMEOUT_MS", milliseconds(0), "0",
                 "ms without a message in either direction, 0 to 86400000; 0: no limit", "WebSocket"),
)
_CHOOSING: tuple[Variable, ...] = (
    _of_services("BALANCER", one_of(*BALANCERS), "least_load",
                 f"{', '.join(BALANCERS)}: how an endpoint is chosen", "Choosing"),
    _of_services("HASH_KEY", hash_key, "client",
                 "client, path, header:<name> or cookie:<name>: the part of a request that consistent_hash uses",
                 "Choosing"),
    _of_services("STICKY", one_of("off", "redistribute", "refuse"), "off",
                 "off, redistribute or refuse: what happens to a session whose endpoint is out; off: no sessions",
                 "Choosing"),
    _of_services("MAX_IN_FLIGHT", whole(0, MILLION), "0",
                 "requests in flight at one endpoint, without streams, 0 to 1000000; 0: no limit",
                 "Choosing"),
    _of_services("QUEUE_SIZE", whole(0, MILLION), "100",
                 "requests that may wait until a service has room, 0 to 1000000; 0: none", "Choosing"),
    _of_services("QUEUE_TIMEOUT_MS", milliseconds(1), "1000",
                 "ms a request waits for room, 1 to 86400000", "Choosing"),
    _of_services("ADAPTIVE_CONCURRENCY", flag, "false",
                 "true or false: whether the limit of requests in flight follows the latency", "Choosing"),
    _of_services("SLOW_START_MS", milliseconds(0), "10000",
                 "ms until an endpoint that is new or back has its full share, 0 to 86400000; 0: at once",
                 "Choosing"),
    _of_services("REBALANCE_STREAMS", whole(0, MILLION), "0",
                 "streams per second that are ended on endpoints with more than their share, 0 to 1000000; 0: none",
                 "Choosing"),
    _of_services("BREAKER_FAILURES", whole(0, MILLION), "5",
                 "failures in BREAKER_WINDOW_MS that open an endpoint's breaker, 0 to 1000000; 0: no number does",
                 "Breaker"),
    _of_services("BREAKER_WINDOW_MS", milliseconds(1), "10000",
                 "ms in which failures are counted, 1 to 86400000", "Breaker"),
    _of_services("BREAKER_OPEN_MS", milliseconds(1), "15000",
                 "ms a breaker is open the first time, then twice as long each time, 1 to 86400000", "Breaker"),
    _of_services("BREAKER_MAX_OPEN_MS", milliseconds(1), "300000",
                 "ms a breaker is open at most, 1 to 86400000", "Breaker"),
    _of_services("BREAKER_PROBES", whole(1, MILLION), "1",
                 "requests at once that test an endpoint whose breaker has opened, 1 to 1000000", "Breaker"),
    _of_services("BREAKER_STATUSES", statuses, "500,502-504,506-599",
                 "statuses that count as an endpoint's failure, separated by commas", "Breaker"),
    _of_services("BREAKER_FAILURE_PERCENT", whole(0, 100), "0",
                 "percent of failed requests in the window that opens a breaker, 0 to 100; 0: off", "Breaker"),
    _of_services("BREAKER_SLOW_MS", milliseconds(0), "0",
                 "ms to a response's head; a request that takes longer is slow, 0 to 86400000; 0: off", "Breaker"),
    _of_services("BREAKER_SLOW_PERCENT", whole(1, 100), "100",
                 "percent of slow requests in the window that opens a breaker, 1 to 100", "Breaker"),
    _of_services("BREAKER_MIN_REQUESTS", whole(1, MILLION), "10",
                 "requests in the window below which percentages do not count, 1 to 1000000", "Breaker"),
    _of_services("MAX_EJECTED_PERCENT", whole(0, 100), "50",
                 "percent of a service's endpoints that breakers may take out, 0 to 100", "Breaker"),
    _of_services("PANIC_PERCENT", whole(0, 100), "50",
                 "percent of a service's endpoints; while fewer are usable, all are used, 0 to 100; 0: never",
                 "Breaker"),
    _of_services("HEALTH_CHECK", one_of("off", "http", "tcp", "websocket"), "off",
                 "off, http, tcp or websocket: how endpoints are checked", "Health checks"),
    _of_services("HEALTH_PATH", path, "/",
                 "path of a check's request, below the endpoint's base path", "Health checks"),
    _of_services("HEALTH_STATUSES", statuses, "200-399",
                 "statuses that mean healthy, separated by commas", "Health checks"),
    _of_services("HEALTH_INTERVAL_MS", milliseconds(1), "10000",
                 "ms between two checks, 1 to 86400000", "Health checks"),
    _of_services("HEALTH_DOWN_INTERVAL_MS", milliseconds(1), "2000",
                 "ms between two checks of an endpoint that is down, 1 to 86400000", "Health checks"),
    _of_services("HEALTH_TIMEOUT_MS", milliseconds(1), "2000", "ms a check may take, 1 to 86400000", "Health checks"),
    _of_services("HEALTH_RISE", whole(1, MILLION), "2",
                 "checks in a row that must pass until an endpoint is up, 1 to 1000000", "Health checks"),
    _of_services("HEALTH_FALL", whole(1, MILLION), "3",
                 "checks in a row that must fail until an endpoint is down, 1 to 1000000", "Health checks"),
    _of_services("RETRY_ON", retry_on, "connect,reset",
                 "connect, reset and statuses such as 503, or off: after which another endpoint is asked", "Retries"),
    _of_services("REPEATABLE", repeatable, "",
                 "methods such as POST that are safe to repeat, beside idempotent ones; all: every method",
                 "Retries"),
    _of_services("RETRY_ATTEMPTS", whole(1, 100), "3",
                 "tries of one request, with the first, 1 to 100", "Retries"),
    _of_services("RETRY_TRY_TIMEOUT_MS", milliseconds(0), "0",
                 "ms to a response's head for each try but the last, 0 to 86400000; 0: no limit", "Retries"),
    _of_services("RETRY_BACKOFF_MS", milliseconds(0), "25",
                 "ms before a first retry of a status, at most, then twice as long each time, 0 to 86400000",
                 "Retries"),
    _of_services("RETRY_BUDGET_PERCENT", whole(0, 1000), "20",
                 "percent of the last seconds' requests that may be sent again, 0 to 1000", "Retries"),
    _of_services("RETRY_BUDGET_FLOOR", whole(0, MILLION), "3",
                 "retries per 2 seconds that are allowed in any case, 0 to 1000000", "Retries"),
    _of_services("HEDGE", flag, "false",
                 "true or false: whether idempotent requests slower than the last minute's p95 are sent twice",
                 "Retries"),
    _of_services("ALT_SVC", one_of("drop", "pass"), "drop",
                 "drop or pass: what happens to a service's Alt-Svc, which leads clients past the gateway",
                 "Forwarding"),
)
PER_SERVICE = (*_WAITING, *_CHOOSING, *_EVENT_STREAMS, *_WEBSOCKETS)
_LISTS = (statuses, retry_on, repeatable)  # parsers of several values: an array in JSON is as good
_OPTIONS = {each.key: Option(each.attribute, each.parse, each.parse in _LISTS) for each in PER_SERVICE}

VARIABLES: tuple[Variable, ...] = (
    Variable("HOST", hosts, "0.0.0.0",  # noqa: S104  # a gateway is there to be reached
             "addresses, host names or * to listen on; 0.0.0.0: all of IPv4, ::: all of IPv6, *: both", "Server"),
    Variable("PORT", whole(0, 65535), "8080", "TCP port to listen on, 0 to 65535; 0: any free one", "Server"),
    Variable("GATEWAY_ENV", one_of("development", "test", "production"), "development",
             "development, test or production", "Server", aliases=("NODE_ENV",)),
    Variable("EVENT_LOOP", one_of("auto", "uvloop", "asyncio"), "auto",
             "uvloop, asyncio or auto: uvloop where it is installed", "Server"),
    Variable("MAX_CONNECTIONS", whole(0, MILLION), "0",
             "client connections at once, 0 to 1000000; 0: as many as the file descriptors allow", "Server"),
    Variable("MAX_BODY_BYTES", size(0), "",
             "bytes of a request's body, 0 to 1125899906842624; unset: no limit, 0: no bodies", "Server"),
    Variable("HALF_CLOSE", one_of("abort", "ignore"), "abort",
             "abort or ignore: what a client's FIN does to a request whose response is not complete", "Server"),
    Variable("HEADER_TIMEOUT_MS", milliseconds(1), "10000",
             "ms for a request's head to arrive whole, 1 to 86400000", "Server"),
    Variable("KEEPALIVE_TIMEOUT_MS", milliseconds(1), "95000",
             "ms a client's connection may idle between requests, 1 to 86400000", "Server"),
    Variable("CLIENT_IDLE_TIMEOUT_MS", milliseconds(1), "60000",
             "ms to wait for a client to send or accept more of a body, 1 to 86400000", "Server"),
    Variable("SHUTDOWN_TIMEOUT_MS", milliseconds(0), "25000",
             "ms to finish what is in flight, 0 to 86400000; 0: cut it off", "Server"),
    Variable("SHUTDOWN_DELAY_MS", milliseconds(0), "0",
             "ms that /readyz is 503 while connections are still accepted, 0 to 86400000; 0: none", "Server"),
    Variable("LOG_LEVEL", one_of("fatal", "error", "warn", "info", "debug", "trace", "silent"), "info",
             "fatal, error, warn, info, debug, trace or silent", "Logs"),
    Variable("LOG_FORMAT", one_of("auto", "json", "text"), "auto",
             "json, text or auto: text on a terminal, else json", "Logs"),
    Variable("ACCESS_LOG", flag, "true", "true or false: whether each request is logged", "Logs"),
    Variable("UPSTREAMS", services(_OPTIONS), "",
             'JSON map of service to array of base URLs: {"billing": ["http://10.0.0.7:8080"]}', "Upstreams"),
    Variable("UPSTREAMS_FILE", services_file(_OPTIONS), "",
             "path of a JSON file with such a map; UPSTREAMS must not be set beside it", "Upstreams"),
    Variable("UPSTREAM_MAX_IDLE", whole(0, MILLION), "256",
             "idle connections kept per endpoint, 0 to 1000000; 0: none", "Upstreams"),
    Variable("UPSTREAM_IDLE_TIMEOUT_MS", milliseconds(1), "60000",
             "ms an idle connection is kept, 1 to 86400000", "Upstreams"),
    Variable("UPSTREAM_TLS_VERIFY", flag, "true",
             "true or false: whether https upstreams must show a valid certificate", "Upstreams"),
    Variable("UPSTREAM_TLS_CA_FILE", certificates, "",
             "path of a PEM file of authorities to trust; unset: the system's", "Upstreams"),
    Variable("UPSTREAM_TLS_CLOSURE", flag, "true",
             "true or false: whether a body that ends with its TLS connection needs TLS's closure alert", "Upstreams"),
    Variable("DNS_TTL_MS", milliseconds(0), "30000",
             "ms a name's addresses are kept, 0 to 86400000; 0: not at all; with DISCOVERY 1 s or longer", "Upstreams"),
    Variable("DNS_FAMILY", one_of("auto", "ipv4", "ipv6", "all"), "auto",
             "auto, ipv4, ipv6 or all: the addresses of a name that are used; auto: IPv4 if there are any",
             "Upstreams"),
    Variable("DNS_RESOLV_CONF", readable_file, "",
             "path of a file as resolv.conf(5), whose name servers may have a port; unset: the system's", "Upstreams"),
    Variable("DNS_HOSTS", readable_file, "",
             "path of a file as hosts(5), in which names are looked up first; unset: /etc/hosts", "Upstreams"),
    Variable("DISCOVERY", flag, "true",
             "true or false: whether each address of a name is an endpoint of its own", "Upstreams"),
    Variable("STICKY_SECRET", str, "",
             "key that sticky cookies are made with; unset: random per process", "Upstreams", secret=True),
    Variable("READY_REQUIRES", names, "",
             "services, or *: /readyz is 503 while one of them has no endpoint that can be used", "Upstreams"),
    *_WAITING,
    *_CHOOSING,
    Variable("TRUSTED_PROXIES", networks, "",
             "addresses and networks whose forwarding headers are believed, separated by commas", "Forwarding"),
    Variable("PRESERVE_HOST", flag, "false",
             "true or false: whether upstreams see the client's Host instead of their own", "Forwarding"),
    Variable("TARGET_BYTES", one_of(BROWSER, STRICT, FORWARD), BROWSER,
             "browser, strict or forward: a target may hold what browsers send, RFC 3986's bytes, nearly all",
             "Forwarding"),
    Variable("VIA_NAME", token, "",
             "this gateway's pseudonym in Via, an RFC 9110 token; unset: random per process", "Forwarding"),
    Variable("AUTH_REQUIRED", flag, "",
             "true or false: whether requests need a bearer token; unset: true in production, else false",
             "Authentication"),
    Variable("JWT_SECRET", str, "",
             "key of the tokens' HMAC signatures, 32 characters or more if AUTH_REQUIRED",
             "Authentication", secret=True),
    Variable("RATE_LIMIT_MAX", whole(0, 2**53), "",
             "requests per window and client, 0 to 9007199254740992; unset, 0: no limit", "Rate limit", reserved=True),
    Variable("RATE_LIMIT_WINDOW_MS", milliseconds(1), "60000",
             "ms of a window, 1 to 86400000", "Rate limit", reserved=True),
    Variable("CACHE_ENABLED", flag, "false", "true or false: whether responses are cached", "Cache", reserved=True),
    Variable("CACHE_DEFAULT_TTL_MS", milliseconds(0), "5000",
             "ms for responses that do not say, 0 to 86400000; 0: do not keep them", "Cache", reserved=True),
    Variable("CACHE_MAX_BODY_BYTES", size(0), "262144",
             "bytes of the largest body kept, 0 to 1125899906842624; 0: empty ones only", "Cache", reserved=True),
    Variable("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", milliseconds(0), "1000",
             "ms of delay that mean overload, 0 to 86400000; 0: off", "Under pressure", reserved=True),
    Variable("UNDER_PRESSURE_MAX_HEAP_USED_BYTES", size(0), "0",
             "bytes in use that mean overload, 0 to 1125899906842624; 0: off", "Under pressure", reserved=True),
    Variable("UNDER_PRESSURE_MAX_RSS_BYTES", size(0), "0",
             "bytes resident that mean overload, 0 to 1125899906842624; 0: off", "Under pressure", reserved=True),
    Variable("MAX_STREAMS", whole(0, MILLION), "0",
             "event streams and WebSockets at once, 0 to 1000000; 0: no limit", "Streams"),
    Variable("MAX_STREAMS_PER_SERVICE", whole(0, MILLION), "0",
             "event streams and WebSockets to one service, 0 to 1000000; 0: no limit", "Streams"),
    Variable("MAX_STREAMS_PER_CLIENT", whole(0, MILLION), "0",
             "event streams and WebSockets by one client address (of IPv6: /64 network), 0 to 1000000; 0: no limit",
             "Streams"),
    Variable("SLOW_CONSUMER", one_of("pause", "disconnect"), "pause",
             "pause or disconnect: what a stream does when its reader does not keep up", "Streams"),
    Variable("STREAM_BUFFER_BYTES", size(1), "262144",
             "bytes that may wait for an event stream's reader, 1 to 1125899906842624", "Streams"),
    Variable("DRAIN_SPREAD_MS", milliseconds(0), "5000",
             "ms over which streams are ended when the gateway stops, 0 to 86400000; 0: all at once", "Streams"),
    *_EVENT_STREAMS,
    Variable("WS_ALLOWED_ORIGINS", origins, "",
             "origins whose pages may connect, * or same-origin; unset: *, in production same-origin",
             "WebSocket"),
    Variable("WS_ORIGIN", one_of("pass", "rewrite"), "pass",
             "pass or rewrite: whether services see the client's Origin or their own", "WebSocket"),
    Variable("WS_MAX_MESSAGE_BYTES", size(1), "16777216",
             "bytes of a message on the wire, over all its fragments, 1 to 1125899906842624", "WebSocket"),
    Variable("WS_MAX_BUFFERED_BYTES", size(1), "2000000",
             "bytes that may wait for a slow receiver, 1 to 1125899906842624", "WebSocket"),
    *_WEBSOCKETS,
    Variable("WS_RATE_LIMIT_MESSAGES", whole(0, MILLION), "0",
             "messages, pings and pongs per second by one client's connection, 0 to 1000000; 0: no limit", "WebSocket"),
    Variable("WS_RATE_LIMIT_BYTES", size(0), "0",
             "bytes per second on the wire by one client's connection, 0 to 1125899906842624; 0: no limit",
             "WebSocket"),
    Variable("WS_RATE_LIMIT_POLICY", one_of("delay", "close"), "delay",
             "delay or close: what happens to a connection that exceeds a WS_RATE_LIMIT", "WebSocket"),
    Variable("WS_DRAIN_CODE", one_of("1001", "1012"), "1001",
             "1001 (going away) or 1012 (restart): the close code when the gateway stops", "WebSocket"),
)
# fmt: on
