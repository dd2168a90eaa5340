"""Which responses are stored, branch by branch of RFC 9111 §3."""

from dataclasses import replace

import pytest

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.directives import read_directives
from tornado_gateway.policy.http.caching.request import CacheRequest
from tornado_gateway.policy.http.caching.response import read_response, said_by
from tornado_gateway.policy.http.caching.terms import Judge, Terms, terms_of

ASKS = CacheRequest((b"svc /", b""), b"GET", {})
WITH_CREDENTIALS = replace(ASKS, has_credentials=True)
OF_PRINCIPAL = replace(WITH_CREDENTIALS, has_principal=True)
CONFIG = CacheConfig()
WALL = 1_800_000_000.0


def terms(
    says: bytes = b"", request: CacheRequest = ASKS, status: int = 200, config: CacheConfig = CONFIG, **fields: bytes
) -> Terms | None:
    named = {name.replace("_", "-").encode(): [value] for name, value in fields.items()}
    if says:
        named[b"cache-control"] = [says]
    return terms_of(request, status, said_by(named), WALL, config)


@pytest.mark.parametrize(
    ("says", "status"),
    [
        (b"max-age=60", 200),
        (b"max-age=60", 204),
        (b"max-age=60", 302),
        (b"max-age=60", 500),
        (b"max-age=60", 599),
        (b"", 200),
        (b"", 404),
        (b"max-age=60, no-store, must-understand", 200),
        (b"max-age=60, must-understand", 200),
        (b'private="x-a", max-age=60', 200),
        (b"max-age=60, unknown, s-max=1", 200),
        (b"stale-while-revalidate=9, max-age=0", 200),
        (b"stale-if-error=9, max-age=0", 200),
    ],
)
def test_a_response_is_stored(says: bytes, status: int) -> None:
    assert terms(says, status=status)


@pytest.mark.parametrize(
    ("says", "status"),
    [
        (b"no-store", 200),
        (b"no-store, max-age=60", 200),
        (b"private, max-age=60", 200),
        (b"max-age=60", 206),
        (b"max-age=60", 304),
        (b"max-age=60, must-understand", 599),
        (b"max-age=0", 200),
        (b"no-cache", 200),
        (b"", 302),
        (b"", 500),
        (b"public", 500),
        (b"max-age=0, must-revalidate, stale-if-error=9", 200),
    ],
)
def test_a_response_is_not_stored(says: bytes, status: int) -> None:
    assert terms(says, status=status) is None


@pytest.mark.parametrize("says", [b"no-cache", b"max-age=0"])
@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_a_response_that_needs_a_validation_is_stored_if_it_can_be_validated(says: bytes, validator: str) -> None:
    stored = terms(says, **{validator: b"x"})
    assert stored and stored.needs_validation == (says == b"no-cache")


def test_only_responses_to_get_are_stored() -> None:
    assert terms(b"max-age=60", replace(ASKS, method=b"HEAD")) is None


def test_a_client_can_forbid_to_store() -> None:
    assert terms(b"max-age=60", replace(ASKS, directives=read_directives([b"no-store"]))) is None


@pytest.mark.parametrize(
    ("says", "is_stored"),
    [
        (b"max-age=60", False),
        (b"max-age=60, must-revalidate", False),
        (b"public, max-age=60", True),
        (b"s-maxage=60", True),
        (b"public", False),
        (b"", False),
    ],
)
def test_what_a_credential_asked_for_is_stored_if_marked_as_everybodys(says: bytes, is_stored: bool) -> None:
    stored = terms(says, WITH_CREDENTIALS)
    assert bool(stored) == is_stored
    assert stored is None or stored.is_shared


def test_a_principal_keeps_responses_with_a_lifetime_of_their_own() -> None:
    stored = terms(b"max-age=60", OF_PRINCIPAL)
    assert stored and not stored.is_shared
    assert terms(b"", OF_PRINCIPAL) is None
    assert terms(b"private, max-age=60", OF_PRINCIPAL) is None


def test_a_cookie_is_stored_only_if_the_service_says_so() -> None:
    sharing = CacheConfig(stores_cookies=True)
    assert terms(b"max-age=60", set_cookie=b"a=b", config=sharing) == Terms(60.0)
    assert terms(b"public, max-age=60", set_cookie=b"a=b") is None
    assert terms(b"public, max-age=60", set_cookie2=b"a=b") is None
    stored = terms(b'private="set-cookie", max-age=60', set_cookie=b"a=b")
    assert stored and stored.withheld == {b"set-cookie"}
    stored = terms(b'no-cache="Set-Cookie, X-A", private="x-b", max-age=60', set_cookie=b"a=b")
    assert stored and stored.withheld == {b"set-cookie", b"x-a", b"x-b"}
    assert not stored.needs_validation


