"""Purges: which stored responses an operator takes away, by URL, by prefix, or by the tags of responses.

A service names the tags of a response in Cache-Tag (Akamai, Cloudflare), Surrogate-Key (Fastly) or xkey (Varnish). Each
of the fields is read as a list with commas or blanks. The case of a tag does not count, as at Cloudflare: a purge takes
too much rather than too little.

Tags are kept as one value, with a blank on both sides of each tag: three tags take 60 bytes, and 350 bytes as a set.
"""

import json
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.request import resource
from tornado_gateway.policy.http.headers import TAG_FIELDS, KnownFields

# Purges by prefix and tag that are remembered for responses on their way. A response that takes longer to come than so
# many purges is not stored.
REMEMBERED = 256


class Purged(NamedTuple):
    """What a purge has purged.

    Attributes:
        responses: each variant counts.
        bytes: of memory, estimated.
    """

    responses: int
    bytes: int


def tags_of(fields: KnownFields) -> bytes:
    """The tags of a response, each once.

    Args:
        fields: of the response, by lower-case name.

    >>> tags_of({b"cache-tag": [b"Blog,post-7"], b"surrogate-key": [b"post-7 home"]})
    b' blog home post-7 '
    >>> tags_of({})
    b''
    """
    if TAG_FIELDS.isdisjoint(fields):
        return b""
    values = b" ".join([value for name in TAG_FIELDS for value in fields.get(name, ())])
    found = sorted(set(values.lower().replace(b",", b" ").split()))
    return b" %b " % b" ".join(found) if found else b""


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge.

    Attributes:
        resource: the resource that is purged; b"" for all resources with the prefix.
        prefix: of the names of resources.
        tags: as tags_of() has tags, one by one; empty: whatever the tags.
        is_soft: whether responses become stale instead of being forgotten.
    """

    resource: bytes = b""
    prefix: bytes = b""
    tags: tuple[bytes, ...] = ()
    is_soft: bool = False

    def covers(self, resource: bytes) -> bool:
        """Whether responses of a resource may be purged."""
        return resource == self.resource if self.resource else resource.startswith(self.prefix)

    def selects(self, tags: bytes) -> bool:
        """Whether a response with these tags is purged, if the purge covers the resource."""
        return not self.tags or any([each in tags for each in self.tags])


def of_url(service: bytes, target: bytes, config: CacheConfig, *, is_soft: bool) -> Purge:
    """The purge of a target, in all partitions.

    Args:
        target: as sent to endpoints, behind the base path.
    """
    return Purge(resource=resource(service, target, config), is_soft=is_soft)


def of_prefix(service: bytes, prefix: bytes, *, is_soft: bool) -> Purge:
    """The purge of all targets of a service that begin with a prefix."""
    return Purge(prefix=b"%b %b" % (service, prefix), is_soft=is_soft)


def of_tags(service: bytes, tags: list[bytes], *, is_soft: bool) -> Purge:
    """The purge of all responses that have one of the tags.

    Args:
        service: b"" for all services.

    >>> of_tags(b"", [b"Blog"], is_soft=True).tags
    (b' blog ',)
    """
    return Purge(
        prefix=b"%b " % service if service else b"",
        tags=tuple([b" %b " % each.lower() for each in tags]),
        is_soft=is_soft,
    )


EVERYTHING = Purge()


class PurgeLog:
    """The latest purges, by number. Numbers grow.

    Args:
        number: of the purge before the first.

    Attributes:
        number: of the latest purge; 0 for none.
    """

    def __init__(self, most: int = REMEMBERED, number: int = 0) -> None:
        self._latest: deque[tuple[int, Purge]] = deque(maxlen=most)
        self.number = self._forgotten = number

    def note(self, purge: Purge, number: int = 0) -> None:
        """Add a purge.

        Args:
            number: 0 for the next.
        """
        if len(self._latest) == self._latest.maxlen:
            self._forgotten = self._latest[-1][0]
        self.number = number or self.number + 1
        self._latest.appendleft((self.number, purge))

    def affects(self, since: int, resource: bytes, tags: bytes | None) -> bool:
        """Whether a response may be purged by a later purge.

        Args:
            since: no purge with a greater number was before the request for the response.
            tags: None if the tags are not known yet.
        """
        return bool(self.later(since, resource, tags))

    def later(self, since: int, resource: bytes, tags: bytes | None) -> list[Purge]:
        """The purges of which affects() speaks; EVERYTHING for purges that are forgotten."""
        if since < self._forgotten:
            return [EVERYTHING]
        return [
            each
            for number, each in self._latest
            if number > since and each.covers(resource) and (tags is None or each.selects(tags))
        ]


def purge_text(purge: Purge) -> str:
    """A purge, for other gateways."""
    facts = [purge.resource, purge.prefix, *purge.tags]
    return json.dumps([purge.is_soft, *[each.decode("latin-1") for each in facts]])


def read_purge(text: bytes) -> Purge:
    """A purge of another gateway.

    Raises:
        ValueError: no gateway has written that.
    """
    try:
        is_soft, resource, prefix, *tags = json.loads(text)
        named = [each.encode("latin-1") for each in (resource, prefix, *tags)]
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no purge") from error
    return Purge(named[0], named[1], tuple(named[2:]), is_soft is True)
