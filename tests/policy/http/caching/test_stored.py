"""Stored responses: age, variants, and the lines that are stored."""

from dataclasses import replace

from tornado_gateway.policy.http.caching.request import CacheRequest
from tornado_gateway.policy.http.caching.stored import (
    MOST_VARIANTS,
    OVERHEAD,
    Found,
    Stored,
    refreshed,
    storable_lines,
    with_response,
    without_response,
)
from tornado_gateway.policy.http.caching.terms import Terms

TERMS = Terms(60.0)
PLAIN = Stored(200, b"", 1, b"A: 1\r\n", {}, b"body", TERMS, (), 100.0, initial_age=5.0)
BY_LANGUAGE = Terms(60.0, vary=(b"accept-language",))


def asks(language: bytes = b"", **facts: bool) -> CacheRequest:
    return CacheRequest((b"", b""), b"GET", {b"accept-language": [language]} if language else {}, **facts)


def in_language(language: bytes, body: bytes = b"") -> Stored:
    return Stored(200, b"", 1, b"", {}, body, BY_LANGUAGE, (language,), 0.0)


def test_a_response_ages_from_its_age_on_arrival() -> None:
    assert (PLAIN.age(100.0), PLAIN.age(130.5)) == (5.0, 35.5)


def test_a_response_knows_its_date() -> None:
    assert replace(PLAIN, lines=b"Date: now\r\n").date == b"now"


def test_a_response_knows_its_size_and_fields() -> None:
    assert (PLAIN.size, PLAIN.fields) == (OVERHEAD + 10, {b"a": [b"1"]})


def test_the_newest_response_that_a_request_selects_answers() -> None:
    variants = with_response(in_language(b"de"), in_language(b"en", b"old"))
    variants = with_response(variants, in_language(b"en"))
    found = variants.find(asks(b"en"))
    assert found is not None and (found.selected_by, found.body) == ((b"en",), b"")
    assert variants.find(asks(b"fr")) is None
    assert variants.find(asks()) is None
    assert len(list(variants)) == 2
    assert variants.size == 2 * OVERHEAD


def test_a_response_without_vary_answers_every_request() -> None:
    assert PLAIN.find(asks(b"de")) is PLAIN


def test_a_request_with_credentials_gets_only_what_is_everybodys() -> None:
    shared = replace(PLAIN, terms=replace(TERMS, is_shared=True))
    assert not PLAIN.answers(asks(has_credentials=True))
    assert PLAIN.answers(asks(has_credentials=True, has_principal=True))
    assert shared.answers(asks(has_credentials=True))


def test_variants_are_bounded_and_the_oldest_leaves() -> None:
    variants: Found = in_language(b"0")
    for number in range(1, MOST_VARIANTS + 1):
        variants = with_response(variants, in_language(b"%d" % number))
    assert variants.count == len(list(variants)) == MOST_VARIANTS
    assert variants.find(asks(b"0")) is None
    assert variants.find(asks(b"1")) is not None


def test_a_response_can_be_taken_out() -> None:
    first, second = in_language(b"de"), in_language(b"en")
    both = with_response(second, first)
    assert without_response(both, first) is second
    assert (without_response(second, first), without_response(second, second)) == (second, None)


def test_the_hits_of_a_key_stay_when_its_responses_change() -> None:
    first, second = in_language(b"de"), in_language(b"en")
    first.hits = 3
    both = with_response(first, second)
    both.hits += 1
    alone = without_response(both, first)
    assert alone is second and alone.hits == 4


def test_a_validated_response_has_the_new_lines_terms_and_validators() -> None:
    stored = replace(PLAIN, lines=b"ETag: 1\r\ncontent-length: 4\r\n", etag=b"1")
    terms = replace(TERMS, vary=(b"accept-language",))
    lines = b"ETag: 2\r\nLast-Modified: x\r\nAge: 7\r\n"
    fresh = refreshed(stored, lines, b" new ", terms, asks(b"de"), 200.0, 1.0)
    assert fresh == replace(
        stored, lines=b"ETag: 2\r\nLast-Modified: x\r\ncontent-length: 4\r\n", terms=terms, selected_by=(b"de",),
        came=200.0, etag=b"2", last_modified=b"x", tags=b" new ", initial_age=1.0,
    )  # fmt: skip
    assert (fresh.age(203.0), refreshed(stored, b"", b"", TERMS, asks(), 0.0, 0.0).etag) == (4.0, b"")


def test_lines_that_must_not_be_stored_are_left_out() -> None:
    terms = replace(TERMS, withheld=frozenset((b"x-user",)))
    lines = b"A: 1\r\nage: 5\r\nX-User: ada\r\nContent-Length: 4\r\nETag: 1\r\n"
    assert storable_lines(lines, terms) == b"A: 1\r\nETag: 1\r\n"


def test_a_response_expires_at_once_or_stays_as_stale_as_before() -> None:
    stored = replace(PLAIN, terms=replace(TERMS, lifetime=60.0), initial_age=2.0, came=100.0)
    assert stored.expired(110.0).terms.lifetime == 12.0
    assert stored.expired(200.0).terms.lifetime == 60.0


def test_the_tags_of_a_validated_response_stay_unless_there_are_new_tags() -> None:
    stored = replace(PLAIN, tags=b" old ")
    assert refreshed(stored, b"", b"", TERMS, asks(), 0.0, 0.0).tags == b" old "
    assert refreshed(stored, b"", b" new ", TERMS, asks(), 0.0, 0.0).tags == b" new "
    assert stored.size == PLAIN.size + 5
