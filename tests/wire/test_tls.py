"""What both sides of TLS have in common is tested with each side: client/test_tls.py and server/test_tls.py."""

from tornado_gateway.wire.client.tls import ClientTLS
from tornado_gateway.wire.server.tls import ServerTLS
from tornado_gateway.wire.tls import TLSTransport


def test_both_sides_are_transports() -> None:
    assert issubclass(ClientTLS, TLSTransport) and issubclass(ServerTLS, TLSTransport)
