"""Bearer tokens signed with a shared secret, checked by PyJWT (RFC 7519, RFC 6750).

The signature, `exp` and `nbf` are checked. Audience, subject and scopes go into the Principal unchecked.
"""

from dataclasses import dataclass, field

import jwt

from tornado_gateway.errors import BadRequest, Unauthorized
from tornado_gateway.policy.principal import Principal

MAX_TOKEN = 8 * 1024  # bytes; a larger token is refused before decoding

# An HMAC key must be as long as its hash (RFC 7518 §3.2): a short secret allows fewer algorithms.
_KEY_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}

_OPTIONS: jwt.types.Options = {"verify_aud": False, "verify_sub": False, "verify_iat": False, "verify_jti": False}


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Whether and how tokens are checked.

    Attributes:
        is_required: whether requests need a bearer token.
        secret: key of the tokens' HMAC signatures; at least 32 bytes in UTF-8 if tokens are required.
    """

    is_required: bool = False
    secret: str = field(default="", repr=False)


class JwtAuthenticator:
    """Checks bearer tokens, and makes a Principal of the claims.

    Args:
        secret: key of the tokens' HMAC signatures; at least 32 bytes in UTF-8.

    Raises:
        ValueError: the secret is too short.
    """

    def __init__(self, secret: str) -> None:
        self._key = secret.encode("utf-8")
        self._algorithms = [name for name, size in _KEY_BYTES.items() if len(self._key) >= size]
        if not self._algorithms:
            raise ValueError("the secret is shorter than 32 bytes")

    def check(self, authorization: list[bytes]) -> Principal:
        """Check the token in a request's Authorization field.

        Args:
            authorization: the values of all Authorization fields.

        Raises:
            BadRequest: the field is repeated, so the service might read another token than the gateway.
            Unauthorized: no token, or a token that is invalid or expired.
        """
        if len(authorization) > 1:  # RFC 9110 §5.3 and §11.6.2: not a list
            raise BadRequest("the request has more than one Authorization field")
        if not authorization:
            raise Unauthorized("one Authorization field with a bearer token is needed")
        scheme, _, token = authorization[0].partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthorized("one Authorization field with a bearer token is needed")
        if len(token) > MAX_TOKEN:
            raise Unauthorized("the token is too long", invalid=True)
        try:
            return Principal.of(jwt.decode(token, self._key, algorithms=self._algorithms, options=_OPTIONS))
        except jwt.PyJWTError:
            # The reply does not say which check failed, because the answer would help to forge tokens.
            raise Unauthorized("the token is not valid", invalid=True) from None
