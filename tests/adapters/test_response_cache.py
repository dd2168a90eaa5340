"""The store of responses: bounds, segments, variants, invalidation, and memory as promised."""

import gc
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.adapters.response_cache import AT_A_STEP, MemoryCache, StoreConfig
from tornado_gateway.policy.http.caching.purge import Purge, Purged
from tornado_gateway.policy.http.caching.request import CacheRequest, Key
from tornado_gateway.policy.http.caching.stored import OVERHEAD, Stored
from tornado_gateway.policy.http.caching.terms import Terms

KIB = 1024


def response(size: int = 0, language: bytes = b"") -> Stored:
    terms = Terms(60.0, vary=(b"accept-language",) if language else ())
    return Stored(200, b"OK", 1, b"", {}, bytes(size), terms, (language,) if language else (), 0.0)


def key(number: int = 0, partition: bytes = b"") -> Key:
    return (b"%06d" % number, partition)


def store_for(count: float) -> MemoryCache:
    """A store with room for responses without a body."""
    return MemoryCache(StoreConfig(int(count * (OVERHEAD + 6))))


def asks(language: bytes = b"") -> CacheRequest:
    return CacheRequest(key(), b"GET", {b"accept-language": [language]})


def test_a_response_is_found_by_its_key_until_it_is_dropped() -> None:
    store, kept = store_for(100), response()
    assert store.find(key()) is None
    assert store.keep(key(), kept)
    for _ in range(2):  # from either segment
        found = store.find(key())
        assert found is not None and list(found) == [kept]
    assert len(store) == 1
    store.drop(key(), kept)
    store.drop(key(), kept)
    assert (store.find(key()), len(store), store.size) == (None, 0, 0)


def test_variants_share_a_key() -> None:
    store, german, english = store_for(100), response(language=b"de"), response(language=b"en")
    store.keep(key(), german)
    store.find(key())
    store.keep(key(), english)
    found = store.find(key())
    assert found is not None and found.find(asks(b"de")) is german
    store.drop(key(), german)
    found = store.find(key())
    assert found is not None and list(found) == [english]
    assert len(store) == 1


def test_a_flood_stays_within_the_bound_and_leaves_what_was_used() -> None:
    store = store_for(100)
    for number in range(50):
        store.keep(key(number), response())
        store.find(key(number))
    for number in range(1000, 3000):
        store.keep(key(number), response())
        assert store.size <= 100 * (OVERHEAD + 6)
    assert all(store.find(key(number)) for number in range(50))
    assert store.evictions == 2000 - 20
    assert len(store._partitions) == len(store)


def test_the_least_recently_used_of_the_used_leaves_for_a_newly_used() -> None:
    store = store_for(10)  # 2 new, 8 used
    for number in range(9):
        store.keep(key(number), response())
        store.find(key(number))
    assert store.evictions == 0
    store.find(key(1))
    store.keep(key(20), response())
    store.keep(key(21), response())  # pushes out the first, which was demoted
    assert store.find(key(0)) is None
    assert store.find(key(1)) is not None


def test_a_response_that_is_too_large_is_not_stored_and_replaces_nothing() -> None:
    store = store_for(10)
    assert not store.keep(key(), response(3 * OVERHEAD))
    assert (len(store), store._partitions) == (0, {})
    store.keep(key(), response())
    assert not store.keep(key(), response(3 * OVERHEAD))
    assert (store.find(key()), store.size, store._partitions) == (None, 0, {})


def test_variants_that_are_too_much_together_leave_the_newest() -> None:
    store = store_for(10)
    for language in (b"de", b"en", b"fr"):
        assert store.keep(key(), response(language=language))
    found = store.find(key())
    assert found is not None and [each.selected_by for each in found] == [(b"fr",)]


def test_used_variants_that_outgrew_the_segment_of_the_new_leave_when_they_are_pushed_out() -> None:
    store = store_for(10)
    store.keep(key(), response())
    store.find(key())
    for language in (b"de", b"en", b"fr", b"nl"):
        store.keep(key(), response(language=language))
    for number in range(1, 9):
        store.keep(key(number), response())
        store.find(key(number))
    assert store.find(key()) is None
    assert len(store._partitions) == len(store) == 8


def test_a_resource_is_invalidated_in_all_partitions() -> None:
    store = store_for(100)
    for part in (b"a", b"b"):
        store.keep(key(1, part), response())
    store.find(key(1, b"a"))
    store.keep(key(2), response())
    assert (store.invalidate(b"000001"), store.invalidate(b"000001"), len(store)) == (2, 0, 1)
    assert store.find(key(1, b"a")) is store.find(key(1, b"b")) is None


def test_memory_is_what_is_counted() -> None:
    store = MemoryCache(StoreConfig(512 * 1024 * 1024))
    lines = b'Date: Tue, 01 Dec 2026 19:00:00 GMT\r\nContent-Type: text/html\r\nETag: "123"\r\n'
    known: dict[bytes, list[bytes]] = {}
    size = 0
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            terms = Terms(float(number), vary=(b"accept-encoding",))
            made = Stored(200, b"", 1, lines + b"%d" % number, known, b"%d" % number * KIB,
                          terms, (b"gzip%d" % number,), float(number), b"%d" % number, b"", b"", 9.5)  # fmt: skip
            size += len(made.body)
            store.keep(key(number, b"http\n80\nexample.com\n%d" % number), made)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.size * 0.85 <= after - before <= store.size
    assert (after - before - size) / 1000 <= 1.5 * KIB  # beside the body


