"""A stored response as bytes, for a store that other gateways share.

    format   "1", or "2" for a part that is compressed (zlib)
    length   4 bytes: of the part before compression
    part     4 bytes: length of the facts; facts (JSON); field lines; body
    seal     32 bytes: of the name of the entry and everything above; see policy/seals.py

A response that differs by Vary has an entry of its own name. The entry that requests find first is then a sign: facts
that name the fields in Vary, without lines and body.

An entry that is not exactly so is no entry: the store may lose, cut and mix up what it has, and others may write there.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tornado_gateway.policy.http.caching.request import Key
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms
from tornado_gateway.policy.http.caching.vary import Selection
from tornado_gateway.policy.seals import SEAL, sealed, unsealed

MOST = 1024 * 1024  # bytes of an entry, and of its part before compression
SMALL = 512  # bytes of a part that is not compressed: hardly a byte would be saved
LEVEL = 1  # of zlib: 1 ms for 64 KiB of JSON (measured), and within a fifth of the best

_PLAIN, _COMPRESSED = b"1", b"2"
_LENGTH = 4

# A response that is encoded already would only grow.
_ENCODED = b"content-encoding:"


class Token(NamedTuple):
    """What a gateway knew of changes when a response was asked for.

    Attributes:
        session: number of the connection to the store.
        number: of the latest purge.
        generation: of the resource; changes with each invalidation.
    """

    session: int
    number: int
    generation: bytes


class Sign(NamedTuple):
    """Leads to the entries that differ by Vary.

    Attributes:
        vary: names of the fields.
    """

    vary: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A response from the shared store.

    Attributes:
        stored: the response.
        number, generation: of the Token of the gateway that stored the response.
    """

    stored: Stored
    number: int
    generation: bytes


def name_of(key: Key, selection: Selection | None = None) -> str:
    """The name of the entry of a key.

    Args:
        selection: values of the fields in Vary; None for the entry that is found first.
    """
    values = () if selection is None else (b"v", *[b"-" if each is None else b"+" + each for each in selection])
    return _digest(*key, *values)


def resource_name(resource: bytes) -> str:
    """The name under which the generation of a resource is kept."""
    return _digest(resource)


def _digest(*parts: bytes) -> str:
    """A name of 160 bits: parts and their lengths, so that no two lists have the same name."""
    made = hashlib.blake2b(digest_size=20)
    for each in parts:
        made.update(b"%d:%b" % (len(each), each))
    return made.hexdigest()


def encode(secret: bytes, name: str, stored: Stored, token: Token, came: float) -> bytes | None:
    """The entry of a response; None for a response that is too large.

    Args:
        name: of the entry.
        came: seconds since 1970 at which the response came.
    """
    facts = _text({
        "status": stored.status, "reason": _word(stored.reason), "minor": stored.minor,
        "terms": _of_terms(stored),
        "by": [None if each is None else _word(each) for each in stored.selected_by], "came": came,
        "known": {_word(name): [_word(each) for each in values] for name, values in stored.known_fields.items()},
        "etag": _word(stored.etag), "modified": _word(stored.last_modified), "tags": _word(stored.tags),
        "lines": len(stored.lines), "number": token.number, "generation": _word(token.generation),
    })  # fmt: skip
    return _sealed(secret, name, facts, stored.lines, stored.body)


def encode_sign(secret: bytes, name: str, vary: Sequence[bytes]) -> bytes | None:
    """The entry that leads to others."""
    return _sealed(secret, name, _text({"vary": [_word(each) for each in vary]}), b"", b"")


def _sealed(secret: bytes, name: str, facts: bytes, lines: bytes, body: bytes) -> bytes | None:
    part = b"".join((len(facts).to_bytes(_LENGTH), facts, lines, body))
    if len(part) > MOST:
        return None
    packs = len(part) > SMALL and _ENCODED not in lines.lower()
    packed = zlib.compress(part, LEVEL) if packs else part
    form = _COMPRESSED if packs else _PLAIN
    content = b"".join((form, len(part).to_bytes(_LENGTH), packed))
    return sealed(secret, name, content) if len(content) + SEAL <= MOST else None


