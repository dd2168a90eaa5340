"""The route table: which route serves a request, by host and path.

Three standard routes lead to every service by the service's name. Routes of ROUTES lead to one service each, by host
and by a prefix of the path. The order of the look-up:

    1. a host that has a route of its own: the routes of that host, and nothing else
    2. the gateway's own paths: the standard routes and the pages
    3. the routes without a host

The longest prefix wins. A prefix matches at "/" only: /a/* matches /a, /a/b and /a?c, but not /ab.

A look-up costs a few look-ups in dicts, whatever the number of routes.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from tornado_gateway.errors import METHODS, BadRequest, NotFound
from tornado_gateway.policy.access import Access
from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.cors import CorsConfig
from tornado_gateway.policy.http.mount import LONGEST_REMEMBERED, Mount, MountConfig, standard_mount
from tornado_gateway.policy.http.target import LONGEST_REMEMBERED_TARGET, REMEMBERED_TARGETS, split_route
from tornado_gateway.policy.limits.rules import LimitConfig

# RFC 9110 §9.3.6 and §9.3.8: a gateway serves neither tunnels nor echoes.
REFUSED_METHODS = (b"TRACE", b"CONNECT")

# First segments of the gateway's own paths, present and to come. No route without a host can shadow these paths.
OWN_SEGMENTS = frozenset((b"_pressure", b"admin", b"api", b"auth", b"healthz", b"metrics", b"readyz", b"sse", b"ws"))

_SERVICE = "<service>"
_ANYTHING = "/*"  # ends the path of a route of ROUTES
_ANY_LABEL = "*."  # begins the host of such a route, for any one label
_REMEMBERED_HOSTS = 1024  # hosts whose routes are remembered; clients make up hosts
_LONGEST_HOST = 320  # bytes of an authority that may have a route: a name has 253 (RFC 1035 §2.3.4), a port has 6

# A path with none of these bytes has one meaning only.
_AMBIGUOUS = re.compile(rb"[%;\\]|//|/\.")

# A segment of two dots, as any server may find one; and what servers read differently. A path with both has too many
# readings to compare, and no client sends such a path: clients resolve dot segments (RFC 3986 §5.2.4).
_STEP_UP = re.compile(rb"(?:[/\\]|%2f|%5c)(?:\.|%2e){2}(?:[/\\;]|%2f|%5c|%3b|$)", re.IGNORECASE)
_READ_DIFFERENTLY = re.compile(rb"[;\\]|//|%2e|%2f|%3b|%5c", re.IGNORECASE)

_PARAMETERS = re.compile(rb"(?:;|%3b)[^/]*", re.IGNORECASE)

H = TypeVar("H")


@dataclass(frozen=True, kw_only=True)
class Route(Generic[H]):
    """A row of the route table.

    Attributes:
        path: as documents and metrics name the route; "/prefix/<service>..." for a standard route.
        handler: what serves the route.
        on_handshake: what serves a WebSocket handshake instead of `handler`; None for `handler`.
        methods: served methods; () for every method but REFUSED_METHODS.
        needs_token: whether a client needs a token where AUTH_REQUIRED is set.
        access: what the route asks of clients; None for what its service asks, or for AUTH_REQUIRED without a service.
        answers_options: whether the gateway answers OPTIONS itself. The answer names the methods and nothing else, and
            needs no token: a browser sends no credential with a preflight (Fetch §4.8).
        is_operational: whether the route is for orchestrators and monitoring, which no rate limit may refuse.
        takes_sessions: whether the session of an operator is looked for. No rate limit counts a request with a session.
        limits: how often clients may ask; None for the limits of the service.
        cors: which pages of other origins may use the route; None for the pages that may use the service.
        cache: how responses are cached; None for the values of the service.
        serves_pages: whether pages of other origins may use one of the gateway's own pages, by the CORS of services
            without own values.
        is_private: whether the page is served on a socket that operators alone can reach: whoever asks may act.
    """

    path: str
    handler: H
    on_handshake: H | None = None
    methods: tuple[bytes, ...] = ()
    needs_token: bool = True
    access: Access | None = None
    answers_options: bool = False
    is_operational: bool = False
    takes_sessions: bool = False
    limits: LimitConfig | None = None
    cors: CorsConfig | None = None
    cache: CacheConfig | None = None
    serves_pages: bool = False
    is_private: bool = False

    @functools.cached_property
    def prefix(self) -> bytes:
        """The prefix of a standard route's targets; b"" for other routes.

        >>> Route(path="/api/<service>/*", handler=None).prefix
        b'/api/'
        """
        before, found, _ = self.path.partition(_SERVICE)
        return before.encode("ascii") if found else b""

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that an Allow field names (RFC 9110 §10.2.1)."""
        return tuple(each.decode("ascii") for each in self.methods) or METHODS

    @property
    def methods_text(self) -> str:
        """The methods for documents: "ANY" if not limited.

        >>> route = Route(path="/page", handler=None, methods=(b"GET", b"HEAD"))
        >>> route.methods_text, Route(path="/api/<service>/*", handler=None).methods_text
        ('GET, HEAD', 'ANY')
        """
        return ", ".join(self.allowed) if self.methods else "ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A route of ROUTES.

    Attributes:
        host: a host name in lower case, "*.example.com" for exactly one more label, or "" for every host without a
            route of its own.
        path: a prefix that ends with "/*".
        service: name of the service.
        inner: the inner prefix, see Mount; None to keep the prefix.
        config: how the service appears below the route; None for the values of the service.
        access: what the route asks of clients; None for what the service asks.
        limits: how often clients may ask; None for the limits of the service.
        cors: which pages of other origins may use the route; None for the pages that may use the service.
        cache: how responses are cached; None for the values of the service.
        given: the JSON of the route's own values, by key: "preserveHost".
    """

    path: str
    service: str
    host: str = ""
    inner: str | None = None
    config: MountConfig | None = None
    access: Access | None = None
    limits: LimitConfig | None = None
    cors: CorsConfig | None = None
    cache: CacheConfig | None = None
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def prefix(self) -> bytes:
        """The prefix without a final slash.

        >>> RouteSpec(path="/a/*", service="s").prefix, RouteSpec(path="/*", service="s").prefix
        (b'/a', b'')
        """
        return self.path.removesuffix(_ANYTHING).encode("ascii")

    @property
    def inner_prefix(self) -> bytes:
        """The inner prefix without a final slash, see Mount.

        >>> [RouteSpec(path="/a/*", service="s", inner=each).inner_prefix for each in (None, "", "/b")]
        [b'/a', b'', b'/b']
        """
        return self.prefix if self.inner is None else self.inner.encode("ascii")

    @property
    def segment(self) -> bytes:
        """The first segment of the path; b"" for a route of all paths.

        >>> RouteSpec(path="/a/b/*", service="s").segment, RouteSpec(path="/*", service="s").segment
        (b'a', b'')
        """
        return self.prefix[1:].partition(b"/")[0]

    @property
    def label(self) -> str:
        """The route's name in metrics and documents.

        >>> RouteSpec(host="chat.example.com", path="/*", service="chat").label
        'chat.example.com/*'
        """
        return self.host + self.path


class Match(NamedTuple, Generic[H]):
    """The route of a request.

    Attributes:
        service: name of the service, as the target has the name.
        mount: how the target maps onto an endpoint's paths.
        rest: the target behind the public prefix: b"", or bytes that begin with "/" or "?".
    """

    route: Route[H]
    service: bytes
    mount: Mount
    rest: bytes


@dataclass(frozen=True, slots=True)
class _Mounted(Generic[H]):
    """A route of one's own, ready for a look-up."""

    route: Route[H]
    service: bytes
    mount: Mount


