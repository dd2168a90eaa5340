"""The authenticator: finds the token of a request, and verifies the token."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol

from tornado_gateway.adapters.jwt_auth import TokenConfig, TokenVerifier, UnknownKey, read_key_set
from tornado_gateway.errors import KeysUnavailable, Unauthorized
from tornado_gateway.policy.access import default_rule
from tornado_gateway.policy.http.claims import ClaimFields
from tornado_gateway.policy.http.credentials import AUTHORIZATION, Presented, Source, TokenSources, Where
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

    @property
    def has_tickets(self) -> bool:
        """Whether one-time tickets are made and accepted."""
        return any(each.where is Where.TICKET for each in self.sources)


class KeySource(Protocol):
    """Fetches keys; see KeySet."""

    def look_again(self) -> Awaitable[object] | None:
        """Fetch because of an unknown key id; None if the last such fetch was a moment ago."""


class TokenAuthenticator:
    """An Authenticator of tokens; see there.

    Attributes:
        key_source: fetches keys; None if all keys are configured.

    Raises:
        ValueError: a key cannot be used.
    """

    def __init__(self, config: AuthConfig) -> None:
        self.default = default_rule(is_required=config.is_required)
        self.sources = TokenSources(config.sources, hides=config.hides_credentials)
        self.claim_fields = ClaimFields(config.claim_fields) if config.claim_fields else None
        self.key_source: KeySource | None = None
        self._verifier = TokenVerifier(config.tokens)

    def use_key_set(self, document: bytes) -> None:
        """Use the keys of a key set beside the configured keys.

        Raises:
            ValueError: the document is no key set, or has no usable key. The old keys stay.
        """
        self._verifier.use(read_key_set(document))

    def check(self, presented: Presented) -> Principal | Awaitable[Principal]:
        token = presented.value
        try:
            return self._verifier.verify(token)
        except UnknownKey:
            fetch = self.key_source.look_again() if self.key_source else None
            return self._check_after(fetch, token) if fetch else self._refuse()

    async def _check_after(self, fetch: Awaitable[object], token: bytes) -> Principal:
        await fetch
        try:
            return self._verifier.verify(token)
        except UnknownKey:
            return self._refuse()

    def _refuse(self) -> Principal:
        if self.key_source and not self._verifier.has_keys:
            raise KeysUnavailable
        raise Unauthorized("the token is not valid", invalid=True)
