"""Verifies tokens with PyJWT (RFC 7519, RFC 8725): signature, times, issuer, audience and required claims.

    token ──► cache of verdicts ──► form ──► key ──► signature and claims ──► Principal

A verdict is kept until the token expires, for VERDICT_AGE seconds at most. Refused tokens are not kept: the next
refusal costs the client as much as the first.
"""

import base64
import binascii
import json
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from tornado_gateway.adapters.signing_keys import ALGORITHMS, VerifyingKey, of_pem, of_public_key, of_secret
from tornado_gateway.errors import NOT_VALID, Unauthorized
from tornado_gateway.policy.principal import Principal

MAX_TOKEN = 8 * 1024  # bytes; a larger token is refused before decoding
MAX_KEYS = 100  # of a key set; Microsoft's has some ten
VERDICTS = 10_000  # tokens whose verdict is kept; about 2 KiB each, beside the token
VERDICT_AGE = 30.0  # seconds

_FORM = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")  # RFC 7515 §7.1, without padding


class UnknownKey(Exception):
    """No key fits the algorithm and the key id of a token."""


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """Which tokens are valid.

    Attributes:
        secret: key of HMAC signatures, 32 bytes or more; "" for none.
        secrets: more such keys, the newest first.
        public_keys: PEM text of public keys; b"" for none.
        algorithms: the algorithms that may be used at all.
        issuer: the value that `iss` must have; "" for any.
        audiences: `aud` must name one of these; () for any `aud`.
        leeway: seconds by which clocks may differ; ≥ 0.
        needs_expiry: whether a token without `exp` is refused.
        required_claims: claims that a token must have, each with the text that the claim must have, or "" for any.
    """

    secret: str = field(default="", repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    public_keys: bytes = field(default=b"", repr=False)
    algorithms: tuple[str, ...] = ALGORITHMS
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    leeway: float = 0.0
    needs_expiry: bool = False
    required_claims: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[VerifyingKey, ...]:
        """All configured keys.

        Raises:
            ValueError: a key cannot be used.
        """
        secrets = (self.secret, *self.secrets) if self.secret else self.secrets
        return (*map(of_secret, secrets), *(of_pem(self.public_keys) if self.public_keys else ()))


class TokenVerifier:
    """Verifies tokens, and makes a Principal of the claims.

    Args:
        config: which tokens are valid.
        wall: seconds since 1970.

    Raises:
        ValueError: a key cannot be used.
    """

    def __init__(self, config: TokenConfig, wall: Callable[[], float] = time.time) -> None:
        self._config, self._wall = config, wall
        self._keys = self._own = config.keys
        # By token, the oldest first, with the end. cachetools' TLRUCache takes 2 µs for a hit; a hit may cost 5 µs.
        self._verdicts: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        required = [*config.required_claims, *(["exp"] if config.needs_expiry else [])]
        self._options: jwt.types.Options = {
            "require": required, "verify_aud": bool(config.audiences), "verify_iss": bool(config.issuer),
            "verify_sub": False, "verify_iat": False, "verify_jti": False,
        }  # fmt: skip

    def verify(self, token: bytes) -> Principal:
        """The principal of a token.

        Raises:
            UnknownKey: the token may be valid, and its key is unknown.
            Unauthorized: the token is not valid now. The error does not say which check failed, because the answer
                would help to forge tokens.
        """
        return self.recall(token) or self._keep(token, self._principal(token))

    def recall(self, token: bytes) -> Principal | None:
        """The principal of a token whose verdict is kept; None for any other token."""
        verdict = self._verdicts.get(token)
        return verdict[0] if verdict and self._wall() < verdict[1] else None

    def _keep(self, token: bytes, principal: Principal) -> Principal:
        self._verdicts.pop(token, None)
        if len(self._verdicts) >= VERDICTS:
            self._verdicts.popitem(last=False)
        self._verdicts[token] = principal, min(principal.expiry, self._wall() + VERDICT_AGE)
        return principal

    @property
    def has_keys(self) -> bool:
        """Whether any token can be valid."""
        return bool(self._keys)

    def use(self, keys: tuple[VerifyingKey, ...]) -> None:
        """Use other keys beside the configured keys. All verdicts are forgotten."""
        self._keys = (*self._own, *keys)
        self._verdicts.clear()

    def _principal(self, token: bytes) -> Principal:
        try:
            _check_form(token)
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header["alg"], header.get("kid"))
        except (jwt.PyJWTError, ValueError, KeyError, OverflowError):
            raise Unauthorized(NOT_VALID, invalid=True) from None
        return Principal.of(claims)

    def _claims(self, token: bytes, algorithm: object, kid: object) -> dict[str, Any]:
        if algorithm not in self._config.algorithms:
            raise jwt.InvalidAlgorithmError
        candidates = _candidates(self._keys, str(algorithm), kid)
        if not candidates:
            raise UnknownKey
        for key in candidates:
            try:
                claims = self._decode(token, key, str(algorithm))
            except jwt.InvalidSignatureError:
                continue
            _check_issuer(claims)
            _check_times(claims)
            self._check_required(claims)
            return claims
        raise jwt.InvalidSignatureError

    def _decode(self, token: bytes, key: VerifyingKey, algorithm: str) -> dict[str, Any]:
        config = self._config
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            options=self._options,
            audience=config.audiences or None,
            issuer=config.issuer or None,
            leeway=config.leeway,
        )

    def _check_required(self, claims: Mapping[str, Any]) -> None:
        for name, wanted in self._config.required_claims.items():
            if wanted and not _has(claims[name], wanted):
                raise jwt.InvalidTokenError


