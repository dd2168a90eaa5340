"""The authenticator: finds the token of a request, and verifies the token."""

from collections.abc import Awaitable
from dataclasses import dataclass, field

from tornado_gateway.adapters.jwt_auth import TokenConfig, TokenVerifier
from tornado_gateway.policy.http.claims import ClaimFields
from tornado_gateway.policy.http.credentials import AUTHORIZATION, Source, TokenSources
from tornado_gateway.policy.principal import Principal


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Whether, where and how tokens are read.

    Attributes:
        is_required: whether requests need a token, unless their service or route says otherwise.
        tokens: which tokens are valid.
        sources: where a token may stand.
        hides_credentials: whether endpoints get no token from a header or cookie.
        claim_fields: pairs of a claim and the name of the field that tells endpoints the claim.
    """

    is_required: bool = False
    tokens: TokenConfig = field(default_factory=TokenConfig)
    sources: tuple[Source, ...] = (AUTHORIZATION,)
    hides_credentials: bool = False
    claim_fields: tuple[tuple[str, str], ...] = ()


class TokenAuthenticator:
    """An Authenticator of tokens; see there.

    Raises:
        ValueError: a key cannot be used.
    """

    def __init__(self, config: AuthConfig) -> None:
        self.is_default = config.is_required
        self.sources = TokenSources(config.sources, hides=config.hides_credentials)
        self.claim_fields = ClaimFields(config.claim_fields) if config.claim_fields else None
        self._verifier = TokenVerifier(config.tokens)

    def check(self, token: bytes) -> Principal | Awaitable[Principal]:
        return self._verifier.verify(token)
