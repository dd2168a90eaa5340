"""The opening handshake of a WebSocket (RFC 6455 §4): checks of the client's request and of the upstream's answer.

The gateway asks the upstream before answering the client. The client receives the upstream's choice of subprotocol,
extensions and cookies. Only the key is the gateway's own, since Sec-WebSocket-Accept proves that the upstream
understood the gateway's request.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tornado_gateway.errors import BadRequest, OriginNotAllowed, UpgradeRequired, UpstreamInvalid
from tornado_gateway.policy.http.authority import is_of_authority, parse_origin
from tornado_gateway.policy.http.frames import ANY_RSV, COMPRESSED
from tornado_gateway.policy.http.headers import Field, options
from tornado_gateway.policy.http.lists import members, quoted_members, tokens

ANY_ORIGIN, SAME_ORIGIN = "*", "same-origin"
VERSION = b"13"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

KnownFields = Mapping[bytes, Sequence[bytes]]


def accept_value(key: bytes) -> bytes:
    """The value of Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2).

    >>> accept_value(b"dGhlIHNhbXBsZSBub25jZQ==")
    b's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    """
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  # the RFC's choice; it guards nothing


@dataclass(frozen=True, slots=True)
class Offer:
    """The opening handshake of a client.

    Attributes:
        key: the value of Sec-WebSocket-Key.
        protocols: offered subprotocols, in the client's spelling.
        extensions: names of offered extensions, in lower case.
        origin: the value of Origin, or None.
    """

    key: bytes
    protocols: tuple[bytes, ...]
    extensions: frozenset[bytes]
    origin: bytes | None


def fields_by_name(fields: Sequence[Field]) -> dict[bytes, list[bytes]]:
    """The values of fields by lower-case name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    return found


def is_handshake(method: bytes, known_fields: KnownFields) -> bool:
    """Whether a request that has an Upgrade field asks for a WebSocket (RFC 6455 §4.1).

    >>> fields = {b"connection": [b"Upgrade"], b"upgrade": [b"h2c, WebSocket"], b"sec-websocket-key": [b"a"]}
    >>> is_handshake(b"GET", fields), is_handshake(b"POST", fields), is_handshake(b"GET", fields | {b"connection": []})
    (True, False, False)
    """
    is_asked = method == b"GET" and b"sec-websocket-key" in known_fields
    return is_asked and b"websocket" in tokens(known_fields[b"upgrade"]) and b"upgrade" in options(known_fields)


def read_offer(fields: Sequence[Field], minor: int) -> Offer:
    """Read and check a client's handshake (RFC 6455 §4.2.1).

    Args:
        fields: of the request.
        minor: HTTP minor version of the request.

    Raises:
        UpgradeRequired: the request does not ask for a WebSocket, or asks for an unsupported WebSocket version.
        BadRequest: a WebSocket field is repeated, or the key is invalid.
    """
    values = fields_by_name(fields)
    if not minor or b"websocket" not in _tokens(values, b"upgrade") or b"upgrade" not in _tokens(values, b"connection"):
        raise UpgradeRequired
    for name in (b"Sec-WebSocket-Version", b"Sec-WebSocket-Key", b"Origin"):
        if len(values.get(name.lower(), ())) > 1:  # RFC 6455 §11.3.1, §11.3.5; RFC 6454 §7.1
            raise BadRequest(f"the request has more than one {name.decode('ascii')} field")
    if values.get(b"sec-websocket-version") != [VERSION]:
        raise UpgradeRequired("the only version of WebSocket spoken here is 13")
    keys = values.get(b"sec-websocket-key", [])
    if not keys or not _is_key(keys[0]):
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")
    origin = values.get(b"origin", [None])[0]
    return Offer(keys[0], tuple(members(values.get(b"sec-websocket-protocol", ()))), _extensions(values), origin)


def check_answer(fields: Sequence[Field], offer: Offer, key: bytes) -> int:
    """Check an upstream's 101 response (RFC 6455 §4.1).

    Args:
        fields: of the response.
        offer: the client's handshake.
        key: the Sec-WebSocket-Key that the gateway sent.

    Returns:
        The reserved bits that the chosen extensions may set in frames.

    Raises:
        UpstreamInvalid: a client would have to refuse the answer.
    """
    values = fields_by_name(fields)
    if b"websocket" not in _tokens(values, b"upgrade") or b"upgrade" not in _tokens(values, b"connection"):
        raise UpstreamInvalid("the service switched to something else than WebSocket")
    if values.get(b"sec-websocket-accept") != [accept_value(key)]:
        raise UpstreamInvalid("the service's Sec-WebSocket-Accept is wrong")
    chosen = values.get(b"sec-websocket-protocol", [])
    if len(chosen) > 1 or not set(chosen) <= set(offer.protocols):
        raise UpstreamInvalid("the service chose a subprotocol that was not offered")
    extensions = _extensions(values)
    if not extensions <= offer.extensions:
        raise UpstreamInvalid("the service chose an extension that was not offered")
    if not extensions:
        return 0
    return COMPRESSED if extensions == {b"permessage-deflate"} else ANY_RSV


def check_origin(origin: bytes | None, allowed: Collection[str], host: bytes) -> None:
    """Refuse a WebSocket from a page whose origin is not allowed.

    Browsers let any page open a WebSocket to any host, and send the host's cookies.

    Args:
        origin: the value of Origin; None, which browsers never send, is allowed.
        allowed: origins in canonical form, ANY_ORIGIN, or SAME_ORIGIN for the origin with the request's own authority.
        host: the authority of the request.

    Raises:
        OriginNotAllowed: the origin is not allowed.
    """
    if origin is None or ANY_ORIGIN in allowed:
        return
    text = origin.decode("latin-1")
    if parse_origin(text) in allowed or (SAME_ORIGIN in allowed and is_of_authority(text, host.decode("latin-1"))):
        return
    raise OriginNotAllowed


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _tokens(values: KnownFields, name: bytes) -> list[bytes]:
    return tokens(values.get(name, ()))


def _extensions(values: KnownFields) -> frozenset[bytes]:
    offered = quoted_members(values.get(b"sec-websocket-extensions", ()))  # a parameter may be quoted (RFC 6455 §9.1)
    names = (each.partition(b";")[0].strip().lower() for each in offered)
    return frozenset(filter(None, names))
