"""Limits on open streams, and what counts as a client."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import GatewayError, StreamLimitReached, TooManyStreams
from tornado_gateway.policy.http.address import NO_ADDRESS, Address, of_peer
from tornado_gateway.policy.http.stream_limits import PAUSE_ABOVE, StreamCounts, StreamLimits, high_water

ONE, TWO, THREE = map(of_peer, ("192.0.2.1", "192.0.2.2", "192.0.2.3"))
HOUSE, SAME_HOUSE = of_peer("2001:db8::1"), of_peer("2001:db8::2")


def state(counts: StreamCounts) -> tuple[int, dict[str, int], dict[str, int]]:
    return counts.total, dict(counts.services), dict(counts.clients)


def test_without_limits_there_may_be_any_number() -> None:
    counts = StreamCounts(StreamLimits())
    for _ in range(1000):
        counts.take("a", ONE)
    assert state(counts) == (1000, {"a": 1000}, {ONE.client: 1000})


@pytest.mark.parametrize(
    ("limits", "taken", "refused", "error", "reason"),
    [
        (StreamLimits(total=2), [("a", ONE), ("b", TWO)], ("c", THREE), StreamLimitReached, "stream_limit"),
        (StreamLimits(per_service=2), [("a", ONE), ("a", TWO)], ("a", THREE), StreamLimitReached, "stream_limit"),
        (StreamLimits(per_client=2), [("a", ONE), ("b", ONE)], ("c", ONE), TooManyStreams, "client_stream_limit"),
        (StreamLimits(1, 1, 1), [("a", ONE)], ("a", ONE), StreamLimitReached, "stream_limit"),
    ],
)
def test_a_stream_above_a_limit_is_refused_and_changes_no_count(
    limits: StreamLimits,
    taken: list[tuple[str, Address]],
    refused: tuple[str, Address],
    error: type[GatewayError],
    reason: str,
) -> None:
    counts = StreamCounts(limits)
    for each in taken:
        counts.take(*each)
    before = state(counts)
    with pytest.raises(error) as raised:
        counts.take(*refused)
    assert type(raised.value) is error
    assert raised.value.reason == reason
    assert int(dict(raised.value.fields)[b"Retry-After"]) >= 1
    assert state(counts) == before
    counts.give_back(*taken[0])
    counts.take(*refused)


@pytest.mark.parametrize(
    ("limits", "other"),
    [(StreamLimits(per_service=1), ("b", ONE)), (StreamLimits(per_client=1), ("a", TWO))],
)
def test_limits_are_counted_separately_per_service_and_client(limits: StreamLimits, other: tuple[str, Address]) -> None:
    counts = StreamCounts(limits)
    counts.take("a", ONE)
    counts.take(*other)
    assert counts.total == 2


def test_an_ipv6_network_of_64_bits_is_one_client() -> None:
    counts = StreamCounts(StreamLimits(per_client=1))
    counts.take("a", HOUSE)
    with pytest.raises(TooManyStreams):
        counts.take("a", SAME_HOUSE)
    counts.take("a", of_peer("2001:db8:0:1::1"))


def test_counting_all_streams_out_leaves_no_entries() -> None:
    counts = StreamCounts(StreamLimits())
    for address in (ONE, HOUSE, SAME_HOUSE, NO_ADDRESS):
        counts.take("a", address)
    for address in (NO_ADDRESS, SAME_HOUSE, ONE, HOUSE):
        counts.give_back("a", address)
    assert state(counts) == (0, {}, {})


@pytest.mark.parametrize(
    ("bound", "cuts_slow", "mark"),
    [
        (PAUSE_ABOVE * 4, False, PAUSE_ABOVE),
        (PAUSE_ABOVE, False, PAUSE_ABOVE),
        (1, False, 1),
        (PAUSE_ABOVE * 4, True, PAUSE_ABOVE * 4),
        (1, True, 1),
    ],
)
def test_a_sender_is_paused_before_a_reader_would_be_cut_off(bound: int, cuts_slow: bool, mark: int) -> None:
    assert high_water(bound, cuts_slow=cuts_slow) == mark


limit = st.integers(0, 4)
Places = list[tuple[str, Address]]
steps = st.lists(
    st.tuples(st.booleans(), st.sampled_from("ab"), st.sampled_from([ONE, TWO, HOUSE, SAME_HOUSE])),
    max_size=40,
)


@given(st.builds(StreamLimits, limit, limit, limit), steps)
def test_any_coming_and_going_keeps_the_limits_and_the_counts_true(
    limits: StreamLimits, steps: list[tuple[bool, str, str]]
) -> None:
    counts, open_ = StreamCounts(limits), Places()
    for comes, service, address in steps:
        if comes:
            _take(counts, open_, service, address)
        elif open_:
            counts.give_back(*open_.pop(0))
        assert state(counts) == (
            len(open_),
            _by(open_, lambda each: each[0]),
            _by(open_, lambda each: each[1].client),
        )
        for limit, most in zip((limits.per_service, limits.per_client), (counts.services, counts.clients), strict=True):
            assert not limit or max(most.values(), default=0) <= limit
        assert not limits.total or counts.total <= limits.total


def _take(counts: StreamCounts, open_: Places, service: str, address: str) -> None:
    try:
        counts.take(service, address)
    except (StreamLimitReached, TooManyStreams):
        limits = counts.limits
        assert (
            counts.total == limits.total
            or counts.services[service] == limits.per_service
            or counts.clients[address.client] == limits.per_client
        )
        counts.services += Counter()  # looking at a Counter adds nothing; this drops what would
    else:
        open_.append((service, address))


def _by(open_: Places, key: Callable[[tuple[str, Address]], str]) -> dict[str, int]:
    return dict(Counter(map(key, open_)))
