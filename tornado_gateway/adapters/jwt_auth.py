"""Verifies tokens with PyJWT (RFC 7519, RFC 8725): signature, times, issuer, audience and required claims.

    token ──► cache of verdicts ──► form ──► key ──► signature and claims ──► Principal

A verdict is kept until the token expires, for VERDICT_AGE seconds at most. Refused tokens are not kept: the next
refusal costs the client as much as the first.
"""

import base64
import binascii
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cachetools import TLRUCache

from tornado_gateway.adapters.signing_keys import ALGORITHMS, VerifyingKey, of_pem, of_secret
from tornado_gateway.errors import Unauthorized
from tornado_gateway.policy.principal import Principal

MAX_TOKEN = 8 * 1024  # bytes; a larger token is refused before decoding
VERDICTS = 10_000  # tokens whose verdict is kept; about 2 KiB each
VERDICT_AGE = 30.0  # seconds

_FORM = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")  # RFC 7515 §7.1, without padding


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

    Attributes:
        keys: the keys in use; may be replaced at any time.

    Raises:
        ValueError: a key cannot be used.
    """

    def __init__(self, config: TokenConfig, wall: Callable[[], float] = time.time) -> None:
        self._config, self._wall = config, wall
        self.keys: tuple[VerifyingKey, ...] = config.keys
        self._verdicts: TLRUCache[bytes, Principal] = TLRUCache(VERDICTS, _verdict_end, timer=wall)
        required = [*config.required_claims, *(["exp"] if config.needs_expiry else [])]
        self._options: jwt.types.Options = {
            "require": required, "verify_aud": bool(config.audiences), "verify_iss": bool(config.issuer),
            "verify_sub": False, "verify_iat": False, "verify_jti": False,
        }  # fmt: skip

    def verify(self, token: bytes) -> Principal:
        """The principal of a token.

        Raises:
            Unauthorized: the token is not valid now. The error does not say which check failed, because the answer
                would help to forge tokens.
        """
        digest = hashlib.sha256(token).digest()  # of a canonical form only, see _check_form()
        principal = self._verdicts.get(digest)
        if principal is None:
            principal = self._verdicts[digest] = self._principal(token)
        return principal

    def forget(self) -> None:
        """Forget all verdicts, because keys or rules have changed."""
        self._verdicts.clear()

    def _principal(self, token: bytes) -> Principal:
        try:
            _check_form(token)
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header["alg"], header.get("kid"))
        except (jwt.PyJWTError, ValueError, KeyError, OverflowError):
            raise Unauthorized("the token is not valid", invalid=True) from None
        return Principal.of(claims)

    def _claims(self, token: bytes, algorithm: object, kid: object) -> dict[str, Any]:
        if algorithm not in self._config.algorithms:
            raise jwt.InvalidAlgorithmError
        for key in _candidates(self.keys, str(algorithm), kid):
            try:
                claims = self._decode(token, key, str(algorithm))
            except jwt.InvalidSignatureError:
                continue
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


def _candidates(keys: Iterable[VerifyingKey], algorithm: str, kid: object) -> list[VerifyingKey]:
    """The keys that may have signed a token: of its algorithm and, if both have an id, of its id."""
    return [each for each in keys if algorithm in each.algorithms and (None in (each.kid, kid) or each.kid == kid)]


def _has(value: object, wanted: str) -> bool:
    """Whether a claim has a value: is it, or lists it."""
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


def _verdict_end(_: bytes, principal: Principal, now: float) -> float:
    return min(principal.expiry, now + VERDICT_AGE) if principal.expiry < math.inf else now + VERDICT_AGE
