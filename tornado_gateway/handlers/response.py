"""The head of a service's response, as the client gets it."""

import functools

from tornado_gateway.policy.http.headers import client_fields, interim_fields, serialize, without
from tornado_gateway.wire.http1 import ResponseHead
from tornado_gateway.wire.server.exchange import ServerExchange


def send_interim(client: ServerExchange, head: ResponseHead) -> None:
    """Pass a 1xx response on (RFC 9110 §15.2)."""
    client.write_interim(head.status, interim_fields(head.passing, head.named), safe_reason(head.reason))


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
        pseudonym: this gateway's name in Via and Proxy-Status.
        lines: to add, each with its CRLF.
        passes_alt_svc: whether the client is told of the alternatives that the service names (RFC 7838).
    """
    named, passing, status = head.named, head.passing, head.status
    if status == 204 and b"content-length" in named:
        passing = without(passing, (b"content-length",))  # RFC 9110 §8.6
    block = client_fields(passing, named, request_id, head.minor, pseudonym) + lines
    if passes_alt_svc and b"alt-svc" in named:
        block += serialize([(b"Alt-Svc", value) for value in named[b"alt-svc"]])
    if status >= 500:
        block += b"Proxy-Status: %b; received-status=%d\r\n" % (pseudonym, status)
    client.start_response(status, safe_reason(head.reason), block, length=head.length, dated=b"date" in named)


@functools.lru_cache(maxsize=256)
def safe_reason(reason: bytes) -> bytes:
    """An upstream's reason phrase of plain words; b"", for the standard phrase, in place of any other.

    Source: Tornado CVE-2025-67724.

    >>> safe_reason(b"I'm a teapot"), safe_reason(b"<b>")
    (b"I'm a teapot", b'')
    """
    return reason if reason.replace(b" ", b"").replace(b"-", b"").replace(b"'", b"").isalnum() else b""
