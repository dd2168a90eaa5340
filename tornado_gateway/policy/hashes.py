"""Hashes of API keys and of passwords, each with a name: the items of API_KEYS and BASIC_USERS.

    ci:5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5:read,write      an API key
    ada:$argon2id$v=19$m=19456,t=2,p=1$…$…                                               a password

A key is random and long, so that SHA-256 is enough: nobody can try all keys. A password is neither, so that the hash
must be slow. Argon2id (RFC 9106) is slow, and needs memory, too.
"""

import base64
import binascii
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

# Costs of a password hash. The least costs are those of OWASP's Password Storage Cheat Sheet: 7 MiB, and 35 MiB·passes.
# The greatest costs bound what a mistake in a variable can take: memory of a worker, and seconds of a core.
LEAST_MEMORY, MOST_MEMORY = 7 * 1024, 256 * 1024  # KiB
LEAST_WORK = 35 * 1024  # KiB, times passes
MOST_PASSES = MOST_LANES = 16
LEAST_SALT, LEAST_TAG = 8, 16  # bytes (RFC 9106 §3.1; 128 bits)
LEAST_DIGITS = 8  # different digits of a SHA-256 hash; a hash with fewer is a placeholder, such as 64 zeros
MAX_NAME = 64  # characters

_NAME = re.compile(rf"[^\s:,|]{{1,{MAX_NAME}}}")  # ":" and "," separate; "|" is in the names of tokens' principals
_SCOPE = re.compile(r"[!#-+\--\[\]-~]+")  # RFC 6749 §3.3, without the comma
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$([^$]+)\$([^$]+)")


@dataclass(frozen=True, slots=True)
class NamedHash:
    """The hash of a key or of a password.

    Attributes:
        name: of whom the key or password belongs to.
        hash: 64 hexadecimal digits in lower case, or a PHC string of Argon2id.
        scopes: what the key or password permits.
    """

    name: str
    hash: str = field(repr=False)
    scopes: frozenset[str] = frozenset()

    def __str__(self) -> str:
        scopes = ",".join(sorted(self.scopes))
        return f"{self.name}:{self.hash}{f':{scopes}' if scopes else ''}"


def parse(item: str, check: Callable[[str], None]) -> NamedHash:
    """A name, a hash and scopes: "name:hash" or "name:hash:scope,scope".

    Args:
        check: raises ValueError for a hash that is not to be used.

    Raises:
        ValueError: with the reason, which quotes nothing: the text may be a key.

    >>> str(parse("ci:" + "0123456789ABCDEF" * 4 + ":write,read", check_key_hash))[66:]
    'f:read,write'
    """
    name, _, rest = item.partition(":")
    hash_, colon, scopes = rest.partition(":")
    name = normal(name)
    if not _NAME.fullmatch(name) or not name.isprintable() or not hash_:
        raise ValueError("is not a name, a colon and a hash")
    words = scopes.split(",")
    if colon and not all(map(_SCOPE.fullmatch, words)):
        raise ValueError("has no scopes behind the second colon")
    hash_ = hash_ if hash_.startswith("$") else hash_.lower()
    check(hash_)
    return NamedHash(name, hash_, frozenset(words) if colon else frozenset())


def normal(text: str) -> str:
    """Normalization form C: keyboards write the same name or password in different ways (RFC 7617 §2.1, RFC 8265)."""
    return unicodedata.normalize("NFC", text)


def check_key_hash(text: str) -> None:
    """
    Raises:
        ValueError: the text is not the SHA-256 hash of a key.
    """
    if not _SHA256.fullmatch(text):
        raise ValueError("is not a SHA-256 hash, which has 64 hexadecimal digits")
    if text == _OF_NOTHING:
        raise ValueError("is the hash of an empty key")
    if len(set(text)) < LEAST_DIGITS:
        raise ValueError("is a placeholder, not a hash")


def check_password_hash(text: str) -> None:
    """
    Raises:
        ValueError: the text is not an Argon2id hash, is too weak, or costs too much.
    """
    found = _ARGON2ID.fullmatch(text)
    if not found:
        raise ValueError("is not an Argon2id hash of version 19, such as $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA")
    memory, passes, lanes = map(int, found.groups()[:3])
    salt, tag = map(_decoded, found.groups()[3:])
    if memory < LEAST_MEMORY or memory * passes < LEAST_WORK:
        raise ValueError(f"is too weak: m is to be {LEAST_MEMORY} or more, and m times t {LEAST_WORK} or more")
    if len(salt) < LEAST_SALT or len(tag) < LEAST_TAG:
        raise ValueError(f"is too weak: the salt has less than {LEAST_SALT} bytes, or the hash less than {LEAST_TAG}")
    if memory > MOST_MEMORY or passes > MOST_PASSES or not 1 <= lanes <= MOST_LANES:
        raise ValueError(f"costs too much: m is to be {MOST_MEMORY} or less, t and p {MOST_PASSES} or less")


def _decoded(part: str) -> bytes:
    """The bytes of a part of a PHC string: base64 without padding.

    Raises:
        ValueError: the part is not canonical base64, which Argon2 would refuse at each check.
    """
    try:
        found = base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if base64.b64encode(found).decode("ascii").rstrip("=") != part:
        raise ValueError("has a salt or a hash that is not base64")
    return found
