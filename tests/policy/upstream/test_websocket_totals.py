"""Totals of a service's WebSockets: sums over ended WebSockets, and the number of open WebSockets."""

import pytest

from tornado_gateway.policy.upstream.websocket_totals import WebSocketTotals


def test_websockets_that_have_ended_add_up() -> None:
    totals = WebSocketTotals()
    totals.add(messages=(1, 2), wire_bytes=(30, 40), seconds=5.0, close_code=1000)
    totals.add(messages=(10, 20), wire_bytes=(300, 400), seconds=0.5, close_code=1006)
    totals.add(messages=(0, 0), wire_bytes=(0, 0), seconds=0.0, close_code=1000)
    assert totals.closed == 3
    assert (totals.messages_up, totals.messages_down) == (11, 22)
    assert (totals.bytes_up, totals.bytes_down) == (330, 440)
    assert totals.seconds == 5.5
    assert totals.close_codes == {1000: 2, 1006: 1}


def test_each_service_has_its_own_sums() -> None:
    WebSocketTotals().add(messages=(1, 1), wire_bytes=(1, 1), seconds=1.0, close_code=1000)
    assert WebSocketTotals().close_codes == {}


@pytest.mark.parametrize(("opened", "closed"), [(0, 0), (1, 0), (3, 1), (3, 3)])
def test_open_is_begun_minus_ended(opened: int, closed: int) -> None:
    totals = WebSocketTotals(opened=opened)
    for _ in range(closed):
        totals.add(messages=(1, 1), wire_bytes=(10, 10), seconds=1.0, close_code=1000)
    assert totals.open == opened - closed
