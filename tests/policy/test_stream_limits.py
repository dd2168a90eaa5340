"""How many streams may be open: in all, to a service, by a client; each is counted out exactly as it was counted in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import StreamLimitReached, TooManyStreams
from tornado_gateway.policy.stream_limits import PAUSE_ABOVE, StreamCounts, StreamLimits, client_of, high_water


def test_without_limits_any_number_is_open() -> None:
    counts = StreamCounts(StreamLimits())
    for _ in range(1000):
        counts.take("svc", "1.2.3.4")
    assert counts.total == 1000


@pytest.mark.parametrize(
    ("limits", "refusal", "same_service", "same_client"),
    [
        (StreamLimits(total=2), StreamLimitReached, False, False),
        (StreamLimits(per_service=2), StreamLimitReached, True, False),
        (StreamLimits(per_client=2), TooManyStreams, False, True),
    ],
)
def test_a_limit_is_reached_and_left_again(
    limits: StreamLimits, refusal: type[Exception], same_service: bool, same_client: bool
) -> None:
    counts = StreamCounts(limits)

    def stream(number: int) -> tuple[str, str]:
        return "svc" if same_service else f"svc{number}", "1.1.1.1" if same_client else f"1.1.1.{number}"

    counts.take(*stream(1))
    counts.take(*stream(2))
    with pytest.raises(refusal):
        counts.take(*stream(3))
    assert counts.total == 2  # what is refused is not counted
    counts.give_back(*stream(1))
    counts.take(*stream(3))


@pytest.mark.parametrize("limits", [StreamLimits(per_service=1), StreamLimits(per_client=1)])
def test_one_at_its_limit_does_not_stop_another(limits: StreamLimits) -> None:
    counts = StreamCounts(limits)
    counts.take("a", "1.1.1.1")
    counts.take("b", "2.2.2.2")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2::7", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::7", "2001:db8:1:3::"),
        ("", ""),  # a unix socket's peer
        ("no address", "no address"),
    ],
)
def test_what_counts_as_one_client(address: str, client: str) -> None:
    assert client_of(address) == client


@given(
    st.builds(StreamLimits, st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from(["1.1.1.1", "::1", "::2"]))),
)
def test_counts_are_what_is_open(limits: StreamLimits, steps: list[tuple[bool, str, str]]) -> None:
    counts, opened = StreamCounts(limits), list[tuple[str, str]]()
    for takes, service, address in steps:
        if not takes and opened:
            counts.give_back(*opened.pop())
            continue
        try:
            counts.take(service, address)
        except (StreamLimitReached, TooManyStreams):
            continue
        opened.append((service, address))
    assert counts.total == len(opened)
    assert dict(counts.services) == {name: sum(each[0] == name for each in opened) for name, _ in opened}
    assert sum(counts.clients.values()) == len(opened)
    assert all(counts.clients.values())
    assert not limits.total or counts.total <= limits.total


@pytest.mark.parametrize(
    ("bound", "cuts_slow", "mark"),
    [(10, True, 10), (10, False, 10), (2_000_000, True, 2_000_000), (2_000_000, False, PAUSE_ABOVE)],
)
def test_a_sender_is_paused_early_and_a_reader_cut_at_the_bound(bound: int, cuts_slow: bool, mark: int) -> None:
    assert high_water(bound, cuts_slow=cuts_slow) == mark
