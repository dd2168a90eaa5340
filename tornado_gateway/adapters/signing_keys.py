"""The keys that verify tokens, each with the algorithms that the key allows.

The kind of a key decides about the algorithms, and a token never does: an RSA key verifies no HMAC (RFC 8725 §3.1).

    secret of 32, 48, 64 bytes   HS256, HS384, HS512 (RFC 7518 §3.2: a key as long as the hash)
    RSA key of 2048 bits         RS256 to RS512, PS256 to PS512 (RFC 7518 §3.3)
    P-256, P-384, P-521          ES256, ES384, ES512 (RFC 7518 §3.4)
    Ed25519, Ed448               EdDSA (RFC 8037)
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # least bytes of the secret
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_EDWARDS = ("EdDSA",)

ALGORITHMS = (*_HMAC, *_RSA, *_CURVES.values(), *_EDWARDS)
SHORTEST_SECRET = min(_HMAC.values())  # bytes in UTF-8
SHORTEST_RSA = 2048  # bits

_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that verifies tokens.

    Attributes:
        key: the secret in UTF-8, or a public key of `cryptography`.
        algorithms: what the key may verify.
        kid: the key's id; None for a key that verifies tokens of any id.
    """

    key: Any
    algorithms: frozenset[str]
    kid: str | None = None


def of_secret(secret: str) -> VerifyingKey:
    """The key of HMAC signatures.

    Raises:
        ValueError: the secret is too short.
    """
    key = secret.encode("utf-8")
    algorithms = frozenset(name for name, size in _HMAC.items() if len(key) >= size)
    if not algorithms:
        raise ValueError(f"is shorter than {SHORTEST_SECRET} bytes")
    return VerifyingKey(key, algorithms)


def of_pem(pem: bytes) -> tuple[VerifyingKey, ...]:
    """The public keys of a PEM text, which may hold several keys.

    Raises:
        ValueError: the text holds no public key, or a key that is no public key, or too weak a key.
    """
    blocks = list(_PEM.finditer(pem))
    if not blocks:
        raise ValueError("holds no PEM block")
    return tuple(_of_block(block[0], block[1]) for block in blocks)


def _of_block(pem: bytes, label: bytes) -> VerifyingKey:
    if label not in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
        raise ValueError("holds another thing than public keys")  # a private key is never quoted, and never used
    try:
        return of_public_key(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds a public key that cannot be read or used") from None


def of_public_key(key: object, kid: str | None = None) -> VerifyingKey:
    """A verifying key of a public key.

    Raises:
        ValueError: no algorithm is known for such a key, or an RSA key is shorter than SHORTEST_RSA bits.
    """
    algorithms: Collection[str] = ()
    if isinstance(key, RSAPublicKey) and key.key_size >= SHORTEST_RSA:
        algorithms = _RSA
    elif isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        algorithms = (_CURVES[key.curve.name],)
    elif isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        algorithms = _EDWARDS
    if not algorithms:
        raise ValueError("has no algorithm")
    return VerifyingKey(key, frozenset(algorithms), kid)