def test_an_invalidation_concerns_the_resource_and_what_was_asked_for_before() -> None:
    store = store_for(100)
    before = store.changes
    assert store.is_current(b"a", None, before)
    store.invalidate(b"a")
    assert not store.is_current(b"a", None, before)
    assert store.is_current(unlike([b"a"]), None, before)
    assert store.is_current(b"a", None, store.changes)


def test_a_purge_concerns_what_was_asked_for_before_whatever_was_invalidated_meanwhile() -> None:
    store, other = store_for(100), unlike([b"shop /a"])
    store.invalidate(b"shop /a")
    before = store.changes
    carried_out(store, Purge(prefix=b"shop "))
    store.invalidate(b"shop /a")
    assert not store.is_current(b"shop /" + other, b"", before)
    assert store.is_current(other, b"", before)
    assert store.is_current(b"shop /" + other, b"", store.changes - 1)


def carried_out(store: MemoryCache, purge: Purge) -> tuple[Purged, int]:
    """What a purge has purged, and the number of steps."""
    steps, count = store.purge(purge, 0.0), 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def test_a_purge_of_many_responses_goes_in_steps() -> None:
    store = store_for(10_000)
    for number in range(1000):
        store.keep(key(number), response())
    before = store.size
    purged, steps = carried_out(store, Purge(prefix=b"0005"))
    assert (purged.responses, steps) == (100, 1000 // AT_A_STEP)
    assert purged.bytes == 100 * OVERHEAD
    assert (len(store), store.responses) == (900, 900)
    assert store.size == before * 0.9
    assert carried_out(store, Purge(resource=b"000700")) == (Purged(1, OVERHEAD), 0)


def test_responses_that_are_stored_or_leave_while_a_purge_goes_on_disturb_nothing() -> None:
    store, invalidated = store_for(10_000), [key(number)[0] for number in range(AT_A_STEP * 2)]
    other = unlike(invalidated)
    for number in range(AT_A_STEP * 3):
        store.keep(key(number), response())
    steps, before = store.purge(Purge(prefix=b"0"), 0.0), store.changes
    next(steps)
    for resource in invalidated:
        store.invalidate(resource)
    store.keep((other, b""), response())
    for _ in steps:
        pass
    assert (len(store), store.responses) == (1, 1)
    assert store.is_current(other, b"", before)


def unlike(resources: list[bytes]) -> bytes:
    """A resource that shares its number of invalidations with none of the resources, nor does the resource below
    "shop /". The hashes differ in each run."""
    store = store_for(10)
    for resource in resources:
        store.invalidate(resource)
    names = (b"1%d" % number for number in range(2048))
    return next(
        each for each in names if store.is_current(each, None, 0) and store.is_current(b"shop /" + each, b"", 0)
    )


def test_a_soft_purge_leaves_the_order_in_which_responses_are_pushed_out() -> None:
    store = store_for(10)
    for number in range(3):
        store.keep(key(number), response())
        store.find(key(number))
    purged, _ = carried_out(store, Purge(prefix=b"000000", is_soft=True))
    assert purged.responses == 1
    assert next(iter(store._used.kept)) == key(0)
    found = store.find(key(0))
    assert found is not None and [each.terms.lifetime for each in found] == [0.0]


def test_the_top_has_the_largest_and_those_found_most_often() -> None:
    store = store_for(10_000)
    for number in range(200):
        store.keep(key(number), response(number))
    for number, count in ((3, 5), (9, 7), (4, 1)):
        for _ in range(count):
            store.find(key(number))
    steps, count = store.top(2), 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            top = end.value
            break
        count += 1
    assert count == 200 // AT_A_STEP
    assert [each.key for each in top.largest] == [key(199), key(198)]
    assert [(each.key, each.hits) for each in top.hottest] == [(key(9), 7), (key(3), 5)]
    assert [each.found.count for each in top.hottest] == [1, 1]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "find", "drop", "invalidate"]),
            st.integers(0, 5),
            st.sampled_from([b"", b"de", b"en"]),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_the_number_of_responses_is_that_of_the_stored_responses(life: list[tuple[str, int, bytes, int]]) -> None:
    store = store_for(6)
    for action, number, language, kibibytes in life:
        made = response(kibibytes * KIB, language)
        if action == "keep":
            store.keep(key(number, language[:1]), made)
        elif action == "find":
            store.find(key(number, language[:1]))
        elif action == "drop":
            kept = store.find(key(number, language[:1]))
            store.drop(key(number, language[:1]), next(iter(kept)) if kept else made)
        else:
            store.invalidate(b"%06d" % number)
        segments = {**store._new.kept, **store._used.kept}
        assert store.responses == sum(each.count for each in segments.values())
        size = sum(each.size + len(resource) + len(partition) for (resource, partition), each in segments.items())
        assert store.size == size <= store.max_bytes
