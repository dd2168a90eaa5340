"""The opening handshake of a WebSocket (RFC 6455 §4), as a gateway must judge it on both of its sides.

The upstream is asked before the client is answered, and what it chose is what the client
gets: its subprotocol, its extensions, its cookies. Only the key is the gateway's own, since a key
proves that somebody understood this very request.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tornado_gateway.errors import BadRequest, OriginNotAllowed, UpgradeRequired, UpstreamInvalid
from tornado_gateway.policy.http.authority import is_of_authority, parse_origin
from tornado_gateway.policy.http.frames import ANY_RSV, COMPRESSED
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.http.lists import members, quoted_members, tokens

ANY_ORIGIN, SAME_ORIGIN = "*", "same-origin"
VERSION = b"13"

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Named = Mapping[bytes, Sequence[bytes]]


def accept_value(key: bytes) -> bytes:
    """What Sec-WebSocket-Accept must be for a key (RFC 6455 §4.2.2).

    >>> accept_value(b"dGhlIHNhbXBsZSBub25jZQ==")
    b's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
    """
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  # the RFC's choice; it guards nothing


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client asks for.

    Attributes:
        key: its Sec-WebSocket-Key.
        protocols: subprotocols it speaks, as it wrote them.
        extensions: names of those it knows, in lower case.
        origin: what its Origin says, or None.
    """

    key: bytes
    protocols: tuple[bytes, ...]
    extensions: frozenset[bytes]
    origin: bytes | None


def named(fields: Sequence[Field]) -> dict[bytes, list[bytes]]:
    """The values of fields by lower-case name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    return found


def read_offer(fields: Sequence[Field], minor: int) -> Offer:
    """Judge a client's handshake (RFC 6455 §4.2.1).

    Args:
        minor: of the version the request came in.

    Raises:
        UpgradeRequired: it does not ask for a WebSocket, or for another version's.
        BadRequest: it does so in a way that cannot be answered.
    """
    said = named(fields)
    if not minor or b"websocket" not in _tokens(said, b"upgrade") or b"upgrade" not in _tokens(said, b"connection"):
        raise UpgradeRequired
    for name in (b"Sec-WebSocket-Version", b"Sec-WebSocket-Key", b"Origin"):
        if len(said.get(name.lower(), ())) > 1:  # RFC 6455 §11.3.1, §11.3.5; RFC 6454 §7.1
            raise BadRequest(f"the request has more than one {name.decode('ascii')} field")
    if said.get(b"sec-websocket-version") != [VERSION]:
        raise UpgradeRequired("the only version of WebSocket spoken here is 13")
    keys = said.get(b"sec-websocket-key", [])
    if not keys or not _is_key(keys[0]):
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64")
    origin = said.get(b"origin", [None])[0]
    return Offer(keys[0], tuple(members(said.get(b"sec-websocket-protocol", ()))), _extensions(said), origin)


def check_answer(fields: Sequence[Field], offer: Offer, key: bytes) -> int:
    """Judge an upstream's 101 (RFC 6455 §4.1).

    Args:
        key: that it was sent.

    Returns:
        The reserved bits that its extensions may set in frames.

    Raises:
        UpstreamInvalid: a client would have to refuse the answer.
    """
    said = named(fields)
    if b"websocket" not in _tokens(said, b"upgrade") or b"upgrade" not in _tokens(said, b"connection"):
        raise UpstreamInvalid("the service switched to something else than WebSocket")
    if said.get(b"sec-websocket-accept") != [accept_value(key)]:
        raise UpstreamInvalid("the service's Sec-WebSocket-Accept is wrong")
    chosen = said.get(b"sec-websocket-protocol", [])
    if len(chosen) > 1 or not set(chosen) <= set(offer.protocols):
        raise UpstreamInvalid("the service chose a subprotocol that was not offered")
    extensions = _extensions(said)
    if not extensions <= offer.extensions:
        raise UpstreamInvalid("the service chose an extension that was not offered")
    if not extensions:
        return 0
    return COMPRESSED if extensions == {b"permessage-deflate"} else ANY_RSV


def check_origin(origin: bytes | None, allowed: Collection[str], host: bytes) -> None:
    """Whether a page of this origin may open WebSockets: browsers send cookies along and let any page ask.

    Args:
        origin: None for clients that are not browsers; they may.
        allowed: origins in canonical form, or ANY_ORIGIN, or SAME_ORIGIN: the one whose authority the request asks for.
        host: that authority.

    Raises:
        OriginNotAllowed: it may not.
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


def _tokens(said: Named, name: bytes) -> list[bytes]:
    return tokens(said.get(name, ()))


def _extensions(said: Named) -> frozenset[bytes]:
    offered = quoted_members(said.get(b"sec-websocket-extensions", ()))  # a parameter may be quoted (RFC 6455 §9.1)
    names = (each.partition(b";")[0].strip().lower() for each in offered)
    return frozenset(filter(None, names))
