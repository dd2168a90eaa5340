"""Which ping a pong answers (RFC 6455 §5.5.3)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.http.pings import Pings

TOKEN = b"t0ken"


def test_a_pong_for_the_gateway_goes_no_further() -> None:
    pings = Pings(TOKEN)
    for _ in range(3):
        assert pings.answered(pings.own()) is None


def test_a_pong_for_the_other_side_passes() -> None:
    pings = Pings(TOKEN)
    pings.note_ping(b"app")
    assert pings.answered(b"app") == b"app"


def test_a_pong_for_the_gateway_alone_answers_the_other_sides_ping_before_it() -> None:
    pings = Pings(TOKEN)
    pings.note_ping(b"app")
    assert pings.answered(pings.own()) == b"app"
    assert pings.answered(pings.own()) is None  # it is answered now


def test_a_pong_for_the_gateway_does_not_answer_a_ping_behind_it() -> None:
    pings = Pings(TOKEN)
    own = pings.own()
    pings.note_ping(b"app")
    assert pings.answered(own) is None
    assert pings.answered(b"app") == b"app"


def test_of_several_pings_before_it_the_last_one_is_answered() -> None:
    pings = Pings(TOKEN)
    for payload in (b"a", b"b", b"c"):
        pings.note_ping(payload)
    assert pings.answered(pings.own()) == b"c"


def test_a_ping_between_two_of_the_gateways_is_answered_by_the_second() -> None:
    pings = Pings(TOKEN)
    first = pings.own()
    pings.note_ping(b"app")
    second = pings.own()
    assert pings.answered(first) is None
    assert pings.answered(second) == b"app"


def test_a_side_that_answers_every_ping_is_heard_once_for_each() -> None:
    pings = Pings(TOKEN)
    pings.note_ping(b"app")
    own = pings.own()
    assert [pings.answered(b"app"), pings.answered(own)] == [b"app", None]


def test_a_pong_for_an_earlier_ping_of_the_other_side_passes() -> None:
    pings = Pings(TOKEN)
    pings.note_ping(b"a")
    pings.note_ping(b"b")
    assert [pings.answered(b"a"), pings.answered(b"b")] == [b"a", b"b"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"-", b"-1", TOKEN, TOKEN + b"-", TOKEN + b"-0", TOKEN + b"-01", TOKEN + b"-2", TOKEN + b"-1 ",
     b"x" + TOKEN + b"-1", TOKEN + b"-\xb2", TOKEN + b"--1", b"p" * 125],
)  # fmt: skip
def test_a_pong_that_answers_none_of_the_gateways_pings_passes(payload: bytes) -> None:
    pings = Pings(TOKEN)
    pings.own()
    assert pings.answered(payload) == payload


def test_a_pong_for_the_gateway_that_comes_again_is_the_sides_own() -> None:
    pings = Pings(TOKEN)
    own = pings.own()
    assert pings.answered(own) is None
    assert pings.answered(own) == own


def test_an_empty_ping_of_the_other_side_counts() -> None:
    pings = Pings(TOKEN)
    pings.note_ping(b"")
    assert pings.answered(pings.own()) == b""


def test_a_ping_of_the_other_side_may_look_like_the_gateways() -> None:
    """A client knows what the gateway's pings look like, and may send the same to the service."""
    pings = Pings(TOKEN)
    own = pings.own()
    pings.note_ping(own)
    assert pings.answered(own) == own
    assert pings.answered(own) is None


@given(st.lists(st.sampled_from(["own", "theirs", "read"]), max_size=40))
@settings(deadline=None)
def test_answering_only_the_last_ping_also_answers_the_other_sides_ping(steps: list[str]) -> None:
    """Both kinds of pings in any order; a side that reads answers the most recent one alone."""
    pings, unread, count = Pings(TOKEN), [], 0
    for step in [*steps, "read"]:
        if step == "own":
            unread.append(("own", pings.own()))
        elif step == "theirs":
            count += 1
            unread.append(("theirs", b"%d" % count))
            pings.note_ping(b"%d" % count)
        elif unread:
            heard = pings.answered(unread[-1][1])
            theirs = [payload for whose, payload in unread if whose == "theirs"]
            assert heard == (theirs[-1] if theirs else None)
            unread = []
