"""A request as the cache sees the request: which requests look into the cache, and by which key.

A request looks into the cache if the method is GET or HEAD, and if no field says that only an endpoint can answer. The
key has everything an endpoint sees of the request's origin and target, so that what an endpoint reflects into a
response selects the response:

    resource    service, and the target as sent
    partition   scheme, authority and port, the prefix and the claims of trusted proxies, the principal, key_fields

An unsafe request invalidates a resource in all partitions; see invalidation.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tornado_gateway.policy.http.caching.config import EVERY_PARAMETER, CacheConfig
from tornado_gateway.policy.http.caching.directives import NO_CACHE, NO_STORE, NONE, Directives, request_directives
from tornado_gateway.policy.http.caching.vary import Selection, selection
from tornado_gateway.policy.http.headers import KnownFields, pairs

READ_METHODS = (b"GET", b"HEAD")

# Fields of which the meaning is the service's alone. A precondition that only an origin server may evaluate (RFC 9111
# §4.3.2), and fields with which frameworks let a GET act as another method or for another host.
_PASSES = frozenset((
    b"if-match", b"if-unmodified-since", b"x-host", b"x-http-host-override", b"x-http-method",
    b"x-http-method-override", b"x-method-override",
))  # fmt: skip

_OF_ONE = frozenset((b"if-modified-since", b"if-none-match", b"if-range", b"range"))

# Fields that carry credentials, besides the fields and parameters that the gateway itself reads tokens from.
_CREDENTIALS = frozenset((b"authorization", b"cookie", b"x-api-key"))

# Claims of trusted proxies about the client's address: no resource differs by these.
_OF_THE_CLIENT = frozenset((
    b"cf-connecting-ip", b"client-ip", b"fastly-client-ip", b"true-client-ip", b"x-client-ip", b"x-cluster-client-ip",
    b"x-forwarded-for", b"x-real-ip",
))  # fmt: skip


# Resource and partition: selects the stored responses of a request; which of these answers, Vary decides. A tuple and
# no class, because each request makes a key, and a NamedTuple takes eight times the instructions.
Key = tuple[bytes, bytes]


@dataclass(slots=True)
class CacheRequest:
    """A request that looks into the cache. Never changed (frozen dataclasses take twice as long to make).

    Attributes:
        fields: as an endpoint sees the fields of the client, by lower-case name.
        directives: of the request; none if the service ignores the directives of clients.
        has_credentials: whether the request bears a cookie, Authorization, or a token.
        has_principal: whether the key names the principal, so that no other principal can find the response.
        is_plain: whether the request has no directive, no condition and no Range: a fresh stored response then answers
            as a whole.
    """

    key: Key
    method: bytes
    fields: KnownFields
    directives: Directives = NONE
    has_credentials: bool = False
    has_principal: bool = False
    is_plain: bool = False

    @property
    def may_share(self) -> bool:
        """Whether every response to the request may be used for other requests that have the key."""
        return not self.has_credentials or self.has_principal

    def selection(self, names: Sequence[bytes]) -> Selection:
        """The values of the fields in Vary; see vary.py."""
        return selection(names, self.fields)

    def as_get(self) -> "CacheRequest":
        """The same request with the method GET."""
        return CacheRequest(
            self.key, b"GET", self.fields, self.directives, self.has_credentials, self.has_principal, self.is_plain
        )


@dataclass(slots=True)
class RequestLines:
    """What the field lines of a request say to the cache, and nothing else. Never changed but for the note, and for the
    selection that is remembered.

    Attributes:
        fields: the values of all fields, by lower-case name.
        passes: whether only an endpoint can answer, whatever the method.
        has_credentials: whether one of the fields carries credentials; see has_credentials().
        has_condition: whether the request has a condition or a Range.
        directives: of Cache-Control and Pragma.
        note: what a handler notes beside the lines; None at first. A note must name everything else that it depends on.
    """

    fields: KnownFields
    passes: bool
    has_credentials: bool
    has_condition: bool
    directives: Directives
    note: object = None
    _names: Sequence[bytes] = ()
    _selection: Selection = ()

    def selection(self, names: Sequence[bytes]) -> Selection:
        """The values of the fields in Vary. The last is remembered: the responses of a service mostly have one Vary."""
        if names != self._names:
            self._names, self._selection = names, selection(names, self.fields)
        return self._selection


def read_request(lines: bytes) -> RequestLines:
    """Read the field lines of a request."""
    fields = by_name(lines)
    return RequestLines(
        fields,
        not _PASSES.isdisjoint(fields),
        has_credentials(fields),
        not _OF_ONE.isdisjoint(fields),
        request_directives(fields),
    )


def by_name(lines: bytes) -> KnownFields:
    """The values of all fields in field lines, by lower-case name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in pairs(lines):
        found.setdefault(name.lower(), []).append(value)
    return found


