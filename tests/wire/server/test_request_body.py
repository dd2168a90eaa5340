"""The body of a request: framing, size and least rate, without a connection."""

import pytest

from tornado_gateway.errors import BadRequest, ContentTooLarge
from tornado_gateway.policy.http.pace import WINDOW
from tornado_gateway.wire.http1 import ChunkedBody, LengthBody
from tornado_gateway.wire.server.request_body import RequestBody


def test_a_body_of_known_length_ends_where_its_length_says() -> None:
    body = RequestBody(LengthBody(5))
    assert body.feed(b"abc") == (b"abc", None)
    assert body.feed(b"deGET") == (b"de", b"GET")
    assert (body.received, body.trailers) == (5, [])


def test_a_chunked_body_counts_its_payload_and_keeps_its_trailers() -> None:
    body = RequestBody(ChunkedBody(BadRequest))
    assert body.feed(b"3\r\nabc\r\n") == (b"abc", None)
    assert body.feed(b"0\r\nX-Sum: 6\r\n\r\nrest") == (b"", b"rest")
    assert (body.received, body.trailers) == (3, [(b"X-Sum", b"6")])


def test_an_announced_size_is_judged_before_the_first_byte() -> None:
    body = RequestBody(LengthBody(5))
    body.check_announced_size(5)
    body.check_announced_size(None)
    with pytest.raises(ContentTooLarge, match="larger than 4 bytes"):
        body.check_announced_size(4)
    RequestBody(ChunkedBody(BadRequest)).check_announced_size(0)


def test_a_received_size_is_judged_as_it_grows() -> None:
    body = RequestBody(ChunkedBody(BadRequest))
    body.feed(b"3\r\nabc\r\n")
    body.check_size(3)
    body.check_size(None)
    with pytest.raises(ContentTooLarge, match="larger than 2 bytes"):
        body.check_size(2)


def test_a_pace_is_judged_over_windows_in_which_the_client_alone_was_waited_for() -> None:
    body = RequestBody(LengthBody(1_000_000))
    assert not body.judge_window(0.0, 100)  # the window begins
    body.feed(bytes(6000))
    assert not body.judge_window(WINDOW, 100)
    body.restart_pace()
    assert not body.judge_window(10 * WINDOW, 100)
    assert not body.judge_window(11 * WINDOW - 1, 100)
    assert body.judge_window(11 * WINDOW, 100)
