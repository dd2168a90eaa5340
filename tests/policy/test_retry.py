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


@pytest.mark.parametrize("error", UNREACHED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"BREW"])
def test_what_reached_nobody_goes_to_another_endpoint(error: UpstreamError, method: bytes) -> None:
    assert again(error, method, reused=False, body_sent=False, replayable=True) is Again.OTHER_ENDPOINT


@pytest.mark.parametrize("error", HOPELESS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("reused", [True, False])
def test_what_was_too_slow_or_not_http_is_not_tried_again(error: UpstreamError, reused: bool) -> None:
    assert again(error, b"GET", reused=reused, body_sent=False, replayable=True) is Again.NOWHERE


@pytest.mark.parametrize(
    ("method", "reused", "body_sent", "where"),
    [
        (b"GET", True, True, Again.SAME_ENDPOINT),
        (b"GET", False, True, Again.OTHER_ENDPOINT),
        (b"PUT", True, True, Again.SAME_ENDPOINT),
        (b"POST", True, False, Again.SAME_ENDPOINT),
        (b"POST", True, True, Again.NOWHERE),
        (b"POST", False, False, Again.NOWHERE),
        (b"PATCH", False, True, Again.NOWHERE),
        (b"BREW", True, True, Again.NOWHERE),
    ],
)
def test_what_a_lost_connection_means(method: bytes, reused: bool, body_sent: bool, where: Again) -> None:
    assert again(UpstreamReset(), method, reused=reused, body_sent=body_sent, replayable=True) is where


@pytest.mark.parametrize("error", [*UNREACHED, UpstreamReset()], ids=lambda error: type(error).__name__)
def test_a_body_that_is_gone_cannot_be_sent_again(error: UpstreamError) -> None:
    assert again(error, b"GET", reused=True, body_sent=True, replayable=False) is Again.NOWHERE


def test_post_and_patch_are_not_idempotent() -> None:
    assert not IDEMPOTENT & {b"POST", b"PATCH", b"LOCK", b"CONNECT"}
