"""How long, and for how many bytes, a connection is read behind its last response."""

from tornado_gateway.wire.server.lingering import LINGER_BYTES, QUIET, Lingering


def test_bytes_are_dropped_up_to_a_bound() -> None:
    lingering = Lingering(5.0, 5.0)
    assert not lingering.drop(LINGER_BYTES, 5.1)
    assert lingering.drop(1, 5.2)


def test_a_client_is_quiet_when_nothing_has_come_for_a_moment() -> None:
    lingering = Lingering(5.0, 1.0)
    assert not lingering.is_quiet(5.0 + QUIET - 0.01)
    assert lingering.is_quiet(5.0 + QUIET + 0.01)
    lingering.drop(1, 6.0)
    assert not lingering.is_quiet(6.0 + QUIET - 0.01)
    assert lingering.is_quiet(6.0 + QUIET + 0.01)
