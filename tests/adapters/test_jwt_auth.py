"""Tokens: only those signed with a key of ours, by an algorithm that the key allows, and valid now."""

import base64
import json
import math
import random
import string
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tornado_gateway.adapters import jwt_auth
from tornado_gateway.adapters.jwt_auth import (
    MAX_KEYS,
    MAX_TOKEN,
    VERDICT_AGE,
    TokenConfig,
    TokenVerifier,
    UnknownKey,
    read_key_set,
)
from tornado_gateway.adapters.signing_keys import of_secret
from tornado_gateway.errors import Unauthorized

SECRET = "s" * 32
LONG_SECRET = "s" * 64
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem_of(*keys: Any) -> bytes:
    return b"".join(each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for each in keys)


def token(claims: dict[str, Any] | None = None, secret: Any = SECRET, algorithm: str = "HS256", **header: Any) -> bytes:
    return jwt.encode(claims or {}, secret, algorithm=algorithm, headers=header or None).encode()


def unsigned(header: dict[str, Any], claims: bytes = b"{}") -> bytes:
    parts = (json.dumps(header).encode(), claims, b"")
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def verifier(*secrets: str, **config: Any) -> TokenVerifier:
    return TokenVerifier(TokenConfig(secrets=secrets or (SECRET,), **config))


