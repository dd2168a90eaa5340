"""Which responses the gateway compresses, in which coding, and what then changes in the fields.

A response is compressed if its type gains by that, if it is large enough or of unknown length, and if nobody forbids
changes. The choice depends on Accept-Encoding, so every response that might be compressed has Vary, compressed or not.

Sources: RFC 9110 §12.5.3 (Accept-Encoding), §8.4 (Content-Encoding), §8.8.3 (ETag), §7.7 and RFC 9111 §5.2.2.6
(no-transform).
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tornado_gateway.policy.http.headers import KnownFields, pairs, without
from tornado_gateway.policy.http.lists import OWS, members, tokens

GZIP, BROTLI, ZSTD = b"gzip", b"br", b"zstd"
CODINGS = (GZIP, BROTLI, ZSTD)

_BODILESS = (204, 205, 304)
_PARTIAL = 206

_TYPE = re.compile(
    rb"text/.*|application/(?:.*[+/-])?(?:json|xml|javascript|ecmascript|wasm|yaml|graphql|ndjson|jsonl|rtf|x-sh)"
    rb"|application/(?:jwk-set\+json|vnd\.ms-fontobject|x-font-ttf)|font/(?:ttf|otf|sfnt|collection)"
    rb"|image/(?:svg\+xml|bmp|x-icon|vnd\.microsoft\.icon)"
)
_EVENTS = b"text/event-stream"

# Fields that a change of the content makes wrong. A response that has any is left as it is.
_OF_THE_CONTENT = frozenset((
    b"content-digest", b"content-encoding", b"content-md5", b"content-range", b"digest", b"signature",
))  # fmt: skip
_WEIGHT = re.compile(rb"q[ \t]*=[ \t]*([01](?:\.[0-9]{0,3})?)")
_WEAK = b"W/"


@dataclass(frozen=True, slots=True)
class CompressionConfig:
    """What is compressed.

    Attributes:
        codings: of CODINGS, the best first; empty for no compression.
        at_least: bytes of the smallest body that is compressed; a body of unknown length always is.
    """

    codings: tuple[bytes, ...] = ()
    at_least: int = 1024


@functools.lru_cache(maxsize=256)
def chosen(accepted: bytes, codings: tuple[bytes, ...]) -> bytes:
    """The coding for a client; b"" for none. Of codings with the same weight, the first of the configuration.

    Args:
        accepted: the value of Accept-Encoding; without the field, no coding is chosen (RFC 9110 §12.5.3 allows any).

    >>> chosen(b"gzip, br;q=0.9", (b"br", b"gzip")), chosen(b"*;q=0.1, br;q=0", (b"br", b"gzip"))
    (b'gzip', b'gzip')
    >>> chosen(b"identity, zstd;q=0", (b"zstd",))
    b''
    """
    weights = dict(map(_weight, members([accepted.lower()])))
    if b"x-gzip" in weights:  # RFC 9110 §8.4.1.3
        weights.setdefault(GZIP, weights[b"x-gzip"])
    anything = weights.get(b"*", 0.0)
    best = max(codings, key=lambda each: weights.get(each, anything), default=b"")
    weight = weights.get(best, anything)
    return best if weight > 0 and weight >= weights.get(b"identity", 0.0) else b""


def _weight(member: bytes) -> tuple[bytes, float]:
    """The name of a coding and its weight; a malformed weight counts as 0."""
    name, mark, rest = member.partition(b";")
    weight = _WEIGHT.fullmatch(rest.strip(OWS))
    return name.strip(OWS), float(weight[1]) if weight else 0.0 if mark else 1.0


def accepted_by(fields: KnownFields) -> bytes:
    """The value of Accept-Encoding in a request; b"" for none."""
    return b",".join(fields.get(b"accept-encoding", ()))


def forbids(fields: KnownFields) -> bool:
    """Whether Cache-Control of a message forbids to transform the content."""
    return b"no-transform" in tokens(fields.get(b"cache-control", ()))


def is_compressible(status: int, length: int | None, fields: KnownFields, config: CompressionConfig) -> bool:
    """Whether a response is compressed for a client that accepts a coding.

    Args:
        length: of the body; None if unknown.
        fields: of the response, by lower-case name.
    """
    if status in _BODILESS or status == _PARTIAL or status < 200 or (length is not None and length < config.at_least):
        return False
    if not _OF_THE_CONTENT.isdisjoint(fields) or forbids(fields):
        return False
    kinds = [each.partition(b";")[0].strip(OWS).lower() for each in fields.get(b"content-type", ())]
    return bool(kinds) and all([each != _EVENTS and bool(_TYPE.fullmatch(each)) for each in kinds])


def varied(lines: bytes) -> bytes:
    """Field lines of a response that depends on Accept-Encoding (RFC 9110 §12.5.5)."""
    vary = tokens([value for name, value in pairs(lines) if name.lower() == b"vary"])
    return lines if b"accept-encoding" in vary or b"*" in vary else lines + b"Vary: Accept-Encoding\r\n"


def weakened(lines: bytes) -> bytes:
    """Field lines with a weak ETag: the content has the same meaning, and other bytes (RFC 9110 §8.8.1).

    >>> weakened(b'ETag: "1"\\r\\nA: b\\r\\n'), weakened(b'etag: W/"1"\\r\\n')
    (b'A: b\\r\\nETag: W/"1"\\r\\n', b'etag: W/"1"\\r\\n')
    """
    tags = [value for name, value in pairs(lines) if name.lower() == b"etag"]
    if not tags or all([each.startswith(_WEAK) for each in tags]):
        return lines
    made = b"".join([b"ETag: %b%b\r\n" % (b"" if each.startswith(_WEAK) else _WEAK, each) for each in tags])
    return without(lines, (b"etag",)) + made


def coded(lines: bytes, coding: bytes) -> bytes:
    """Field lines of a response that is compressed. Parts of the content cannot be asked for any more."""
    kept = without(lines, (b"content-length", b"accept-ranges"))
    return varied(weakened(kept)) + b"Content-Encoding: %b\r\n" % coding


def joined_codings(codings: Sequence[bytes]) -> str:
    """The codings as a variable has the codings.

    >>> joined_codings(()), joined_codings((b"br", b"gzip"))
    ('off', 'br,gzip')
    """
    return ",".join(each.decode("ascii") for each in codings) or "off"