class _Paths(Generic[H]):
    """The routes of one host, by prefix."""

    __slots__ = ("_by_prefix", "_depth")

    def __init__(self, routes: Iterable[_Mounted[H]] = ()) -> None:
        self._by_prefix = {each.mount.public: each for each in routes}
        self._depth = max((prefix.count(b"/") for prefix in self._by_prefix), default=0)

    def find(self, path: bytes) -> _Mounted[H] | None:
        """The route with the longest prefix of a path."""
        ends = [0]
        while len(ends) <= self._depth and ends[-1] < len(path):
            end = path.find(b"/", ends[-1] + 1)
            ends.append(end if end >= 0 else len(path))
        return next((self._by_prefix[path[:end]] for end in reversed(ends) if path[:end] in self._by_prefix), None)


class RouteTable(Generic[H]):
    """All routes that lead to services.

    Args:
        standard: routes whose path names the service.
        own: routes of ROUTES; all differ in host or path.
        model: the route of which a route of ROUTES is a copy with its own path.
        gateway_hosts: hosts, as of RouteSpec, that keep the gateway's own paths beside routes of their own.
    """

    def __init__(
        self,
        standard: Iterable[Route[H]],
        model: Route[H],
        own: Sequence[RouteSpec] = (),
        gateway_hosts: Iterable[str] = (),
    ) -> None:
        self._standard = {route.prefix: route for route in standard}
        self._gateway_hosts = frozenset(gateway_hosts)
        self._hosts = {host: self._paths(host, own, model) for host in {each.host for each in own}}
        self._paths_of = functools.lru_cache(maxsize=_REMEMBERED_HOSTS)(self._find_paths)
        self._match_again = functools.lru_cache(maxsize=REMEMBERED_TARGETS)(self._match)

    def match(self, target: bytes, host: bytes) -> Match[H] | None:
        """The route of a request; None for one of the gateway's pages.

        Args:
            target: in origin-form, or "*".
            host: the authority that the client asked for; b"" for none.

        Raises:
            BadRequest: a server may read the path as a path of another route.
            NotFound: the host has routes of its own, and none of them has the path.
        """
        if not self._hosts or len(host) > _LONGEST_HOST:
            host = b""
        return (
            self._match_again(target, host) if len(target) <= LONGEST_REMEMBERED_TARGET else self._match(target, host)
        )

    def _match(self, target: bytes, host: bytes) -> Match[H] | None:
        is_own, paths = self._paths_of(host) if self._hosts else (False, None)
        if not is_own:
            route = self._standard.get(target[: target.find(b"/", 1) + 1])
            if route:
                name, rest = split_route(target, route.prefix)
                is_short = len(name) <= LONGEST_REMEMBERED  # a client makes up names
                mount = standard_mount(route.prefix, name) if is_short else Mount(route.prefix + name)
                return Match(route, name, mount, rest)
        if paths is None or not target.startswith(b"/"):
            return None
        path = target.partition(b"?")[0]
        found = _route_of(path, paths, is_own=is_own)
        if _AMBIGUOUS.search(path) and _misleads(path, found, paths, is_own=is_own):
            raise BadRequest("the request target may lead to another route once its encodings and dots are resolved")
        if found:
            return Match(found.route, found.service, found.mount, target[len(found.mount.public) :])
        if is_own:
            raise NotFound
        return None

    def _paths(self, host: str, own: Sequence[RouteSpec], model: Route[H]) -> _Paths[H]:
        specs = [each for each in own if each.host == host]
        keeps = not self._gateway_hosts.isdisjoint(hosts_for(host))
        is_shared = not host or keeps or (host.startswith(_ANY_LABEL) and self._gateway_hosts)
        is_alone = not is_shared and len({each.service for each in specs}) == 1
        return _Paths([_mounted(each, model, is_alone=is_alone) for each in specs])

    def _find_paths(self, authority: bytes) -> tuple[bool, _Paths[H]]:
        """Whether the gateway's own paths are not served on a host, and the routes of the host."""
        name = host_name(authority)
        hosts = hosts_for(name)
        for host in hosts:
            if host in self._hosts:
                return self._gateway_hosts.isdisjoint(hosts), self._hosts[host]
        return False, self._hosts.get("", _Paths())


