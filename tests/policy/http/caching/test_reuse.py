"""When a stored response answers without the service: boundaries on both sides."""

import pytest

from tornado_gateway.policy.http.caching.directives import NONE, read_directives
from tornado_gateway.policy.http.caching.reuse import Reuse, reuse, survives_error
from tornado_gateway.policy.http.caching.terms import Terms

MINUTE = Terms(60.0)
STRICT = Terms(60.0, forbids_stale=True, stale_while_revalidate=30.0, stale_if_error=30.0)
LENIENT = Terms(60.0, stale_while_revalidate=30.0, stale_if_error=30.0)
ALWAYS_VALIDATED = Terms(60.0, needs_validation=True, stale_if_error=30.0)


@pytest.mark.parametrize(
    ("terms", "age", "asked", "wanted"),
    [
        (MINUTE, 59.9, b"", Reuse.FRESH),
        (MINUTE, 60.0, b"", Reuse.EXPIRED),
        (ALWAYS_VALIDATED, 0.0, b"", Reuse.UNFRESH),
        (ALWAYS_VALIDATED, 60.0, b"", Reuse.EXPIRED),
        (MINUTE, 0.0, b"no-cache", Reuse.UNFRESH),
        (MINUTE, 10.0, b"max-age=10", Reuse.FRESH),
        (MINUTE, 10.1, b"max-age=10", Reuse.UNFRESH),
        (MINUTE, 0.1, b"max-age=0", Reuse.UNFRESH),
        (MINUTE, 0.1, b"max-age=x", Reuse.UNFRESH),
        (MINUTE, 50.0, b"min-fresh=10", Reuse.FRESH),
        (MINUTE, 50.1, b"min-fresh=10", Reuse.UNFRESH),
        (MINUTE, 70.0, b"max-stale=10", Reuse.STALE),
        (MINUTE, 70.1, b"max-stale=10", Reuse.EXPIRED),
        (MINUTE, 9999.0, b"max-stale", Reuse.STALE),
        (MINUTE, 60.1, b"max-stale=x", Reuse.EXPIRED),
        (MINUTE, 60.1, b"max-stale, max-stale=0", Reuse.EXPIRED),
        (STRICT, 60.0, b"max-stale", Reuse.EXPIRED),
        (STRICT, 61.0, b"", Reuse.EXPIRED),
        (LENIENT, 89.9, b"", Reuse.REVALIDATING),
        (LENIENT, 90.0, b"", Reuse.EXPIRED),
        (LENIENT, 89.9, b"no-cache", Reuse.EXPIRED),
        (MINUTE, 0.0, b"only-if-cached, no-transform, unknown", Reuse.FRESH),
    ],
)
def test_a_stored_response_is_good_for(terms: Terms, age: float, asked: bytes, wanted: Reuse) -> None:
    assert reuse(terms, age, read_directives([asked])) is wanted


@pytest.mark.parametrize(
    ("terms", "age", "wanted"),
    [
        (MINUTE, 69.9, Reuse.REVALIDATING),
        (MINUTE, 70.0, Reuse.EXPIRED),
        (LENIENT, 89.9, Reuse.REVALIDATING),
        (STRICT, 61.0, Reuse.EXPIRED),
    ],
)
def test_the_operator_can_give_a_stale_response_a_grace(terms: Terms, age: float, wanted: Reuse) -> None:
    assert reuse(terms, age, NONE, 10.0) is wanted


def test_fresh_stale_and_revalidating_answer() -> None:
    assert [each for each in Reuse if each.answers] == [Reuse.FRESH, Reuse.STALE, Reuse.REVALIDATING]


@pytest.mark.parametrize(
    ("terms", "age", "asked", "at_least", "survives"),
    [
        (LENIENT, 89.9, b"", 0.0, True),
        (LENIENT, 90.0, b"", 0.0, False),
        (MINUTE, 60.0, b"", 0.0, False),
        (MINUTE, 69.9, b"stale-if-error=10", 0.0, True),
        (MINUTE, 70.0, b"stale-if-error=10", 0.0, False),
        (MINUTE, 79.9, b"", 20.0, True),
        (MINUTE, 80.0, b"", 20.0, False),
        (STRICT, 61.0, b"", 20.0, False),
        (ALWAYS_VALIDATED, 61.0, b"", 20.0, False),
        (LENIENT, 61.0, b"no-cache", 0.0, False),
    ],
)
def test_a_stored_response_answers_instead_of_an_error(
    terms: Terms, age: float, asked: bytes, at_least: float, survives: bool
) -> None:
    directives = read_directives([asked]) if asked else NONE
    assert survives_error(terms, age, directives, at_least) == survives
