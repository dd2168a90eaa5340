"""The limits of a WebSocket relay."""

import pytest

from tornado_gateway.policy.http.websocket import RelayConfig


@pytest.mark.parametrize(
    ("messages", "bytes_", "is_paced"), [(0, 0, False), (5, 0, True), (0, 1000, True), (5, 1000, True)]
)
def test_a_client_is_paced_if_either_rate_is_bounded(messages: int, bytes_: int, is_paced: bool) -> None:
    assert RelayConfig(messages_per_second=messages, bytes_per_second=bytes_).is_paced is is_paced