def may_collapse(request: CacheRequest) -> bool:
    """Whether a request may be sent to the service for other requests with the same key, too.

    A request for a part, or with a condition, has an answer of its own. A client that wants the service asked is not
    to wait for an answer to an earlier request.
    """
    if request.is_plain:
        return request.method == b"GET"
    wants_own = NO_CACHE in request.directives or NO_STORE in request.directives
    return request.method == b"GET" and not wants_own and _OF_ONE.isdisjoint(request.fields)


def has_credentials(names: Collection[bytes]) -> bool:
    """Whether a request bears credentials, valid or not.

    Args:
        names: of the fields of the request, in lower case.
    """
    return not _CREDENTIALS.isdisjoint(names)


def resource(service: bytes, target: bytes, config: CacheConfig) -> bytes:
    """The part of the key that names a resource.

    Args:
        target: as sent to endpoints, without the base path.

    >>> resource(b"svc", b"/a?b=2&a=1&t=9", CacheConfig(sorts_query=True, ignored_parameters=("t",)))
    b'svc /a?a=1&b=2'
    """
    if config.sorts_query or config.ignored_parameters:
        target = _with_plain_query(target, config)
    return b" ".join((service, target))


def _with_plain_query(target: bytes, config: CacheConfig) -> bytes:
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    if EVERY_PARAMETER in config.ignored_parameters:
        return path
    ignored = {each.encode("ascii") for each in config.ignored_parameters}
    kept = [each for each in query.split(b"&") if each.partition(b"=")[0] not in ignored]
    if config.sorts_query:
        kept.sort(key=lambda each: each.partition(b"=")[0])  # stable: the order of equal names may mean something
    return path + (mark + b"&".join(kept) if kept else b"")


def partition(
    config: CacheConfig, fields: KnownFields, origin: Sequence[bytes], host: bytes, claims: bytes, principal: str
) -> bytes:
    """The part of the key that keeps requests apart which an endpoint can tell apart.

    Args:
        origin: scheme, port and prefixes of the request, as endpoints learn of these.
        host: the authority that the client asked for, as endpoints learn of the authority.
        claims: lines of the claims of trusted proxies.
        principal: the name of the principal; "" for nobody, or if everybody shares the response.
    """
    parts = [b"" if config.ignores_host else host, *origin, principal.encode("utf-8")]
    if config.key_fields:
        parts += [b"\0".join(fields.get(name, ())) for name in config.key_fields]
    if claims:
        parts.append(_about_the_resource(claims))
    return b"\n".join(parts)


def _about_the_resource(claims: bytes) -> bytes:
    """The claims of trusted proxies, without claims about the client's address."""
    kept = [(name, value) for name, value in pairs(claims) if name.lower() not in _OF_THE_CLIENT]
    return b"\n".join([name + b":" + _without_addresses(name, value) for name, value in kept])


def _without_addresses(name: bytes, value: bytes) -> bytes:
    """A claim; of Forwarded only the parameters that are not about addresses (RFC 7239 §5)."""
    if name.lower() != b"forwarded":
        return value
    hops = value.split(b",")
    return b",".join([b";".join(each for each in hop.split(b";") if not _names_address(each)) for hop in hops])


def _names_address(parameter: bytes) -> bool:
    return parameter.partition(b"=")[0].strip(b" \t").lower() in (b"for", b"by")
