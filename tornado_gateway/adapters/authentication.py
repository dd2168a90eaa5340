"""The authenticator: finds the credential of a request, and checks the credential by its kind."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol

from tornado_gateway.adapters.basic_auth import BasicVerifier
from tornado_gateway.adapters.jwt_auth import TokenConfig, TokenVerifier, UnknownKey, read_key_set
from tornado_gateway.errors import NOT_VALID, KeysUnavailable, Unauthorized
from tornado_gateway.policy.access import JWT, Kind, default_rule
from tornado_gateway.policy.api_keys import ApiKeys
from tornado_gateway.policy.attempts import Attempts, Tell
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.http.claims import ClaimFields
from tornado_gateway.policy.http.credentials import AUTHORIZATION, Presented, Source, TokenSources, Where
from tornado_gateway.policy.principal import Principal


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Whether, where and how credentials are read.

    Attributes:
        is_required: whether requests need a credential, unless their service or route says otherwise.
        tokens: which tokens are valid.
        sources: where a token may stand.
        hides_credentials: whether endpoints get no credential from a header or cookie.
        claim_fields: pairs of a claim and the name of the field that tells endpoints the claim.
        keys: the API keys; all hashes differ.
        users: the users with a password; all names differ.
    """

    is_required: bool = False
    tokens: TokenConfig = field(default_factory=TokenConfig)
    sources: tuple[Source, ...] = (AUTHORIZATION,)
    hides_credentials: bool = False
    claim_fields: tuple[tuple[str, str], ...] = ()
    keys: tuple[NamedHash, ...] = ()
    users: tuple[NamedHash, ...] = ()

    @property
    def has_tickets(self) -> bool:
        """Whether one-time tickets are made and accepted."""
        return any(each.where is Where.TICKET for each in self.sources)


class KeySource(Protocol):
    """Fetches keys; see KeySet."""

    def look_again(self) -> Awaitable[object] | None:
        """Fetch because of an unknown key id; None if the last such fetch was a moment ago."""


class TokenAuthenticator:
    """An Authenticator of tokens, API keys and passwords; see there.

    Args:
        kinds: the kinds of credentials that can be checked.
        before: whose place the authenticator takes. Counts and threads pass on, cached verdicts end.
        tell_attempt: see Attempts.

    Attributes:
        attempts: of addresses to find a password.
        key_source: fetches keys; None if all keys are configured.

    Raises:
        ValueError: a key cannot be used.
        ImportError: there are users, and argon2-cffi is not installed.
    """

    def __init__(
        self,
        config: AuthConfig,
        kinds: frozenset[Kind] = frozenset({Kind.JWT}),
        before: "TokenAuthenticator | None" = None,
        tell_attempt: Tell | None = None,
    ) -> None:
        self.default = default_rule(is_required=config.is_required)
        of_requests = kinds - {Kind.MTLS}  # a certificate is the connection's
        self.sources = TokenSources(config.sources, hides=config.hides_credentials, kinds=of_requests)
        self.claim_fields = ClaimFields(config.claim_fields) if config.claim_fields else None
        self.edits_requests = self.sources.edits_requests or self.claim_fields is not None
        self.key_source: KeySource | None = None
        self.accepted: int = before.accepted if before else 0
        self._verifier = TokenVerifier(config.tokens)
        self.recall = self._verifier.recall
        self._api_keys = ApiKeys(config.keys)
        users: BasicVerifier | None = before._users if before else None
        self.attempts: Attempts = before.attempts if before else Attempts(tell=tell_attempt)
        self._users: BasicVerifier | None = None
        if config.users:
            self._users = BasicVerifier(config.users, before=users, attempts=self.attempts)

    def use_key_set(self, document: bytes) -> None:
        """Use the keys of a key set beside the configured keys.

        Raises:
            ValueError: the document is no key set, or has no usable key. The old keys stay.
        """
        self._verifier.use(read_key_set(document))

    async def close(self) -> None:
        """Leave no check of a password running."""
        if self._users:
            await self._users.checks.close()

    def check(self, presented: Presented) -> Principal | Awaitable[Principal]:
        if presented.kind is JWT:
            try:
                return self._verifier.verify(presented.value)
            except UnknownKey:
                return self._look_again(presented.value)
        if presented.kind is Kind.KEY:
            return self._api_keys.principal(presented.value)
        if presented.kind is Kind.BASIC and self._users:
            return self._users.verify(presented.value, presented.client)
        raise Unauthorized(NOT_VALID)

    def _look_again(self, token: bytes) -> Principal | Awaitable[Principal]:
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
        raise Unauthorized(NOT_VALID, invalid=True)