def _route_of(path: bytes, paths: _Paths[H], *, is_own: bool) -> _Mounted[H] | None:
    """The route of a path; None for no route, and for the gateway's own paths."""
    is_gateways = not is_own and path[1:].partition(b"/")[0] in OWN_SEGMENTS
    return None if is_gateways else paths.find(path)


def _misleads(path: bytes, found: _Mounted[H] | None, paths: _Paths[H], *, is_own: bool) -> bool:
    """Whether a server may read a path as a path of another route.

    Some servers cut parameters before they decode slashes, some after. Any other reading without a step up is blocked
    at a segment that neither of the two readings passes.
    """
    if _STEP_UP.search(path) and _READ_DIFFERENTLY.search(path):
        return True
    readings = {plain_path(path), plain_path(_PARAMETERS.sub(b"", path))}
    return any(_route_of(each, paths, is_own=is_own) is not found for each in readings)


def _mounted(spec: RouteSpec, model: Route[H], *, is_alone: bool) -> _Mounted[H]:
    mount = Mount(spec.prefix, spec.inner_prefix, is_alone, spec.config)
    route = replace(model, path=spec.label, access=spec.access, limits=spec.limits, cors=spec.cors, cache=spec.cache)
    return _Mounted(route, spec.service.encode("ascii"), mount)