def refuses(of: TokenVerifier, given: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        of.verify(given)
    assert refused.value.status == 401
    assert dict(refused.value.fields) == {b"WWW-Authenticate": b'Bearer realm="gateway", error="invalid_token"'}
    assert refused.value.message == "the credential is not valid"


@pytest.mark.parametrize("seconds", [1.5, 3600])
def test_the_expiry_of_a_token_is_told(seconds: float) -> None:
    exp = time.time() + seconds
    assert verifier().verify(token({"exp": exp})).expiry == exp  # with its part of a second


@pytest.mark.parametrize("claims", [{}, {"sub": "a", "nbf": 0}, {"exp": 10**400}])
def test_a_token_without_an_end_is_valid_for_ever(claims: dict[str, Any]) -> None:
    assert verifier().verify(token(claims)).expiry == math.inf


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("value", ["4000000000", "0", True, None, [4_000_000_000], {}])
def test_a_time_is_a_number(name: str, value: Any) -> None:
    refuses(verifier(), token({name: value}))


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_is_finite(name: str, value: float) -> None:
    """JSON has no such numbers, and Python's reader takes them."""
    refuses(verifier(), token({name: value}))


@pytest.mark.parametrize("length", [21_830, 4_000, 86 + 4], ids=["beyond the bound", "long", "a little long"])
def test_a_signature_of_any_length_is_only_wrong(length: int) -> None:  # HAProxy once crashed at 21,830 characters
    signed = token({"sub": "ada"}, P256, "ES256").rpartition(b".")[0]
    refuses(TokenVerifier(TokenConfig(public_keys=pem_of(P256))), signed + b"." + b"A" * length)


def test_the_node_gateways_tokens_are_valid() -> None:
    assert verifier().verify(token({"aud": "other", "sub": 7, "iat": time.time() + 600})).subject == ""


def test_a_token_tells_its_principal() -> None:
    claims = {"sub": "ada", "iss": "https://id", "scope": "read write", "tenant": 7}
    principal = verifier().verify(token(claims))
    assert (principal.subject, principal.name) == ("ada", "https://id|ada")
    assert (principal.scopes, principal.claims) == ({"read", "write"}, claims)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_long_secret_allows_every_hmac(algorithm: str) -> None:
    assert verifier(LONG_SECRET).verify(token(secret=LONG_SECRET, algorithm=algorithm)).expiry == math.inf


def test_every_secret_of_a_rotation_is_valid() -> None:
    of = verifier("n" * 32, SECRET)
    assert of.verify(token({"sub": "old"})).subject == "old"
    assert of.verify(token({"sub": "new"}, "n" * 32)).subject == "new"
    refuses(of, token(secret="x" * 32))


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "PS512"), (P256, "ES256"), (ED25519, "EdDSA")],
    ids=["RS256", "PS512", "ES256", "EdDSA"],
)
def test_public_keys_verify_by_the_algorithms_of_their_kind(key: Any, algorithm: str) -> None:
    of = TokenVerifier(TokenConfig(public_keys=pem_of(RSA, P256, ED25519)))
    assert of.verify(token({"sub": "ada"}, key, algorithm)).subject == "ada"
    refuses(TokenVerifier(TokenConfig(public_keys=pem_of(RSA), algorithms=("RS384",))), token({}, RSA, "RS256"))


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: an HMAC with the bytes of the public key as the secret."""
    pem = pem_of(RSA)
    signing_input = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, {"sub": "a"})
    )
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signing_input, pem)
    forged = signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")
    refuses(TokenVerifier(TokenConfig(secrets=(SECRET,), public_keys=pem)), forged)
    with pytest.raises(UnknownKey):
        TokenVerifier(TokenConfig(public_keys=pem)).verify(forged)


@pytest.mark.parametrize(
    ("config", "good", "bad"),
    [
        ({"issuer": "https://id"}, {"iss": "https://id"}, {}),
        ({"issuer": "https://id"}, {"iss": "https://id"}, {"iss": "https://id.evil"}),
        ({"audiences": ("a", "b")}, {"aud": "b"}, {"aud": "c"}),
        ({"audiences": ("a", "b")}, {"aud": ["x", "a"]}, {}),
        ({"needs_expiry": True}, {"exp": 4_000_000_000}, {}),
        ({"required_claims": {"tenant": ""}}, {"tenant": 0}, {"tenants": 1}),
        ({"required_claims": {"role": "admin"}}, {"role": "admin"}, {"role": "administrator"}),
        ({"required_claims": {"role": "admin"}}, {"role": ["x", "admin"]}, {"role": ["Admin"]}),
        ({"required_claims": {"mfa": "true"}}, {"mfa": True}, {"mfa": False}),
        ({"required_claims": {"level": "3"}}, {"level": 3}, {"level": 30}),
        ({"leeway": 3600.0}, {"exp": time.time() - 5}, {"exp": time.time() - 90_000}),
        ({"leeway": 3600.0}, {"nbf": time.time() + 60}, {"nbf": time.time() + 90_000}),
    ],
)
def test_claims_must_be_as_configured(config: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]) -> None:
    of = verifier(**config)
    assert of.verify(token(good)).claims == good
    refuses(of, token(bad))


@pytest.mark.parametrize("issuer", ["id|a", "|", "id|"])
def test_a_principal_has_one_name(issuer: str) -> None:
    refuses(verifier(), token({"iss": issuer, "sub": "b"}))
    assert verifier().verify(token({"iss": "id", "sub": "a|b"})).name == "id|a|b"


def test_a_verdict_is_kept_until_the_token_expires_at_most() -> None:
    wall = 4_000_000_000.0
    of = TokenVerifier(TokenConfig(secrets=(SECRET,), leeway=1e9), wall=lambda: wall)
    short, long = token({"exp": int(wall) + 5}), token({"sub": "a"})
    kept = {each: of.verify(each) for each in (short, long)}
    assert all(of.verify(each) is principal for each, principal in kept.items())
    wall += 6
    assert (of.verify(short) is kept[short], of.verify(long) is kept[long]) == (False, True)
    wall += VERDICT_AGE
    assert of.verify(long) is not kept[long]


def test_a_verdict_ends_with_its_key() -> None:
    of = TokenVerifier(TokenConfig())
    assert not of.has_keys
    of.use((of_secret(SECRET),))
    assert of.verify(token()).expiry == math.inf
    of.use((of_secret("n" * 32),))
    refuses(of, token())


def spellings(of: bytes) -> list[bytes]:
    """The token in other bytes that lenient readers of base64url decode alike."""
    alphabet = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_").encode()
    found = [of + b"=", of.replace(b".", b"=."), b" " + of, of + b"\n"]
    for at in (place - 1 for place in (*[i for i, byte in enumerate(of) if byte == ord(".")], len(of))):
        for low in range(1, 16):  # the unused bits of a last character
            found.append(of[:at] + alphabet[(alphabet.index(of[at]) & ~15 | low) :][:1] + of[at + 1 :])
    return [each for each in found if each != of]


def test_a_token_has_one_spelling() -> None:
    for number in range(12):
        given = token({"sub": "a" * number})
        of = verifier()
        assert of.verify(given).subject == "a" * number
        for each in spellings(given):
            refuses(of, each)


def test_no_mutation_of_a_token_is_valid() -> None:
    rng = random.Random(20261201)
    config = TokenConfig(secrets=(SECRET,), public_keys=pem_of(P256), issuer="i", audiences=("a",))
    of, claims = TokenVerifier(config), {"sub": "ada", "iss": "i", "aud": "a", "exp": 4_000_000_000}
    valid = [token(claims), token(claims, P256, "ES256")]
    assert [of.verify(each).subject for each in valid] == ["ada", "ada"]
    for _ in range(2000):
        given = bytearray(rng.choice(valid))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(given))
            kind = rng.randrange(4)
            if kind == 0:
                given[at] = rng.choice(b"ABCabc019-_.=")
            elif kind == 1:
                given[at:at] = bytes([rng.choice(b"ABCabc019-_.=")])
            elif kind == 2:
                del given[at]
            else:
                given[at] = given[at] ^ 0x20  # another case
        if bytes(given) not in valid:
            refuses(of, bytes(given))


def test_a_private_key_in_the_wrong_place_is_told() -> None:
    private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="holds another thing than public keys"):
        TokenVerifier(TokenConfig(public_keys=private))


@pytest.mark.parametrize(
    "bad",
    [
        token({"exp": time.time() - 60}),
        token({"nbf": time.time() + 3600}),
        token({"exp": "soon"}),
        token(secret="t" * 32),
        token()[:-2],
        unsigned({"alg": "none"}),
        unsigned({"alg": "HS256"}),
        unsigned({"alg": "RS256"}),
        token(crit=["x"], x=1),
        b"a.b.c",
        b"\xff\xfe.\xff.\xff",
        b"a" * (MAX_TOKEN + 1),
        unsigned({"alg": "HS256"}, b'{"exp":1e400}'),
    ],
)
def test_an_invalid_token_is_refused_and_the_reason_is_not_told(bad: bytes) -> None:
    refuses(verifier(), bad)


def test_a_short_secret_is_no_secret() -> None:
    with pytest.raises(ValueError, match="shorter than 32 bytes"):
        verifier("s" * 31)


# ---------------------------------------------------------------- key sets


def member(key: Any, kid: str | None = None, **more: object) -> dict[str, object]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), **({"kid": kid} if kid else {}), **more}


def document(*members: object) -> bytes:
    return json.dumps({"keys": members}).encode()


def test_keys_that_sign_are_read_with_id_and_algorithm() -> None:
    keys = read_key_set(document(member(P256, "one"), member(RSA, alg="PS256", use="sig")))
    assert [(each.kid, sorted(each.algorithms)) for each in keys] == [("one", ["ES256"]), (None, ["PS256"])]


@pytest.mark.parametrize(
    "given",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw"}, member(P256, use="enc"), {"kty": "x"}, 7,
        {}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, member(P256, alg="HS256"), member(P256, alg="RS256"),
        member(P256, alg=7),
    ],
)  # fmt: skip
def test_other_keys_are_left_out(given: object) -> None:
    assert [each.kid for each in read_key_set(document(given, member(P256, "one")))] == ["one"]


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"[" * 100_000,
        document(*[member(P256)] * (MAX_KEYS + 1)),
        document(),
    ],
    ids=["empty", "HTML", "list", "no keys", "keys are no list", "deep", "many", "none"],
)
def test_what_is_no_key_set_is_refused(given: bytes) -> None:
    with pytest.raises(ValueError):
        read_key_set(given)


def test_only_valid_tokens_are_recalled_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_auth, "VERDICTS", 2)
    of, tokens = verifier(), [token({"sub": name}) for name in "abc"]
    refuses(of, tokens[0] + b"A")
    assert of.recall(tokens[0] + b"A") is None
    kept = [of.verify(each) for each in tokens]
    assert [of.recall(each) for each in tokens] == [None, *kept[1:]]
