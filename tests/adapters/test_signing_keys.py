"""Keys: which algorithms each kind allows, and what is no key."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tornado_gateway.adapters.signing_keys import ALGORITHMS, of_pem, of_public_key, of_secret


def pem_of(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("size", "algorithms"),
    [(32, {"HS256"}), (48, {"HS256", "HS384"}), (64, {"HS256", "HS384", "HS512"})],
)
def test_a_secret_is_as_long_as_the_hash(size: int, algorithms: set[str]) -> None:
    assert of_secret("k" * size).algorithms == algorithms
    with pytest.raises(ValueError, match="is shorter than 32 bytes"):
        of_secret("é" * 15)


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (rsa.generate_private_key(65537, 2048), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (ec.generate_private_key(ec.SECP256R1()), {"ES256"}),
        (ec.generate_private_key(ec.SECP384R1()), {"ES384"}),
        (ec.generate_private_key(ec.SECP521R1()), {"ES512"}),
        (ed25519.Ed25519PrivateKey.generate(), {"EdDSA"}),
        (ed448.Ed448PrivateKey.generate(), {"EdDSA"}),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"],
)
def test_the_kind_of_a_public_key_decides(key: Any, algorithms: set[str]) -> None:
    (found,) = of_pem(pem_of(key))
    assert found.algorithms == algorithms <= set(ALGORITHMS)
    assert (found.kid, of_public_key(key.public_key(), "a").kid) == (None, "a")


@pytest.mark.parametrize(
    "generate",
    [
        lambda: rsa.generate_private_key(65537, 1024),
        lambda: dsa.generate_private_key(2048),
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["RSA 1024", "DSA", "secp256k1"],
)
def test_a_weak_or_unknown_key_is_refused(generate: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="holds a public key that cannot be read or used"):
        of_pem(pem_of(generate()))


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        (b"", "holds no PEM block"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read or used"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "another thing than public keys"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "another thing than public keys"),
    ],
)
def test_what_is_no_public_key_is_told(pem: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        of_pem(pem)
