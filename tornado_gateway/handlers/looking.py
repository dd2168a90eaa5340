"""A request's look into the cache, which comes after the admission and before an endpoint is chosen.

    lines of the connection's last request ──► RequestLines (request.py) ──► Asker ─┬─► Look ──► memory of the process
    method, target ─────────────────────────────────────────────────────────────────┘

What is remembered of a request beside its lines holds for requests with the same lines alone, and selects no response
by itself: the key is made anew for each request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tornado_gateway.gateway import ResponseCache
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.policy.http.caching.config import CacheConfig, Scope
from tornado_gateway.policy.http.caching.directives import NONE, Directives
from tornado_gateway.policy.http.caching.entries import Token
from tornado_gateway.policy.http.caching.request import (
    READ_METHODS,
    CacheRequest,
    Key,
    RequestLines,
    has_credentials,
    partition,
    read_request,
    resource,
)
from tornado_gateway.policy.http.caching.status import with_key
from tornado_gateway.policy.http.caching.stored import Found, Stored
from tornado_gateway.policy.http.caching.vary import Selection
from tornado_gateway.policy.http.credentials import Asked
from tornado_gateway.policy.http.forwarding import Origination
from tornado_gateway.policy.http.mount import Mount
from tornado_gateway.policy.principal import ANYBODY, Authenticator, Principal
from tornado_gateway.policy.routing import Match
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.wire.http1 import RequestHead, ResponseHead


@dataclass(slots=True)
class Asker:
    """What requests with the same field lines have in common, whatever their target. Never changed.

    A connection keeps the last one beside its last lines. Whether it holds for a request is decided by comparison with
    everything that it follows from besides the lines: configurations and origination as the same objects.

    Attributes:
        origination, principal, config, mount, service_config, host: what the others follow from.
        service: name of the service.
        partition: of the keys.
        directives, has_principal, is_plain: see CacheRequest.
        has_credentials: whether the fields or the principal tell of credentials.
    """

    origination: Origination
    principal: Principal
    config: CacheConfig
    mount: Mount
    service_config: ServiceConfig
    host: bytes
    service: bytes
    partition: bytes
    directives: Directives
    has_credentials: bool
    has_principal: bool
    is_plain: bool


class Look(CacheRequest):
    """A request that looks into the memory of the process, and what memory had for the request.

    Args:
        config: of the route.
        key, method: see CacheRequest.
        asker: what the request has in common with others of the same lines.
        has_credentials: whether the request bears credentials, by its fields, its principal or its target.

    Attributes:
        said: the field lines.
        found: what memory had for the key at the time of the look; None for nothing.
        token: of the look into the shared store; None without one.
    """

    __slots__ = ("cache", "config", "found", "said", "token")

    def __init__(
        self, cache: ResponseCache, config: CacheConfig, key: Key, method: bytes, said: RequestLines, asker: Asker,
        has_credentials: bool,
    ) -> None:  # fmt: skip
        # Three at a time: CPython 3.11 makes a tuple for more (measured: 500 instructions).
        self.cache, self.config, self.key = cache, config, key
        self.method, self.fields, self.said = method, said.fields, said
        self.directives, self.has_principal, self.is_plain = asker.directives, asker.has_principal, asker.is_plain
        self.has_credentials = has_credentials
        self.found: Found | None = cache.store.find(key)
        self.token: Token | None = None

    def selection(self, names: Sequence[bytes]) -> Selection:
        return self.said.selection(names)

    def keep(self, stored: Stored) -> bool:
        """Store a response; return whether the response is stored."""
        cache, key, token = self.cache, self.key, self.token
        if token and cache.shared:
            cache.shared.write(key, stored, token, max(self.config.grace, self.config.stale_if_error))
        return cache.store.keep(key, stored)

    def told(self, line: bytes) -> bytes:
        """A line of Cache-Status as the service wants the line."""
        return with_key(line, self.key) if self.config.shows_key else line

    def may_keep(self, head: ResponseHead) -> bool:
        """Whether a response can be stored, whatever the terms."""
        if head.length is None:
            return not (head.body and head.body.ends_by_close)  # the end cannot be told from a broken connection
        return head.length <= self.config.max_body


def look_up(
    cache: ResponseCache, config: CacheConfig, head: RequestHead, admitted: Admitted[Service], match: Match[Any],
    target: bytes, lines: bytes,
) -> Look | None:  # fmt: skip
    """Look into the memory of the process; None for a request that does not look into the cache.

    Args:
        config: of the route.
        target: behind an endpoint's base path.
        lines: field lines of the client, as an endpoint gets the lines.
    """
    if head.method not in READ_METHODS or head.body or head.upgrades:
        return None
    fields = head.fields
    said = fields.reading if fields is not None and lines is fields.forwarded_lines else None
    if not isinstance(said, RequestLines):
        said = _read(head, lines)
    if said.passes:
        return None
    service, mount, asker = admitted.found, match.mount, said.note
    if not (
        isinstance(asker, Asker)
        and asker.origination is admitted.origination
        and asker.principal is admitted.principal
        and asker.config is config
        and asker.mount is mount
        and asker.service_config is service.config
        and asker.host == head.host
    ):
        said.note = asker = _asker(config, head, admitted, mount, said)
    bears = asker.has_credentials or (admitted.authenticator is not None and _may_bear(head, admitted.authenticator))
    key = (resource(asker.service, target, config), asker.partition)
    return Look(cache, config, key, head.method, said, asker, bears)


def _asker(
    config: CacheConfig, head: RequestHead, admitted: Admitted[Service], mount: Mount, said: RequestLines
) -> Asker:
    service, origination, principal = admitted.found, admitted.origination, admitted.principal
    owner = principal.name if config.scope is Scope.PRINCIPAL else ""
    keeps_host = (mount.config or service.config.mount).preserve_host
    host = b" ".join((origination.host, head.host)) if keeps_host else origination.host
    origin = (origination.proto, origination.port, origination.prefix, mount.public, mount.line)
    directives = NONE if config.ignores_client else said.directives
    return Asker(
        origination, principal, config, mount, service.config, head.host, service.name.encode("ascii"),
        partition(config, said.fields, origin, host, origination.claims, owner), directives,
        said.has_credentials or has_credentials(head.known_fields) or principal is not ANYBODY,
        bool(owner), directives is NONE and not said.has_condition,
    )  # fmt: skip


def _read(head: RequestHead, lines: bytes) -> RequestLines:
    """What the lines say. Clients repeat their fields byte for byte: a connection keeps the reading beside its last
    lines, and forgets both, credentials included, at the same time."""
    fields = head.fields
    if fields is None or lines is not fields.forwarded_lines:  # edited for this request
        return read_request(lines)
    known = fields.reading
    if isinstance(known, RequestLines):
        return known
    fields.reading = said = read_request(lines)
    return said


def _may_bear(head: RequestHead, authenticator: Authenticator) -> bool:
    """Whether a request bears something, valid or not, where the gateway might read a credential."""
    return authenticator.sources.may_hold(Asked(head.known_fields, head.block, head.target))
