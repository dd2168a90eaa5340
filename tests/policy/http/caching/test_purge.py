"""Purges: which responses a purge takes, and which responses on their way a purge forbids to store."""

import pytest

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.purge import (
    Purge,
    PurgeLog,
    of_prefix,
    of_tags,
    of_url,
    purge_text,
    read_purge,
    tags_of,
)
from tornado_gateway.policy.http.headers import KnownFields


def takes(purge: Purge, resource: bytes, tags: bytes = b"") -> bool:
    return purge.covers(resource) and purge.selects(tags)


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({}, b""),
        ({b"cache-tag": [b" , "]}, b""),
        ({b"cache-tag": [b"a,B , c"]}, b" a b c "),
        ({b"surrogate-key": [b"post-7  post-9", b"home"]}, b" home post-7 post-9 "),
        ({b"xkey": [b"x\ty"], b"cache-tag": [b"x"]}, b" x y "),
        ({b"x-tag": [b"a"]}, b""),
    ],
    ids=range(6),
)
def test_tags_are_read_from_the_fields_of_all_vendors(fields: KnownFields, tags: bytes) -> None:
    assert tags_of(fields) == tags


def test_a_purge_by_url_takes_the_target_of_the_service_alone() -> None:
    purge = of_url(b"shop", b"/a?b=2&a=1", CacheConfig(sorts_query=True), is_soft=False)
    assert takes(purge, b"shop /a?a=1&b=2", b" x ")
    assert not any(takes(purge, each) for each in (b"shop /a", b"news /a?a=1&b=2", b"shop /a?a=1&b=2&c=3"))


def test_a_purge_by_prefix_takes_all_targets_of_the_service_that_begin_so() -> None:
    purge = of_prefix(b"shop", b"/items/", is_soft=True)
    assert takes(purge, b"shop /items/1?x") and takes(purge, b"shop /items/", b" x ")
    assert not any(takes(purge, each) for each in (b"shop /items", b"shopping /items/1", b"news /items/1"))


def test_a_purge_by_tag_takes_responses_with_one_of_the_tags_as_a_whole_word() -> None:
    everywhere, of_shop = of_tags(b"", [b"Post-7", b"home"], is_soft=False), of_tags(b"shop", [b"home"], is_soft=False)
    assert takes(everywhere, b"shop /a", b" a post-7 ") and takes(everywhere, b"news /a", b" home ")
    assert not any(takes(everywhere, b"shop /a", each) for each in (b"", b" post-77 ", b" homes the-home "))
    assert takes(of_shop, b"shop /a", b" home ")
    assert not takes(of_shop, b"news /a", b" home ") and not takes(of_shop, b"shopping /a", b" home ")


def test_a_log_tells_which_responses_later_purges_would_have_taken() -> None:
    log = PurgeLog()
    log.note(of_prefix(b"shop", b"/a", is_soft=False))
    since = log.number
    assert not log.affects(since, b"shop /a", b"")
    log.note(of_tags(b"", [b"x"], is_soft=True))
    log.note(of_prefix(b"shop", b"/b", is_soft=False))
    assert log.affects(since, b"shop /b", b"") and log.affects(since, b"news /", b" x ")
    assert not log.affects(since, b"shop /a", b" y ")
    assert log.affects(since, b"shop /a", None)  # the tags are not known yet
    assert not log.affects(since + 1, b"news /", None)


def test_a_log_that_has_forgotten_a_purge_takes_the_response_for_purged() -> None:
    log = PurgeLog(most=2)
    for _ in range(3):
        log.note(of_prefix(b"shop", b"/a", is_soft=False))
    assert log.affects(0, b"news /", b"")
    assert not log.affects(1, b"news /", b"")


@pytest.mark.parametrize(
    "purge",
    [
        Purge(),
        of_url(b"shop", b"/\xff", CacheConfig(), is_soft=True),
        of_prefix(b"shop", b"/a", is_soft=False),
        of_tags(b"shop", ["ä".encode(), b"b"], is_soft=True),
    ],
)
def test_a_purge_comes_to_others_as_it_was(purge: Purge) -> None:
    assert read_purge(purge_text(purge).encode()) == purge


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[1]", b'[true, 1, "a"]', b'[true, "\\u1234", ""]', b"[" * 9999])
def test_what_is_no_purge_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_purge(text)
