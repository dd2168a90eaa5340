"""Totals of opened connections: empty at first, and each client's own."""

from tornado_gateway.policy.upstream.connect_totals import ConnectTotals


def test_each_client_has_its_own_sums() -> None:
    one, other = ConnectTotals(), ConnectTotals()
    one.failures["connect_failed"] += 1
    one.failed_look_ups += 1
    for each in (one.look_ups, one.connections, one.handshakes):
        each.add(0.5)
    assert [each.count for each in (one.look_ups, one.connections, one.handshakes)] == [1, 1, 1]
    assert [each.count for each in (other.look_ups, other.connections, other.handshakes)] == [0, 0, 0]
    assert (other.failures, other.failed_look_ups) == ({}, 0)
