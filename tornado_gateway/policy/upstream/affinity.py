"""Requests that belong together go to the same endpoint: by a key of theirs, or by a cookie of ours.

A key is what a consistent_hash balancer puts on its ring:

    header:<name>   the field's value
    cookie:<name>   the cookie's value
    client          the client's address, in its canonical form
    path            the path behind the service's name

A sticky cookie names the endpoint itself. Its value is a keyed hash of the endpoint's canonical URL: it tells a client
nothing about the network behind the gateway, and cannot be made up to aim at an endpoint.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.upstream.endpoint import Endpoint

COOKIE_PREFIX = "gw_"
TAG_BYTES = 12  # of the hash that are kept: 96 bits, not to be guessed

_KEY = re.compile(r"client|path|(?:header|cookie):[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class HashKey:
    """Where the key of a request stands.

    Attributes:
        source: "header", "cookie", "client" or "path".
        name: of the header or cookie, else "".
    """

    source: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "HashKey":
        """
        Raises:
            ValueError: it is none of the forms above.
        """
        if not _KEY.fullmatch(text):
            raise ValueError(text)
        source, _, name = text.partition(":")
        return cls(source, name.lower() if source == "header" else name)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source

    def of(self, fields: Iterable[Field], client: Address, path: bytes) -> bytes:
        """A request's key; b"" if it has none.

        Args:
            fields: of its header section.
            client: its client's address.
            path: behind the service's name.
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
    """Whether a client's requests go to one endpoint by a sticky cookie, and what happens when the endpoint is out."""

    OFF = "off"
    REDISTRIBUTE = "redistribute"  # the session moves to another endpoint
    REFUSE = "refuse"  # the request is refused


@dataclass(frozen=True, slots=True)
class AffinityConfig:
    """
    Attributes:
        key: the part of a request that a consistent_hash balancer hashes.
        sessions: whether and how sticky cookies are used.
        secret: key of the cookies' values. All gateways must have the same secret and keep it, or sessions move.
    """

    key: HashKey = HashKey("client")  # frozen
    sessions: Sessions = Sessions.OFF
    secret: bytes = field(default=b"", repr=False)


def cookie(fields: Iterable[Field], wanted: bytes) -> bytes:
    """The value of a cookie (RFC 6265 §4.2), the first of its name; b"" if there is none."""
    for name, value in fields:
        if name.lower() != b"cookie":
            continue
        for pair in value.split(b";"):
            key, found, text = pair.strip().partition(b"=")
            if found and key == wanted:
                return text
    return b""


class Sticky:
    """A service's sticky sessions.

    Args:
        cookie: its name.
        secret: that its value is made with. It must be the same in all gateways and stay the same, or sessions move.

    Attributes:
        refuses: whether a request whose endpoint is out is refused instead of moved to another one.
        secret: see above.
    """

    def __init__(self, cookie: bytes, secret: bytes, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self._cookie, self.secret = cookie, secret
        self._by_tag: dict[bytes, Endpoint] = {}

    def use(self, endpoints: Sequence[Endpoint]) -> None:
        """Have cookies for these from now on."""
        self._by_tag = {self._tag(endpoint): endpoint for endpoint in endpoints}

    def find(self, fields: Iterable[Field]) -> Endpoint | None:
        """The endpoint that a request's cookie names; None if it names none that there is."""
        return self._by_tag.get(cookie(fields, self._cookie))

    def line(self, endpoint: Endpoint, *, secure: bool) -> bytes:
        """The field line that sets the cookie, for as long as the browser runs; with its CRLF."""
        security = b"; Secure" if secure else b""
        return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (
            self._cookie, self._tag(endpoint), security,
        )  # fmt: skip

    def _tag(self, endpoint: Endpoint) -> bytes:
        digest = hmac.digest(self.secret, endpoint.identity.encode(), hashlib.sha256)[:TAG_BYTES]
        return base64.urlsafe_b64encode(digest)


class Affinity:
    """What binds requests to endpoints in one service.

    Args:
        key: what a consistent_hash balancer goes by; None for any other balancer.
        sticky: None for no sessions.
    """

    def __init__(self, key: HashKey | None, sticky: Sticky | None) -> None:
        self._key = key
        self.sticky = sticky

    @classmethod
    def made(
        cls, service: str, config: AffinityConfig, balancer: str, before: "Affinity | None" = None
    ) -> "Affinity | None":
        """The affinity that a service's configuration asks for; None if nothing binds its requests.

        Args:
            balancer: name in BALANCERS: consistent_hash alone goes by keys.
            before: the present affinity, whose secret is kept if the configuration has none.

        Raises:
            ValueError: sessions are wanted, and there is no secret.
        """
        key = config.key if balancer == "consistent_hash" else None
        sticky = None
        if config.sessions is not Sessions.OFF:
            secret = config.secret or (before.sticky.secret if before and before.sticky else b"")
            if not secret:
                raise ValueError("sessions need a secret")
            name = f"{COOKIE_PREFIX}{service}".encode("ascii")
            sticky = Sticky(name, secret, refuses=config.sessions is Sessions.REFUSE)
        return cls(key, sticky) if key or sticky else None

    def of(self, fields: list[Field], client: Address, path: bytes) -> tuple[bytes, Endpoint | None]:
        """A request's key, and the endpoint that its client belongs to.

        Args:
            fields: of its header section.
            client: its client's address.
            path: behind the service's name.
        """
        key = self._key.of(fields, client, path) if self._key else b""
        return key, self.sticky.find(fields) if self.sticky else None

    def cookie_line(self, endpoint: Endpoint, *, secure: bool) -> bytes:
        """The field line that binds a client to an endpoint; b"" if nothing does."""
        return self.sticky.line(endpoint, secure=secure) if self.sticky else b""