def read_key_set(document: bytes) -> tuple[VerifyingKey, ...]:
    """The keys of a JSON Web Key Set that verify signatures; keys of other kinds are left out (RFC 7517 §5).

    Raises:
        ValueError: the document is no key set, has more than MAX_KEYS keys, or has no usable key.
    """
    try:
        said = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError("the document is no JSON") from None
    given = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(given, list):
        raise ValueError("the document has no keys")
    if len(given) > MAX_KEYS:
        raise ValueError(f"the document has more than {MAX_KEYS} keys")
    keys = tuple(key for each in given if (key := of_jwk(each)))
    if not keys:
        raise ValueError("the document has no usable key")
    return keys


def of_jwk(member: object) -> VerifyingKey | None:
    """The verifying key of a member of a key set (RFC 7517 §4); None for a key that signs no tokens.

    A symmetric key is never taken: whoever can read the key set could sign tokens.
    """
    if not isinstance(member, dict) or member.get("use", "sig") != "sig" or member.get("kty") == "oct":
        return None
    kid, algorithm = member.get("kid"), member.get("alg")
    try:
        key = of_public_key(jwt.PyJWK.from_dict(member).key, kid if isinstance(kid, str) else None)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm is None:
        return key
    algorithms = key.algorithms & {algorithm} if isinstance(algorithm, str) else frozenset()
    return VerifyingKey(key.key, algorithms, key.kid) if algorithms else None


def _candidates(keys: Iterable[VerifyingKey], algorithm: str, kid: object) -> list[VerifyingKey]:
    """The keys that allow the algorithm, and that have the key id of the token where both have an id."""
    return [each for each in keys if algorithm in each.algorithms and (None in (each.kid, kid) or each.kid == kid)]


def _check_issuer(claims: Mapping[str, Any]) -> None:
    """Refuse an issuer with a "|": the name "iss|sub" would name two principals. A URL has no "|" (RFC 3986 §2)."""
    if "|" in str(claims.get("iss", "")):
        raise jwt.InvalidIssuerError


def _check_times(claims: Mapping[str, Any]) -> None:
    """Refuse a time that is no number (RFC 7519 §2, NumericDate); PyJWT would read a string."""
    for name in ("exp", "nbf"):
        if type(claims.get(name, 0)) not in (int, float):
            raise jwt.InvalidTokenError


def _has(value: object, wanted: str) -> bool:
    """Whether a claim equals the wanted text, or is a list with the wanted text."""
    if isinstance(value, list):
        return wanted in value
    return value == wanted if isinstance(value, str) else str(value).lower() == wanted.lower()


def _check_form(token: bytes) -> None:
    """Refuse every spelling of a token but one (RFC 4648 §3.5): a revocation would miss another spelling.

    Raises:
        ValueError: the token is too long, or is not three parts in canonical base64url.
    """
    parts = _FORM.fullmatch(token)
    if parts is None or len(token) > MAX_TOKEN:
        raise ValueError("not a token")
    for part in parts.groups():
        padded = part + b"=" * (-len(part) % 4)
        try:
            is_canonical = base64.urlsafe_b64encode(base64.urlsafe_b64decode(padded)).rstrip(b"=") == part
        except binascii.Error:
            is_canonical = False
        if not is_canonical:
            raise ValueError("not a token")
