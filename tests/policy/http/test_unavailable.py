"""Which clients are made to reconnect while a service is unavailable, and when."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.event_streams import dispatched
from tornado_gateway import errors
from tornado_gateway.errors import GatewayError
from tornado_gateway.policy.http.unavailable import (
    LONGEST,
    METHODS,
    RETRY,
    SHORTEST,
    STATUS,
    TRANSIENT,
    comes_back,
    pause,
    retry_line,
)

EVENTS = (b"text/event-stream",)
ERRORS = sorted(
    (each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GatewayError)),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda each: each.__name__)
def test_only_transient_errors_are_answered_with_retry(kind: type[GatewayError]) -> None:
    # No cache is asked for an event stream, and a reload is none.
    never_meet_a_stream = errors.NotCached | errors.ReloadUnfinished
    passes = issubclass(kind, errors.UpstreamError | errors.Overloaded | errors.KeysUnavailable | never_meet_a_stream)
    assert comes_back(kind(), mode=RETRY, method=b"GET", accept=EVENTS) is passes
    assert (kind.status in TRANSIENT) is passes


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"get", b""])
@pytest.mark.parametrize("mode", [RETRY, STATUS])
def test_only_requests_like_an_event_sources_are_answered_with_retry(mode: str, method: bytes) -> None:
    error = errors.UpstreamReset()
    assert comes_back(error, mode=mode, method=method, accept=EVENTS) is (mode == RETRY and method in METHODS)


@pytest.mark.parametrize(
    ("accept", "told"),
    [
        ([b"text/event-stream"], True),
        ([b"text/event-stream;q=0.9", b""], True),
        ([b"text/event-stream, */*"], False),
        ([b"application/json, text/event-stream"], False),
        ([b"*/*"], False),
        ([], False),
    ],
)
def test_only_clients_that_accept_nothing_but_event_streams_get_retry(accept: list[bytes], told: bool) -> None:
    assert comes_back(errors.UpstreamReset(), mode=RETRY, method=b"GET", accept=accept) is told


WISHES = st.floats(0.0, 1e9)


@settings(deadline=None)
@given(WISHES, st.integers())
def test_a_pause_is_bounded_on_both_sides_and_no_shorter_than_a_short_wish(wish: float, seed: int) -> None:
    seconds = pause(wish, random.Random(seed))
    assert SHORTEST <= seconds <= LONGEST
    assert seconds >= min(wish, LONGEST / 1.5)


@pytest.mark.parametrize("wish", [0.0, 1.0, 15.0, 300.0])
def test_clients_come_back_one_after_the_other(wish: float) -> None:
    rng = random.Random(1)
    pauses = sorted(pause(wish, rng) for _ in range(1000))
    assert pauses[-1] - pauses[0] > max(3.5, pauses[0] * 0.4)
    gaps = [later - earlier for earlier, later in itertools.pairwise(pauses)]
    assert max(gaps) < 0.05 * (pauses[-1] - pauses[0])


@given(st.floats(SHORTEST, LONGEST))
def test_the_line_is_a_stream_that_changes_nothing_but_the_time(seconds: float) -> None:
    ((kind, milliseconds, _),) = dispatched(retry_line(seconds))
    assert (kind, int(milliseconds)) == ("(retry)", round(seconds * 1000))