def passages(
    routes: Sequence[RouteSpec],
    asks_less: Callable[[RouteSpec, RouteSpec], bool],
    gateway_hosts: Iterable[str] = (),
) -> Iterator[tuple[RouteSpec, RouteSpec, bytes]]:
    """The paths by which clients of a route reach what another route is for: the route, the other route, the path.

    A narrow route that is an exception from a wide route is no passage: the wide route is not for the exception. A
    route is named once, however many passages it has: mistakes come in hundreds otherwise.

    Args:
        routes: all routes of ROUTES.
        asks_less: whether the first route asks less of clients than the second.
        gateway_hosts: see RouteTable.

    >>> open_, guarded = RouteSpec(path="/open/*", service="s", inner=""), RouteSpec(path="/team/*", service="s")
    >>> list(passages([open_, guarded], lambda *_: True)) == [(open_, guarded, b"/open/team")]
    True
    """
    kept = frozenset(gateway_hosts)
    by_place = {(each.host, each.prefix): each for each in routes}
    below: dict[tuple[str, bytes], list[RouteSpec]] = {}
    for each in routes:
        for inner in _prefixes(each.inner_prefix):
            below.setdefault((each.service, inner), []).append(each)
    for route in routes:
        for other in below[route.service, route.inner_prefix]:
            path = _passage(route, other, by_place, kept) if route is not other and asks_less(route, other) else None
            if path:
                yield route, other, path
                break


def _passage(
    route: RouteSpec, other: RouteSpec, by_place: Mapping[tuple[str, bytes], RouteSpec], kept: frozenset[str]
) -> bytes | None:
    """The path by which a route leads to what another route is for; None if another route or the gateway has it."""
    path = route.prefix + other.inner_prefix[len(route.inner_prefix) :]
    served = next(by_place[route.host, each] for each in _prefixes(path) if (route.host, each) in by_place)
    return (path or b"/") if served is route and not _is_kept(route.host, path, kept) else None


def _prefixes(path: bytes) -> Iterator[bytes]:
    """The prefixes of a path at slashes, the longest first.

    >>> list(_prefixes(b"/a/b"))
    [b'/a/b', b'/a', b'']
    """
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield path


def _is_kept(host: str, path: bytes, gateway_hosts: frozenset[str]) -> bool:
    """Whether the gateway itself serves a path on a host, so that no route of ROUTES has the path there."""
    is_shared = not host or not gateway_hosts.isdisjoint(hosts_for(host))
    return is_shared and path[1:].partition(b"/")[0] in OWN_SEGMENTS


def host_name(authority: bytes) -> str:
    """The host of an authority in lower case, without port and final dot.

    >>> host_name(b"Chat.Example.com.:8443"), host_name(b"[::1]:80")
    ('chat.example.com', '[::1]')
    """
    text = authority.decode("latin-1").lower()
    host, colon, port = text.rpartition(":")
    return (host if colon and not port.endswith("]") else text).removesuffix(".")


def hosts_for(name: str) -> tuple[str, ...]:
    """The hosts of routes that a host name matches, the exact host first.

    >>> hosts_for("a.example.com"), hosts_for("localhost"), hosts_for("")
    (('a.example.com', '*.example.com'), ('localhost',), ())
    """
    label, _, parent = name.partition(".")
    return tuple(filter(None, (name, _ANY_LABEL + parent if label and parent else "")))


def plain_path(path: bytes) -> bytes:
    """A path as the least strict server reads the path: decoded once, parameters cut, slashes and dot segments merged.

    A path that leads above the root ends at the root (RFC 3986 §5.2.4).

    >>> plain_path(b"/a//b/%2e%2E/./c;x=1/d"), plain_path(rb"/a%2F..\\b"), plain_path(b"/a/")
    (b'/a/c/d', b'/b', b'/a/')
    """
    kept: list[bytes] = []
    *inner, last = unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")
    for segment in (each.partition(b";")[0] for each in (*inner, last)):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept) + (b"/" if kept and last in (b"", b".", b"..") else b"")
