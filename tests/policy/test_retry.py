"""When a request is sent again: never if it may have been carried out, always if it reached nobody."""

import pytest

from tornado_gateway.errors import (
    ConnectFailed,
    ConnectTimeout,
    HeadTimeout,
    IdleTimeout,
    NameNotResolved,
    TLSFailed,
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
)
from tornado_gateway.policy.retry import IDEMPOTENT, Again, again

UNREACHED = [ConnectFailed(), NameNotResolved(), TLSFailed(), ConnectTimeout()]
HOPELESS = [UpstreamInvalid(), HeadTimeout(), IdleTimeout(), UpstreamError()]


def where(error: UpstreamError, **circumstances: bool) -> Again:
    """The decision on a POST whose body is at hand and of which nothing has been sent, unless said otherwise."""
    usual = {"is_repeatable": False, "reused": False, "body_sent": False, "replayable": True}
    return again(error, **(usual | circumstances))


@pytest.mark.parametrize("error", UNREACHED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_repeatable", [True, False])
@pytest.mark.parametrize("awaits_stream", [True, False])
def test_what_reached_nobody_goes_to_another_endpoint(
    error: UpstreamError, is_repeatable: bool, awaits_stream: bool
) -> None:
    assert where(error, is_repeatable=is_repeatable, awaits_stream=awaits_stream) is Again.OTHER_ENDPOINT


@pytest.mark.parametrize("error", HOPELESS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("reused", [True, False])
def test_what_was_too_slow_or_not_http_is_not_tried_again(error: UpstreamError, reused: bool) -> None:
    assert where(error, is_repeatable=True, reused=reused) is Again.NOWHERE


@pytest.mark.parametrize(
    ("is_repeatable", "reused", "body_sent", "expected"),
    [
        (True, True, True, Again.SAME_ENDPOINT),
        (True, True, False, Again.SAME_ENDPOINT),
        (True, False, True, Again.OTHER_ENDPOINT),
        (True, False, False, Again.OTHER_ENDPOINT),
        (False, True, False, Again.SAME_ENDPOINT),
        (False, True, True, Again.NOWHERE),
        (False, False, False, Again.NOWHERE),
        (False, False, True, Again.NOWHERE),
    ],
)
def test_what_a_lost_connection_means(is_repeatable: bool, reused: bool, body_sent: bool, expected: Again) -> None:
    assert where(UpstreamReset(), is_repeatable=is_repeatable, reused=reused, body_sent=body_sent) is expected


@pytest.mark.parametrize("reused", [True, False])
def test_what_broke_within_its_answer_was_no_connection_closed_too_early(reused: bool) -> None:
    assert where(UpstreamReset(), is_repeatable=True, reused=reused, heard=True) is Again.NOWHERE


# A client that waits for events has had none, whatever has come of a response.
@pytest.mark.parametrize("is_repeatable", [True, False])
@pytest.mark.parametrize(
    ("error", "reused", "heard", "expected"),
    [
        (UpstreamReset(), False, False, Again.OTHER_ENDPOINT),
        (UpstreamReset(), False, True, Again.OTHER_ENDPOINT),
        (UpstreamReset(), True, True, Again.OTHER_ENDPOINT),
        (UpstreamReset(), True, False, Again.SAME_ENDPOINT),
        (UpstreamInvalid(), False, True, Again.OTHER_ENDPOINT),
        (UpstreamInvalid(), True, True, Again.OTHER_ENDPOINT),
        (HeadTimeout(), False, False, Again.NOWHERE),
        (IdleTimeout(), False, True, Again.NOWHERE),
    ],
)
def test_a_stream_is_asked_for_elsewhere_unless_it_was_waited_for_long_enough(
    error: UpstreamError, reused: bool, heard: bool, is_repeatable: bool, expected: Again
) -> None:
    circumstances = {"is_repeatable": is_repeatable, "reused": reused, "heard": heard, "body_sent": True}
    assert where(error, **circumstances, awaits_stream=True) is expected


@pytest.mark.parametrize("error", [*UNREACHED, UpstreamReset()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("awaits_stream", [True, False])
def test_a_body_that_is_gone_cannot_be_sent_again(error: UpstreamError, awaits_stream: bool) -> None:
    circumstances = {"is_repeatable": True, "reused": True, "body_sent": True, "awaits_stream": awaits_stream}
    assert where(error, **circumstances, replayable=False) is Again.NOWHERE


def test_post_and_patch_are_not_idempotent() -> None:
    assert {b"GET", b"HEAD", b"PUT", b"DELETE"} <= IDEMPOTENT
    assert not IDEMPOTENT & {b"POST", b"PATCH", b"LOCK", b"CONNECT", b"BREW"}
