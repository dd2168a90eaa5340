"""The stored responses of a process, within a bound of bytes.

    new response ──► new (a fifth of the bytes) ──► out
                      │ found again      ▲
                      ▼                  │ pushed out
                     used (the rest) ────┘

Two LRU segments (segmented LRU): a response that nobody asks for again leaves without pushing out a response that was
used. So a scan of all URLs, or a flood of made-up queries, empties a fifth at most.

Bounds are estimates of memory: bytes of fields, body and key, and the measured overhead of a response.

Each segment is an OrderedDict, whose operations are written in C. The LRUCache of cachetools keeps a second dict of
sizes, and runs Python code for a look.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tornado_gateway.policy.http.caching.purge import Purge, Purged, PurgeLog
from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Found, Stored, together, with_response, without_response
from tornado_gateway.policy.views.cached import Entry, Top
from tornado_gateway.policy.views.steps import Steps

_SLOTS = 1024  # numbers of invalidations; resources that share a number miss the cache a little more often

AT_A_STEP = 10  # keys that a step of a long look at all keys takes: some 0.2 ms

SHARE_OF_NEW = 0.2  # of the bytes; a fifth as in Caffeine and in the first description of segmented LRU


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """The store of responses.

    Attributes:
        url: of the Redis that gateways share, or of the scheme MEMORY; "" for REDIS_URL, or the memory of the process.
        secret: of the seals of shared entries; b"" for none: then purges are shared, and no responses.
        max_bytes: bytes of memory of all stored responses. No response, with its variants, takes more than a fifth.
    """

    max_bytes: int = 64 * 1024 * 1024
    url: str = field(default="", repr=False)
    secret: bytes = field(default=b"", repr=False)

    @property
    def most_of_a_key(self) -> float:
        """Bytes that the responses of one key may take."""
        return self.max_bytes * SHARE_OF_NEW


def _size(key: Key, found: Found) -> int:
    """Bytes of the responses of a key with the key."""
    resource, partition = key
    return found.size + len(resource) + len(partition)


class _Segment:
    """An LRU list within a bound of bytes.

    Attributes:
        kept: the responses by key, the least recently used first.
        size: bytes of all of these.
        max_size: the bound.
    """

    __slots__ = ("kept", "max_size", "size")

    def __init__(self, max_size: float) -> None:
        self.kept: OrderedDict[Key, Found] = OrderedDict()
        self.size, self.max_size = 0, max_size

    def put(self, key: Key, kept: Found, size: int) -> None:
        """Add the responses of a key that has none here, as the most recently used.

        Args:
            size: bytes of the responses with the key.
        """
        self.kept[key] = kept
        self.size += size

    def take(self, key: Key) -> Found:
        """Take the responses of a key, which must be here, out."""
        kept = self.kept.pop(key)
        self.size -= _size(key, kept)
        return kept

    def take_oldest(self) -> tuple[Key, Found]:
        """Take the least recently used responses out."""
        key, kept = self.kept.popitem(last=False)
        self.size -= _size(key, kept)
        return key, kept


class MemoryCache:
    """Stored responses by key.

    Attributes:
        responses: number of stored responses; a key has a response for each variant.
        evictions: number of keys that were pushed out.
        max_bytes: of all stored responses.
        changes: number of the latest invalidation or purge.
    """

    def __init__(self, config: StoreConfig) -> None:
        self.max_bytes = config.max_bytes
        self._new = _Segment(config.most_of_a_key)
        self._used = _Segment(config.max_bytes * (1 - SHARE_OF_NEW))
        # Most resources have one partition: a set for each would take 200 bytes more per response (measured).
        self._partitions: dict[bytes, Key | set[Key]] = {}
        self._invalidated = [0] * _SLOTS  # number of the latest invalidation
        self._purges = PurgeLog()
        self.responses = self.evictions = self.changes = 0

    def __len__(self) -> int:
        """The number of keys with stored responses."""
        return len(self._new.kept) + len(self._used.kept)

    @property
    def size(self) -> int:
        """Bytes of memory of all stored responses, estimated."""
        return self._new.size + self._used.size

    def find(self, key: Key) -> Found | None:
        """The stored responses of a key."""
        used = self._used.kept
        if key in used:
            kept = used[key]
            used.move_to_end(key)
        elif key in self._new.kept:
            kept = self._new.take(key)
            self._put_used(key, kept)
        else:
            return None
        kept.hits += 1
        return kept

    def keep(self, key: Key, response: Stored) -> bool:
        """Store a response.

        Returns:
            Whether the response is stored: a response that is too large is not.
        """
        resource, partition = key
        is_known = resource in self._partitions
        if is_known and (key in self._new.kept or key in self._used.kept):
            return self._keep_beside(key, response)
        new, size = self._new, response.size + len(resource) + len(partition)
        if size > new.max_size:
            return False
        self.responses += 1
        if is_known:
            self._link(key)
        else:
            self._partitions[resource] = key
        new.kept[key] = response
        new.size += size
        if new.size > new.max_size:
            self._push_out()
        return True

    def _keep_beside(self, key: Key, response: Stored) -> bool:
        """As keep(), for a key that has responses."""
        segment = self._used if key in self._used.kept else self._new
        earlier = segment.take(key)
        self.responses -= earlier.count
        response.hits = earlier.hits
        kept = with_response(earlier, response)
        if _size(key, kept) > segment.max_size:  # the other variants are too much
            kept = response
        if _size(key, kept) > self._new.max_size:
            self._unlink(key)
            return False
        self.responses += kept.count
        if segment is self._used:
            self._put_used(key, kept)
        else:
            self._put_new(key, kept)
        return True

    def _segment_of(self, key: Key) -> _Segment | None:
        if key in self._used.kept:
            return self._used
        return self._new if key in self._new.kept else None

    def _put_new(self, key: Key, kept: Found) -> None:
        """Add responses to the new, and push the oldest of the new out."""
        self._new.put(key, kept, _size(key, kept))
        self._push_out()

    def _push_out(self) -> None:
        """Forget the oldest of the new, until the new are within their bound."""
        new = self._new
        while new.size > new.max_size:
            self._forget(*new.take_oldest())

    def _put_used(self, key: Key, kept: Found) -> None:
        """Add responses to the used, and push the oldest of the used down to the new."""
        used = self._used
        used.put(key, kept, _size(key, kept))
        while used.size > used.max_size:
            key, kept = used.take_oldest()
            if _size(key, kept) > self._new.max_size:
                self._forget(key, kept)
            else:
                self._put_new(key, kept)

    def drop(self, key: Key, response: Stored) -> None:
        """Forget a response, if the response is stored still."""
        segment = self._segment_of(key)
        if segment is None:
            return
        kept = segment.take(key)
        left = without_response(kept, response)
        self.responses += (left.count if left else 0) - kept.count
        if left:
            segment.put(key, left, _size(key, left))
        else:
            self._unlink(key)

    def is_current(self, resource: bytes, tags: bytes | None, since: int) -> bool:
        """As ResponseStore.is_current(); now and then False because another resource was invalidated."""
        if self.changes == since:
            return True
        return self._invalidated[hash(resource) % _SLOTS] <= since and not self._purges.affects(since, resource, tags)

    def _note_invalid(self, resource: bytes) -> None:
        self.changes += 1
        self._invalidated[hash(resource) % _SLOTS] = self.changes

    def invalidate(self, resource: bytes) -> int:
        """Forget the responses of a resource in all partitions.

        Returns:
            The number of keys that had responses.
        """
        self._note_invalid(resource)
        known = self._partitions.pop(resource, set())
        keys = known if isinstance(known, set) else {known}
        for key in keys:
            segment = self._segment_of(key)
            self.responses -= segment.take(key).count if segment else 0
        return len(keys)

    def purge(self, purge: Purge, now: float) -> Steps[Purged]:
        """As ResponseStore.purge(). What is stored before the first step is purged by the last step."""
        if purge.resource:
            self._note_invalid(purge.resource)
            return self._purge([purge.resource], purge, now)
        self.changes += 1
        self._purges.note(purge, self.changes)
        return self._purge(list(self._partitions), purge, now)

    def _purge(self, resources: list[bytes], purge: Purge, now: float) -> Steps[Purged]:
        responses = size = 0
        for at, resource in enumerate(resources, 1):
            if at % AT_A_STEP == 0:
                yield
            for key in self._keys_of(resource) if purge.covers(resource) else ():
                gone = self._purge_key(key, purge, now)
                responses, size = responses + gone.responses, size + gone.bytes
        return Purged(responses, size)

    def _keys_of(self, resource: bytes) -> list[Key]:
        known = self._partitions.get(resource, set())
        return list(known) if isinstance(known, set) else [known]

    def _purge_key(self, key: Key, purge: Purge, now: float) -> Purged:
        segment = self._segment_of(key)
        kept = segment.kept[key] if segment else None
        gone = [each for each in kept if purge.selects(each.tags)] if kept else []
        if segment and kept and purge.is_soft:
            left = [each.expired(now) if purge.selects(each.tags) else each for each in kept]
            segment.kept[key] = together(left, kept.hits) or kept
        else:
            for each in gone:
                self.drop(key, each)
        return Purged(len(gone), sum(each.size for each in gone))

    def top(self, count: int) -> Steps[Top]:
        """As ResponseStore.top()."""
        largest: list[tuple[int, int, Key]] = []
        hottest: list[tuple[int, int, Key]] = []
        for at, key in enumerate([*self._used.kept, *self._new.kept], 1):
            if at % AT_A_STEP == 0:
                yield
            kept = self._peek(key)
            if kept:
                _note(largest, (_size(key, kept), at, key), count)
                _note(hottest, (kept.hits, at, key), count)
        return Top(list(self._entries(largest)), list(self._entries(hottest)))

    def _entries(self, ranked: list[tuple[int, int, Key]]) -> Iterator[Entry]:
        for _, _, key in sorted(ranked, key=lambda each: (-each[0], each[1])):
            kept = self._peek(key)
            if kept:
                yield Entry(key, kept, kept.hits, _size(key, kept))

    def _peek(self, key: Key) -> Found | None:
        """The responses of a key, which nobody has asked for: the key does not count as used."""
        return self._used.kept.get(key) or self._new.kept.get(key)

    def _forget(self, key: Key, kept: Found) -> None:
        self.evictions += 1
        self.responses -= kept.count
        self._unlink(key)

    def _link(self, key: Key) -> None:
        resource, _ = key
        known = self._partitions.setdefault(resource, key)
        if isinstance(known, set):
            known.add(key)
        elif known != key:
            self._partitions[resource] = {known, key}

    def _unlink(self, key: Key) -> None:
        resource, _ = key
        known = self._partitions[resource]
        if isinstance(known, set):
            known.discard(key)
        if not isinstance(known, set) or not known:
            del self._partitions[resource]


def _note(ranked: list[tuple[int, int, Key]], each: tuple[int, int, Key], count: int) -> None:
    """Keep the greatest in a heap."""
    if len(ranked) < count:
        heapq.heappush(ranked, each)
    else:
        heapq.heappushpop(ranked, each)
