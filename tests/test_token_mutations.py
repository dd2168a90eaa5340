"""10,000 mutations of valid tokens, of seven kinds: none is accepted."""

import base64
import json
import random
import secrets
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tornado_gateway.adapters.jwt_auth import TokenConfig, TokenVerifier, UnknownKey
from tornado_gateway.errors import Unauthorized

COUNT = 10_000
SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"sub": "ada", "iss": "issuer", "aud": "gateway", "exp": 4_000_000_000, "scope": "read"}

P256, RSA, ED25519 = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048), (
    ed25519.Ed25519PrivateKey.generate()
)  # fmt: skip
KEYS: dict[str, Any] = {"HS256": SECRET, "ES256": P256, "RS256": RSA, "EdDSA": ED25519}
VALID = {name: jwt.encode(CLAIMS, key, name).encode() for name, key in KEYS.items()}
FOREIGN: dict[str, Any] = {
    "HS256": secrets.token_hex(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
RESIGNED = [
    jwt.encode(CLAIMS, FOREIGN[name], name, headers=header).encode()
    for name in FOREIGN
    for header in (None, {"kid": "1"}, {"typ": "at+jwt"})
]

Mutation = Callable[[random.Random, bytes], bytes]


def encoded(said: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=")


def decoded(part: bytes) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


def public_bytes(key: Any) -> list[bytes]:
    """The bytes of a public key that a verifier may have taken for a secret."""
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = next(
        kind.to_jwk(public)
        for kind in (jwt.algorithms.RSAAlgorithm, jwt.algorithms.ECAlgorithm, jwt.algorithms.OKPAlgorithm)
        if _fits(kind, public)
    )
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [pem, pem.strip(), pem + b"\n", der, jwk.encode()]


def _fits(kind: Any, public: Any) -> bool:
    try:
        kind.to_jwk(public)
    except (jwt.exceptions.InvalidKeyError, AttributeError, TypeError):
        return False
    return True


PUBLIC = [each for key in (P256, RSA, ED25519) for each in public_bytes(key)]


def other_claims(rng: random.Random, token: bytes) -> bytes:
    header, claims, signature = token.split(b".")
    name = rng.choice([*CLAIMS, "admin", "nbf", "jti"])
    value = rng.choice(["root", "", 0, -1, 9_999_999_999, None, True, ["gateway"], {"a": 1}, rng.random()])
    return b".".join((header, encoded({**decoded(claims), name: value}), signature))


def other_header(rng: random.Random, token: bytes) -> bytes:
    header, claims, signature = token.split(b".")
    change = rng.choice(
        [
            {"alg": rng.choice(["none", "None", "nOnE", "NONE", "", None, "HS1", 7, [], "HS256 ", "hs256"])},
            {"alg": rng.choice(["HS384", "HS512", "RS512", "PS256", "ES384", "ES512", "ES256K"])},
            {"crit": ["b64"], "b64": False},
            {"crit": rng.choice([[], ["exp"], "exp", ["x"]]), "x": rng.random()},
            {"kid": rng.choice(["", "../../dev/null", "' OR 1=1", 7, None, "x" * 200]), "n": rng.random()},
            {"jku": "https://evil.example/keys", "n": rng.random()},
            {"jwk": jwt.algorithms.ECAlgorithm.to_jwk(FOREIGN["ES256"].public_key(), as_dict=True)},
            {"zip": "DEF"},
            {"typ": rng.random()},
        ]
    )
    kept = rng.choice([signature, b"", signature[:-1], b"AA"])
    return b".".join((encoded({**decoded(header), **change}), claims, kept))


def other_key_type(rng: random.Random, token: bytes) -> bytes:
    """An HMAC with a public key as the secret."""
    name, sha = rng.choice(
        [
            ("HS256", jwt.algorithms.HMACAlgorithm.SHA256),
            ("HS384", jwt.algorithms.HMACAlgorithm.SHA384),
            ("HS512", jwt.algorithms.HMACAlgorithm.SHA512),
        ]
    )
    signed = b".".join((encoded({"alg": name, "n": rng.randrange(9)}), token.split(b".")[1]))
    signature = jwt.algorithms.HMACAlgorithm(sha).sign(signed, rng.choice(PUBLIC))
    return signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


def resigned(rng: random.Random, token: bytes) -> bytes:
    """A token of another key, or with the signature of another token."""
    header, claims, signature = rng.choice(RESIGNED).split(b".")
    own = token.split(b".")
    return b".".join(rng.choice([(header, claims, signature), (*own[:2], signature), (header, claims, own[2])]))


def padded(rng: random.Random, token: bytes) -> bytes:
    parts = token.split(b".")
    at = rng.randrange(3)
    parts[at] += rng.choice([b"=", b"==", b"===", b"A", b"A=", b".", b".."])
    return b".".join(parts)


def other_case(rng: random.Random, token: bytes) -> bytes:
    at = rng.choice([place for place in range(len(token)) if token[place : place + 1].isalpha()])
    return rng.choice([token[:at] + token[at : at + 1].swapcase() + token[at + 1 :], token.upper(), token.lower()])


def other_encoding(rng: random.Random, token: bytes) -> bytes:
    at = rng.randrange(len(token))
    parts = token.split(b".")
    whole = [
        token.decode().encode("utf-16"), token.hex().encode(), base64.b64encode(token), b'"' + token + b'"',
        b"\xef\xbb\xbf" + token, token.replace(b".", b"%2E"), token[::-1],
        json.dumps(dict(zip(("protected", "payload", "signature"), map(bytes.decode, parts), strict=True))).encode(),
    ]  # fmt: skip
    inserted = (
        token[:at] + rng.choice([b" ", b"\n", b"\r\n", b"\t", b"\0", b"%00", b"+", b"/", b"\xc2\xa0"]) + token[at:]
    )
    escaped = token[:at] + b"%%%02X" % token[at] + token[at + 1 :]
    swapped = token.replace(b"-", b"+").replace(b"_", b"/")
    return rng.choice([*whole, *[inserted] * 4, *[escaped] * 4, swapped if swapped != token else token + b"+"])


def other_bytes(rng: random.Random, token: bytes) -> bytes:
    """Bytes that are replaced, inserted or left out."""
    given = bytearray(token)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(given))
        piece = bytes([rng.choice(b"ABCabc019-_.=")])
        given[at : at + rng.randrange(2)] = rng.choice([piece, b"", piece * 2])
    return bytes(given)


MUTATIONS: list[Mutation] = [
    other_claims, other_header, other_key_type, resigned, padded, other_case, other_encoding, other_bytes,
]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_no_mutation_of_a_token_is_accepted(mutate: Mutation) -> None:
    public = b"".join(
        each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for each in (P256, RSA, ED25519)
    )
    config = TokenConfig(secrets=(SECRET,), public_keys=public, issuer="issuer", audiences=("gateway",))
    verifier, rng = TokenVerifier(config), random.Random(mutate.__name__)
    assert [verifier.verify(each).subject for each in VALID.values()] == ["ada"] * len(VALID)
    tried = 0
    while tried < COUNT // len(MUTATIONS):
        mutant = mutate(rng, rng.choice(list(VALID.values())))
        if mutant in VALID.values():
            continue
        with pytest.raises((Unauthorized, UnknownKey)):
            verifier.verify(mutant)
        tried += 1