def decode(secret: bytes, name: str, entry: bytes, wall: float, now: float) -> Entry | Sign | None:
    """The response of an entry, or where to look instead; None for what is no entry.

    Args:
        name: of the entry.
        wall: seconds since 1970.
        now: the same instant on the gateway clock.
    """
    content = unsealed(secret, name, entry) if len(entry) <= MOST else None
    if content is None:
        return None
    try:
        return _read(_unpacked(content), wall, now)
    except (ValueError, TypeError, LookupError, zlib.error, RecursionError):  # of another version, with the same secret
        return None


def _unpacked(content: bytes) -> bytes:
    """
    Raises:
        ValueError, zlib.error: the content is no part.
    """
    form, length, packed = content[:1], int.from_bytes(content[1 : 1 + _LENGTH]), content[1 + _LENGTH :]
    if length > MOST or form not in (_PLAIN, _COMPRESSED):
        raise ValueError("no part")
    # Never more than the length, whatever the bytes say.
    part = packed if form == _PLAIN else zlib.decompressobj().decompress(packed, length + 1)
    if len(part) != length:
        raise ValueError("the length is another")
    return part


def _read(part: bytes, wall: float, now: float) -> Entry | Sign:
    end = _LENGTH + int.from_bytes(part[:_LENGTH])
    facts: dict[str, Any] = json.loads(part[_LENGTH:end])
    if "vary" in facts:
        return Sign(tuple([_bytes(each) for each in facts["vary"]]))
    body = end + facts["lines"]
    # A clock that is ahead must not make a response younger than it was on arrival.
    came = now - max(wall - float(facts["came"]), 0.0)
    initial_age, terms = _terms(facts["terms"])
    stored = Stored(
        facts["status"], _bytes(facts["reason"]), facts["minor"], part[end:body],
        {_bytes(name): [_bytes(each) for each in values] for name, values in facts["known"].items()}, part[body:],
        terms, tuple([None if each is None else _bytes(each) for each in facts["by"]]), came,
        _bytes(facts["etag"]), _bytes(facts["modified"]), _bytes(facts["tags"]), initial_age,
    )  # fmt: skip
    return Entry(stored, facts["number"], _bytes(facts["generation"]))


def _of_terms(stored: Stored) -> list[object]:
    terms = stored.terms
    return [
        terms.lifetime, stored.initial_age, terms.is_shared, terms.needs_validation, terms.forbids_stale,
        terms.stale_while_revalidate, terms.stale_if_error, [_word(each) for each in terms.vary],
        [_word(each) for each in sorted(terms.withheld)],
    ]  # fmt: skip


def _terms(said: Sequence[Any]) -> tuple[float, Terms]:
    """The age on arrival, and the terms."""
    lifetime, initial_age, *plain, vary, withheld = said
    by = tuple([_bytes(each) for each in vary]), frozenset([_bytes(each) for each in withheld])
    return float(initial_age), Terms(*(lifetime, *plain, *by))


def _text(facts: dict[str, object]) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode("ascii")


def _word(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(value: str) -> bytes:
    return value.encode("latin-1")


KEPT_FOR_VALIDATION = 3600.0  # seconds that a stale response with a validator is kept
LONGEST = 7 * 86_400.0  # seconds that any entry is kept


def keeps_for(stored: Stored, age: float, stale: float) -> float:
    """Seconds for which a response is of use to gateways; 0 or less for none.

    Args:
        age: of the response, in seconds.
        stale: seconds beyond the lifetime for which the operator allows stale responses.
    """
    terms = stored.terms
    beyond = 0.0 if terms.forbids_stale else max(terms.stale_while_revalidate, terms.stale_if_error, stale)
    if stored.etag or stored.last_modified:
        beyond = max(beyond, KEPT_FOR_VALIDATION)
    return min(terms.lifetime + beyond - age, LONGEST)
