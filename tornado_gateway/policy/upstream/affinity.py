"""Affinity: related requests go to the same endpoint, by a hash key or by a sticky cookie.

A consistent_hash balancer hashes a key of the request:

    header:<name>   the field's value
    cookie:<name>   the cookie's value
    client          the client's address, in its canonical form
    path            the path behind the service's name

A sticky cookie names an endpoint. The cookie's value is a keyed hash of the endpoint's canonical URL: the value tells a
client nothing about the network behind the gateway, and a client cannot forge a value to choose an endpoint.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.cookies import sticky_name
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.upstream.endpoint import Endpoint

TAG_BYTES = 12  # bytes of the hash in the cookie: 96 bits cannot be guessed

_KEY = re.compile(r"client|path|(?:header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class HashKey:
    """The part of a request that is the hash key.

    Attributes:
        source: "header", "cookie", "client" or "path".
        name: of the header or cookie; "" for other sources.
    """

    source: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "HashKey":
        """Parse "header:<name>", "cookie:<name>", "client" or "path".

        Raises:
            ValueError: the text has another form.
        """
        if not _KEY.fullmatch(text):
            raise ValueError(text)
        source, _, name = text.partition(":")
        return cls(source, name.lower() if source == "header" else name)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source

    def of(self, fields: Iterable[Field], client: Address, path: bytes) -> bytes:
        """The key of a request; b"" without a key.

        Args:
            fields: of the request's header section.
            client: address of the client.
            path: target of the request behind the service's name.
        """
        if self.source == "client":
            return client.text.encode("ascii")
        if self.source == "path":
            return path.partition(b"?")[0]
        if self.source == "cookie":
            return cookie(fields, self.name.encode("ascii"))
        wanted = self.name.encode("ascii")
        return next((value for name, value in fields if name.lower() == wanted), b"")


class Sessions(Enum):
    """Whether a service sets sticky cookies, and what happens to a session whose endpoint is out."""

    OFF = "off"
    REDISTRIBUTE = "redistribute"  # the session moves to another endpoint
    REFUSE = "refuse"  # the request is refused


@dataclass(frozen=True, slots=True)
class AffinityConfig:
    """What binds the requests of a service to endpoints.

    Attributes:
        key: the part of a request that a consistent_hash balancer hashes.
        sessions: whether and how sticky cookies are used.
        secret: key of the hash in the cookies. All gateways must share one constant secret, or sessions move.
    """

    key: HashKey = HashKey("client")  # frozen
    sessions: Sessions = Sessions.OFF
    secret: bytes = field(default=b"", repr=False)


def cookie(fields: Iterable[Field], wanted: bytes) -> bytes:
    """The value of the first cookie of a name (RFC 6265 §4.2); b"" without such a cookie."""
    for name, value in fields:
        if name.lower() != b"cookie":
            continue
        for pair in value.split(b";"):
            key, found, text = pair.strip().partition(b"=")
            if found and key == wanted:
                return text
    return b""


class Sticky:
    """The sticky sessions of a service.

    Args:
        cookie: name of the cookie.

    Attributes:
        refuses: whether a request whose endpoint is out is refused rather than sent to another endpoint.
        secret: see AffinityConfig.
    """

    def __init__(self, cookie: bytes, secret: bytes, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self._cookie, self.secret = cookie, secret
        self._by_tag: dict[bytes, Endpoint] = {}

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Replace the endpoints that cookies can name."""
        self._by_tag = {self._tag(endpoint): endpoint for endpoint in endpoints}

    def find(self, fields: Iterable[Field]) -> Endpoint | None:
        """The endpoint that a request's cookie names; None without a cookie of a present endpoint."""
        return self._by_tag.get(cookie(fields, self._cookie))

    def line(self, endpoint: Endpoint, *, secure: bool) -> bytes:
        """The Set-Cookie field line of a session cookie (no expiry) for an endpoint, with CRLF."""
        security = b"; Secure" if secure else b""
        return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (
            self._cookie, self._tag(endpoint), security,
        )  # fmt: skip

    def _tag(self, endpoint: Endpoint) -> bytes:
        digest = hmac.digest(self.secret, endpoint.identity.encode(), hashlib.sha256)[:TAG_BYTES]
        return base64.urlsafe_b64encode(digest)


class Affinity:
    """What binds the requests of one service to endpoints.

    Args:
        key: the hash key; None if the balancer is not consistent_hash.
        sticky: the sticky sessions; None without sessions.
    """

    def __init__(self, key: HashKey | None, sticky: Sticky | None) -> None:
        self._key = key
        self.sticky = sticky

    @classmethod
    def from_config(
        cls, service: str, config: AffinityConfig, balancer: str, before: "Affinity | None" = None
    ) -> "Affinity | None":
        """The affinity that a service's configuration asks for; None if nothing binds its requests.

        Args:
            balancer: name in BALANCERS; only consistent_hash uses a key.
            before: the present affinity, whose secret stays if the configuration has no secret.

        Raises:
            ValueError: sessions are configured without a secret.
        """
        key = config.key if balancer == "consistent_hash" else None
        sticky = None
        if config.sessions is not Sessions.OFF:
            secret = config.secret or (before.sticky.secret if before and before.sticky else b"")
            if not secret:
                raise ValueError("sessions need a secret")
            sticky = Sticky(sticky_name(service), secret, refuses=config.sessions is Sessions.REFUSE)
        return cls(key, sticky) if key or sticky else None

    def of(self, fields: list[Field], client: Address, path: bytes) -> tuple[bytes, Endpoint | None]:
        """The key of a request, b"" without a key; and the endpoint of the client's session, None without a session.

        Args: see HashKey.of().
        """
        key = self._key.of(fields, client, path) if self._key else b""
        return key, self.sticky.find(fields) if self.sticky else None

    def cookie_line(self, endpoint: Endpoint, *, secure: bool) -> bytes:
        """The Set-Cookie field line that binds a client to an endpoint; b"" without sessions."""
        return self.sticky.line(endpoint, secure=secure) if self.sticky else b""
