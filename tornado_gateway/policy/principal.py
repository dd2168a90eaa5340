"""The principal of a request: the client as described by the credential."""

import math
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.http.claims import ClaimFields
from tornado_gateway.policy.http.credentials import Presented, TokenSources

# "scope" is the registered claim (RFC 8693 §4.2). Okta and Microsoft Entra ID send "scp" instead.
_SCOPE_CLAIMS = ("scope", "scp")


class Holder(NamedTuple):
    """What a revocation may name of a credential. Streams keep this instead of the claims.

    Attributes:
        name: of the principal.
        jti: claim "jti" (RFC 7519 §4.1.7); "" for none.
        issued: claim "iat", seconds since 1970; -math.inf for none.
        sessions: claim "sid" (OpenID Connect Front-Channel Logout 1.0 §3), and the id of an operator's session.
    """

    name: str
    jti: str
    issued: float
    sessions: tuple[str, ...] = ()

    def in_session(self, id_: str) -> "Holder":
        """The holder, in a session that the credential has opened."""
        return self._replace(sessions=(*self.sessions, id_))


NOBODY = Holder("", "", -math.inf)


@dataclass(frozen=True, slots=True)
class Principal:
    """The client of a request, as described by a checked credential.

    Attributes:
        subject: claim "sub" (RFC 7519 §4.1.2); "" for none.
        name: names the principal among all principals: "iss|sub", because two issuers may use the same subject;
            "key:name" and "basic:name", which have no "|".
        claims: every claim of the credential.
        scopes: what the credential permits.
        expiry: seconds since 1970; math.inf for a credential that does not expire.
        holder: what a revocation may name.
    """

    subject: str
    name: str
    claims: Mapping[str, Any]
    scopes: frozenset[str]
    expiry: float
    holder: Holder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        claims = self.claims
        jti, sid = (each if isinstance(each, str) else "" for each in (claims.get("jti"), claims.get("sid")))
        holder = Holder(self.name, jti, _instant(claims, "iat", -math.inf), (sid,) if sid else ())
        object.__setattr__(self, "holder", holder)

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> "Principal":
        """The principal that a token's checked claims describe (RFC 7519 §4.1, RFC 8693 §4.2).

        A subject that is not a string is ignored. Scopes are a string, separated by spaces, or a list of strings.

        >>> principal = Principal.of({"sub": "ada", "exp": 1_700_000_000, "scope": "read write"})
        >>> principal.subject, sorted(principal.scopes), principal.expiry
        ('ada', ['read', 'write'], 1700000000.0)
        >>> sorted(Principal.of({"scp": ["read", "write"]}).scopes)
        ['read', 'write']
        """
        subject, issuer = (each if isinstance(each, str) else "" for each in (claims.get("sub"), claims.get("iss")))
        name = f"{issuer}|{subject}" if issuer or subject else ""
        return cls(subject, name, claims, _scopes(claims), _instant(claims, "exp", math.inf))

    @classmethod
    def local(cls, kind: Kind, name: str, scopes: frozenset[str]) -> "Principal":
        """The principal of an API key or of a user of the gateway's own. Endpoints get claims as of a token.

        >>> Principal.local(Kind.KEY, "ci", frozenset({"write", "read"})).claims
        {'sub': 'key:ci', 'scope': 'read write'}
        """
        full = f"{kind.value}:{name}"
        claims = {"sub": full} | ({"scope": " ".join(sorted(scopes))} if scopes else {})
        return cls(full, full, claims, scopes, math.inf)

    def to_plain(self) -> list[Any]:
        """The principal as values of JSON."""
        return [self.subject, self.name, dict(self.claims), sorted(self.scopes), self.expiry]

    @classmethod
    def of_plain(cls, described: Sequence[Any]) -> "Principal":
        """The principal that to_plain() describes."""
        subject, name, claims, scopes, expiry = described
        return cls(subject, name, claims, frozenset(scopes), expiry)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    given = next((claims[name] for name in _SCOPE_CLAIMS if name in claims), ())
    if isinstance(given, str):
        return frozenset(given.split())
    if isinstance(given, list):
        return frozenset(each for each in given if isinstance(each, str))
    return frozenset()


def _instant(claims: Mapping[str, Any], name: str, default: float) -> float:
    """The value of a claim that is a number; the default for a claim that is missing, or no finite number."""
    try:
        value = float(claims.get(name, default))
    except (OverflowError, TypeError, ValueError):
        return default
    return value if math.isfinite(value) else default


# The client of a route that needs no credential, or of a gateway that asks for none.
ANYBODY = Principal("", "", {}, frozenset(), math.inf)


class Authenticator(Protocol):
    """Finds the principal of a request.

    Attributes:
        default: the rule of services and routes that have none.
        sources: where a token may stand.
        claim_fields: the fields that tell endpoints about the principal; None for none.
        edits_requests: whether endpoints may see other fields or another target than the client has sent.
        accepted: requests with a valid credential so far.
    """

    default: frozenset[Kind]
    sources: TokenSources
    claim_fields: ClaimFields | None
    edits_requests: bool
    accepted: int

    def recall(self, token: bytes) -> Principal | None:
        """The principal of a token that check() has found valid a moment ago; None if the token is to be checked."""

    def check(self, presented: Presented) -> Principal | Awaitable[Principal]:
        """Check a credential.

        Returns:
            The principal, or an awaitable of the principal if the authenticator has to do I/O.

        Raises:
            Unauthorized: the credential is not valid now.
        """
