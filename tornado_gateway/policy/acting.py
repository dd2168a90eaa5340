"""Acts: who may change something by a page of the gateway, and from where.

    a credential was asked for      the credential needs every scope of ADMIN_SCOPE; without ADMIN_SCOPE every
                                    credential is enough, but nobody acts in production
    no credential was asked for     a client on this machine that asks for a loopback host, and not in production. A
                                    page of another site that gives its name an address of this machine (DNS
                                    rebinding) asks for its own name.

Whoever asks, no page of another origin may be the cause (see check_same_origin()).

Sources: Fetch Metadata (W3C) §2.3 for Sec-Fetch-Site; Fetch §3.2 for Origin.
"""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field

from tornado_gateway.errors import ActNotAllowed, InsufficientScope, OriginNotAllowed
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.authority import is_of_authority, parse_authority
from tornado_gateway.policy.sessions import SessionConfig

LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Who may read and act on the pages below /admin.

    Attributes:
        scopes: what a credential must permit for acts. The password permits all acts.
        password: the hash of the operators' password, and the name of those who know the password; None for none.
        sessions: how long operators' sessions last.
        is_read_only: whether nobody may change something, whatever the credential permits.
    """

    scopes: frozenset[str] = frozenset()
    password: NamedHash | None = None
    sessions: SessionConfig = field(default_factory=SessionConfig)
    is_read_only: bool = False

    @property
    def asks_for_credential(self) -> bool:
        """Whether the pages need a credential, whatever AUTH_REQUIRED says."""
        return bool(self.scopes or self.password)


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a request comes from.

    Attributes:
        origin: the value of Origin; None without.
        site: the value of Sec-Fetch-Site; None without.
        host: the authority that the client asked for.
        peer: address of the socket's peer.
        is_forwarded: whether a proxy says that the request is another client's.
    """

    origin: bytes | None
    site: bytes | None
    host: bytes
    peer: Address
    is_forwarded: bool = False


def check_same_origin(asked: Asked, *, is_strict: bool) -> None:
    """Refuse a request that a page of another origin may have caused.

    Browsers send Origin with every POST and DELETE, and Sec-Fetch-Site to https and loopback. Other programs send
    neither.

    Args:
        is_strict: whether the request must prove its origin, because browsers send the credential by themselves.

    Raises:
        OriginNotAllowed: the request names another origin, or none where the request must.
    """
    if asked.site not in (None, b"same-origin"):
        raise OriginNotAllowed("the request comes from a page of another origin")
    if asked.origin is None:
        if is_strict and asked.site is None:
            raise OriginNotAllowed("a request with this credential needs an Origin field")
    elif not is_of_authority(asked.origin.decode("latin-1"), asked.host.decode("latin-1")):
        raise OriginNotAllowed("the request comes from a page of another origin, or a proxy in front changes Host")


def check_scopes(config: AdminConfig, scopes: Collection[str], *, in_production: bool, is_token: bool = True) -> None:
    """Refuse a principal that may not act.

    Args:
        scopes: of the principal.
        is_token: whether the principal has come with a token.

    Raises:
        InsufficientScope: the credential lacks a scope of ADMIN_SCOPE.
        ActNotAllowed: nobody may act.
    """
    if in_production and not config.scopes:
        raise ActNotAllowed("nobody may act in production without ADMIN_SCOPE")
    if not config.scopes.issubset(scopes):
        raise InsufficientScope(scopes=config.scopes, is_token=is_token)


def check_local(asked: Asked, *, in_production: bool) -> None:
    """Refuse a client without a credential that is not on this machine.

    A proxy on this machine that tells nothing of its clients makes all of them local.

    Raises:
        ActNotAllowed: the client may not act.
    """
    if in_production:
        raise ActNotAllowed("nobody may act in production without ADMIN_SCOPE")
    if asked.is_forwarded or not asked.peer.is_in(LOOPBACK) or not is_loopback_host(asked.host):
        raise ActNotAllowed("without authentication, only a client on this machine may act")


def is_loopback_host(authority: bytes) -> bool:
    """Whether an authority names this machine.

    >>> [is_loopback_host(each) for each in (b"localhost:8080", b"127.0.0.2", b"[::1]:80", b"localhost.evil.example")]
    [True, True, True, False]
    """
    parsed = parse_authority(authority.decode("latin-1"))
    host = parsed.host.strip("[]") if parsed else ""
    try:
        return host == "localhost" or any(ipaddress.ip_address(host) in each for each in LOOPBACK)
    except ValueError:
        return False
