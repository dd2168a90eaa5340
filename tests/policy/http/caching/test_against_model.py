"""The policy decides as a literal model of RFC 9111 does, for any mixture of fields, times and requests."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.rfc9111 import Fields, Model
from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.dates import format_date
from tornado_gateway.policy.http.caching.directives import request_directives
from tornado_gateway.policy.http.caching.request import CacheRequest, has_credentials
from tornado_gateway.policy.http.caching.response import said_by
from tornado_gateway.policy.http.caching.reuse import reuse, survives_error
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Judge
from tornado_gateway.policy.http.caching.vary import selection

WALL = 1_800_000_000
KEY = (b"svc /", b"")

durations = st.sampled_from(["0", "1", "5", "60", "3600", "2147483648", "x", "-1", "1.5", '"60"', ""])
timed = st.sampled_from(["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "MAX-AGE"])
words = st.sampled_from([
    "public", "private", "no-cache", "no-store", "must-revalidate", "proxy-revalidate", "must-understand", "immutable",
    'private="set-cookie"', 'no-cache="x-a, Set-Cookie"', 'no-cache="a b"', "max-age", "no-transform", "unknown=1",
    'unknown="max-age=1, no-store"', "private=",
])  # fmt: skip
said_directives = st.lists(st.one_of(words, st.builds("{}={}".format, timed, durations)), max_size=4)
asked_timed = st.sampled_from(["max-age", "min-fresh", "max-stale", "stale-if-error", "MIN-FRESH"])
asked_directives_ = st.lists(
    st.one_of(
        st.sampled_from(["no-cache", "no-store", "max-stale", "only-if-cached", "unknown=1", "no-transform"]),
        st.builds("{}={}".format, asked_timed, durations),
    ),
    max_size=2,
)
offsets = st.sampled_from([-3600, -60, -5, 0, 5, 60, 3600])
dates = st.one_of(st.builds(lambda off: format_date(WALL + off).decode(), offsets), st.sampled_from(["0", "x"]))
languages = st.sampled_from(["de, en", "EN ,de", "fr", "", "de;q=1, en", "en"])


@st.composite
def responses(draw: st.DrawFn) -> Fields:
    fields: Fields = [("Cache-Control", ", ".join(each)) for each in draw(st.lists(said_directives, max_size=2))]
    for name, values in {
        "Expires": dates, "Date": dates, "Last-Modified": st.just(format_date(WALL - 9999).decode()),
        "ETag": st.just('"1"'), "Age": st.sampled_from(["0", "5", "70", "x", "7, 9"]),
        "Set-Cookie": st.just("a=b"),
        "Vary": st.sampled_from(["Accept-Language", "X-A", "*", "accept-language, x-a", "", "X-A,,x-a", "Accept"]),
    }.items():  # fmt: skip
        fields += [(name, value) for value in draw(st.lists(values, max_size=1))]
    return fields + [("Date", draw(dates))] * draw(st.integers(0, 1))


@st.composite
def requests(draw: st.DrawFn) -> Fields:
    fields: Fields = []
    for name, values in {
        "Accept-Language": languages, "Accept": st.sampled_from(["a/b, c/d", "C/D,a/b", "a/b"]),
        "X-A": st.sampled_from(["1", "2", "A", "a"]),
        "Authorization": st.just("Basic eA=="), "Cookie": st.just("a=b"),
        "Cache-Control": asked_directives_.map(", ".join), "Pragma": st.sampled_from(["no-cache", "x"]),
    }.items():  # fmt: skip
        fields += [(name, value) for value in draw(st.lists(values, max_size=1))]
    return fields


def as_bytes(fields: Fields) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower().encode(), []).append(value.strip(" \t").encode())
    return found


def as_request(fields: Fields) -> CacheRequest:
    read = as_bytes(fields)
    return CacheRequest(KEY, b"GET", read, request_directives(read), has_credentials(read))


@pytest.mark.untraced
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])  # slow where a machine is busy
@given(
    first=requests(),
    status=st.sampled_from([200, 204, 206, 301, 302, 304, 404, 418, 500]),
    response=responses(),
    allows=st.tuples(st.sampled_from([0.0, 5.0]), st.sampled_from([0.0, 1.0, 30.0]), st.sampled_from([0.0, 30.0])),
    delay=st.sampled_from([0.0, 2.0]),
    second=requests(),
    resident=st.sampled_from([0.0, 1.0, 4.0, 58.0, 60.0, 3600.0]),
)
@example([], 200, [("Cache-Control", "max-age=60")], (0.0, 0.0, 0.0), 0.0, [], 59.0)
@example([], 200, [("Cache-Control", "max-age=60")], (0.0, 0.0, 0.0), 0.0, [], 60.0)
@example([], 200, [("Cache-Control", 'private="x')], (5.0, 0.0, 0.0), 0.0, [], 0.0)
@example([], 200, [("Cache-Control", "max-age=0")], (0.0, 1.0, 0.0), 0.0, [], 0.0)
def test_a_response_is_stored_and_reused_as_the_standard_says(
    first: Fields, status: int, response: Fields, allows: tuple[float, float, float], delay: float,
    second: Fields, resident: float,
) -> None:  # fmt: skip
    model = Model(*allows)
    config = CacheConfig(default_ttl=allows[0], grace=allows[1], stale_if_error=allows[2])
    request, fields = as_request(first), as_bytes(response)
    decision = Judge(said_by(fields)).decide(request, status, WALL, config)
    terms = decision.terms
    may_store = model.may_store("GET", first, status, response, WALL)
    if terms is None:
        # The gateway also leaves out what it could never use: stale at once, with nothing to validate by.
        has_validator = b"etag" in fields or b"last-modified" in fields
        again = [each for each in first if each[0] not in ("Cache-Control", "Pragma")]
        assert not may_store or not (has_validator or model.may_reuse(again, first, response, delay, WALL, 0.0))
        return
    assert may_store
    stored = Stored(status, b"", 1, b"", {}, b"", terms, selection(terms.vary, request.fields), 100.0,
                    initial_age=decision.initial_age(delay))  # fmt: skip
    later, age = as_request(second), stored.age(100.0 + resident)
    answers = stored.answers(later) and reuse(terms, age, later.directives, config.grace).answers
    assert answers == model.may_reuse(second, first, response, delay, WALL, resident)
    survives = survives_error(terms, age, later.directives, config.stale_if_error)
    assert survives == model.may_answer_error(second, response, delay, WALL, resident)
