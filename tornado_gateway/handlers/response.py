"""Writes the head of a service's response to the client."""

from tornado_gateway.policy.http.headers import client_fields, serialize, without
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.server.exchange import ServerExchange


def send_interim(client: ServerExchange, head: ResponseHead) -> None:
    """Forward a 1xx response (RFC 9110 §15.2)."""
    lines = without(head.forwarded_lines, (b"content-length",))  # RFC 9110 §8.6
    client.write_interim(head.status, lines, head.reason)


def send_head(
    client: ServerExchange,
    head: ResponseHead,
    request_id: bytes,
    pseudonym: bytes,
    *,
    lines: bytes = b"",
    passes_alt_svc: bool = False,
) -> None:
    """Begin the final response.

    Args:
        client: the exchange with the client.
        head: the head of the service's response.
        request_id: value of x-request-id.
        pseudonym: this gateway's name in Via and Proxy-Status.
        lines: field lines to add, each ended by CRLF.
        passes_alt_svc: whether to forward Alt-Svc (RFC 7838).
    """
    known_fields, forwarded_lines, status = head.known_fields, head.forwarded_lines, head.status
    if status == 204 and b"content-length" in known_fields:
        forwarded_lines = without(forwarded_lines, (b"content-length",))  # RFC 9110 §8.6
    block = client_fields(forwarded_lines, known_fields, request_id, head.minor, pseudonym)
    if lines:
        block += lines
    if passes_alt_svc and b"alt-svc" in known_fields:
        block += serialize([(b"Alt-Svc", value) for value in known_fields[b"alt-svc"]])
    if status >= 500:
        block += b"Proxy-Status: %b; received-status=%d\r\n" % (pseudonym, status)
    client.start_response(status, head.reason, block, length=head.length, dated=b"date" in known_fields)
