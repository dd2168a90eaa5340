"""The bounds of 1xx responses, without a connection."""

import pytest

from tornado_gateway.errors import UpstreamInvalid
from tornado_gateway.wire.client.interim import MAX_BYTES, TIMEOUTS, InterimResponses


def test_interim_responses_put_off_the_deadline_for_some_timeouts() -> None:
    assert InterimResponses(100.0, 2.0).until == 100.0 + TIMEOUTS * 2.0


def test_interim_responses_may_have_as_many_bytes_as_a_final_head() -> None:
    interim = InterimResponses(0.0, 1.0)
    interim.count(MAX_BYTES - 1)
    interim.count(1)
    with pytest.raises(UpstreamInvalid, match=f"more than {MAX_BYTES} bytes of interim responses"):
        interim.count(1)