def test_vary_selects_or_forbids() -> None:
    stored = terms(b"max-age=60", vary=b"Accept, X-A")
    assert stored and stored.vary == (b"accept", b"x-a")
    assert terms(b"max-age=60", vary=b"*") is None


@pytest.mark.parametrize("says", [b"must-revalidate", b"proxy-revalidate", b"s-maxage=60"])
def test_directives_that_forbid_a_stale_reuse(says: bytes) -> None:
    stored = terms(b"max-age=60, " + says)
    assert stored and stored.forbids_stale


def test_the_terms_have_the_durations_of_the_response() -> None:
    stored = terms(b"max-age=60, stale-while-revalidate=5, stale-if-error=7", age=b"3")
    assert stored == Terms(60.0, stale_while_revalidate=5.0, stale_if_error=7.0)


def test_a_targeted_field_replaces_cache_control() -> None:
    stored = terms(b"no-store", cdn_cache_control=b"max-age=7")
    assert stored and stored.lifetime == 7.0
    assert terms(b"no-store", surrogate_control=b"max-age=7") is None
    stored = terms(b"no-store", surrogate_control=b"max-age=7", config=CacheConfig(reads_surrogate=True))
    assert stored and stored.lifetime == 7.0


def test_a_response_that_came_stale_is_not_stored_without_a_validator() -> None:
    assert terms(b"max-age=60", age=b"59")
    assert terms(b"max-age=60", age=b"60") is None


@pytest.mark.parametrize("config", [CacheConfig(grace=2.0), CacheConfig(stale_if_error=2.0)])
def test_a_response_that_came_stale_is_stored_if_the_operator_lets_stale_responses_answer(config: CacheConfig) -> None:
    assert terms(b"max-age=60", age=b"61", config=config)
    assert terms(b"max-age=60", age=b"62", config=config) is None
    assert terms(b"max-age=60, must-revalidate", age=b"61", config=config) is None


def test_hosts_that_share_responses_share_none_that_names_a_host() -> None:
    shared = CacheConfig(ignores_host=True)
    assert terms(b"max-age=60", status=301, location=b"/a", config=shared)
    assert terms(b"max-age=60", status=301, location=b"http://a/b")
    for name in ("location", "content_location"):
        for reference in (b"http://a/b", b"//a/b"):
            assert terms(b"max-age=60", status=301, config=shared, **{name: reference}) is None


@pytest.mark.parametrize(
    ("request_", "status", "wall", "config"),
    [
        (WITH_CREDENTIALS, 200, WALL, CONFIG),
        (replace(ASKS, method=b"HEAD"), 200, WALL, CONFIG),
        (replace(ASKS, directives=read_directives([b"no-store"])), 200, WALL, CONFIG),
        (ASKS, 206, WALL, CONFIG),
        (ASKS, 200, WALL + 70, CONFIG),
        (ASKS, 200, WALL, CacheConfig(ignores_host=True)),
    ],
)
def test_a_decision_is_remembered_for_the_same_question_alone(
    request_: CacheRequest, status: int, wall: float, config: CacheConfig
) -> None:
    lines = b"Cache-Control: max-age=60\r\nDate: %b\r\nAge: 3\r\nLocation: //a/b\r\n" % format_date(WALL - 5)
    judge = Judge(read_response(lines))
    first = judge.decide(ASKS, 200, WALL, CONFIG)
    assert first.terms == Terms(60.0)
    assert (first.initial_age(1.0), first.initial_age(9.0)) == (5.0, 12.0)
    assert judge.decide(replace(ASKS, fields={b"x": [b"y"]}), 200, WALL, CONFIG) is first
    assert judge.decide(request_, status, wall, config).terms is None
    assert judge.decide(ASKS, 200, WALL, CONFIG) == first


def test_a_response_of_this_second_has_no_age() -> None:
    judge = Judge(read_response(b"Cache-Control: max-age=60\r\nDate: %b\r\n" % format_date(WALL)))
    first = judge.decide(ASKS, 200, WALL + 0.1, CONFIG)
    assert first.initial_age(0.0) == 0.0
    assert judge.decide(ASKS, 200, WALL + 0.9, CONFIG) is first
    assert judge.decide(ASKS, 200, WALL + 1.0, CONFIG).initial_age(0.0) == 1.0


def test_a_principal_is_decided_on_apart_from_a_credential() -> None:
    judge = Judge(read_response(b"Cache-Control: max-age=60\r\n"))
    assert judge.decide(WITH_CREDENTIALS, 200, WALL, CONFIG).terms is None
    assert judge.decide(OF_PRINCIPAL, 200, WALL, CONFIG).terms == Terms(60.0)
