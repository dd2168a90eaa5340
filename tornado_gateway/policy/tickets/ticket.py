"""One-time tickets: a ticket in a URL stands for a credential that a page may not put there.

    page ──POST /auth/ticket, with its credential──► the ticket, a random text      kept: digest ──► Ticket
    page ──GET …?ticket=<text>─────────────────────► the Ticket, which is forgotten at once

A browser's EventSource and WebSocket can send no field of their own, and a token in a URL stands in logs and histories
for as long as the token is valid. A ticket is worth nothing after the first use, or after TTL.

A Ticket carries the whole principal: the claims, and so the expiry and the `jti`, hold for the stream as if the token
itself had come.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.http.authority import is_of_authority
from tornado_gateway.policy.principal import Principal

# Seconds. A page uses a ticket at once: 30 s leave time for a phone that changes its network, and none for a log that
# is read later.
TTL = 30.0
RANDOM_BYTES = 24  # 192 bits, 32 characters; 128 bits are enough against guesses
MAX_REQUEST = 1024  # bytes of the JSON that asks for a ticket
MAX_SIZE = 16 * 1024  # bytes of a Ticket as JSON; a token has 8 KiB at most

# What becomes of tickets. REFUSED: a request has shown a text that is no good ticket for the request.
ENDS = MADE, USED, REFUSED = "made", "used", "refused"

_FORM = re.compile(rb"[A-Za-z0-9_-]{32}")
_ASKED = 'the body must be JSON such as {"service": "chat"}, and nothing else'


@dataclass(frozen=True, slots=True)
class Use:
    """A request that shows a ticket.

    Attributes:
        service: name of the service; "" for a page of the gateway's own.
        origin: the value of Origin; None for a request without Origin.
        host: the authority that the request asks for.
    """

    service: str
    origin: bytes | None
    host: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket stands for.

    Attributes:
        principal: of the credential that came with the request for the ticket.
        kind: of that credential.
        service: name of the service that the ticket is for.
        origin: the value of Origin of the request for the ticket; None for a request without Origin.
    """

    principal: Principal
    kind: Kind
    service: str
    origin: bytes | None = None

    def is_for(self, use: Use) -> bool:
        """Whether a request may use the ticket: a request for the service, from the same page.

        Browsers leave Origin out of a GET of the same origin (Fetch §3.2), so an EventSource of such a page sends none.

        >>> from tornado_gateway.policy.principal import ANYBODY
        >>> ticket = Ticket(ANYBODY, Kind.JWT, "chat", b"https://example.com")
        >>> ticket.is_for(Use("chat", b"https://example.com", b"x")), ticket.is_for(Use("chat", None, b"example.com"))
        (True, True)
        >>> ticket.is_for(Use("mail", b"https://example.com", b"x")), ticket.is_for(Use("chat", None, b"x"))
        (False, False)
        """
        return use.service == self.service and (use.origin == self.origin or self._is_of_same_origin(use))

    def _is_of_same_origin(self, use: Use) -> bool:
        if use.origin is not None or self.origin is None:
            return False
        return is_of_authority(self.origin.decode("latin-1"), use.host.decode("latin-1"))

    def seconds(self, wall: float) -> float:
        """Seconds that the ticket is good for: TTL, but never beyond the credential.

        Args:
            wall: seconds since 1970.

        Returns:
            0 or less for a credential that is about to expire.
        """
        return min(TTL, self.principal.expiry - wall)

    def to_bytes(self) -> bytes:
        """The ticket as JSON, for a store.

        Raises:
            BadRequest: the claims are too large.
        """
        principal = self.principal
        said = json.dumps(
            {
                "subject": principal.subject, "name": principal.name, "claims": dict(principal.claims),
                "scopes": sorted(principal.scopes),
                "expiry": principal.expiry if principal.expiry < math.inf else None,
                "kind": self.kind.value, "service": self.service,
                "origin": None if self.origin is None else self.origin.decode("latin-1"),
            },
            separators=(",", ":"),
        ).encode("ascii")  # fmt: skip
        if len(said) > MAX_SIZE:
            raise BadRequest("the credential's claims are too large for a ticket")
        return said

    @classmethod
    def of_bytes(cls, said: bytes) -> "Ticket":
        """The ticket that to_bytes() has written.

        Raises:
            ValueError: the bytes are something else, for example of another version of the gateway.
        """
        try:
            return cls._of(json.loads(said))
        except (KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("not a ticket") from None

    @classmethod
    def _of(cls, said: Mapping[str, Any]) -> "Ticket":
        expiry, origin = said["expiry"], said["origin"]
        principal = Principal(
            said["subject"], said["name"], said["claims"], frozenset(said["scopes"]),
            math.inf if expiry is None else float(expiry),
        )  # fmt: skip
        return cls(principal, Kind(said["kind"]), said["service"], None if origin is None else origin.encode("latin-1"))


def has_form(text: bytes) -> bool:
    """Whether a text may be a ticket: no other text needs a look-up."""
    return _FORM.fullmatch(text) is not None


def digest(text: bytes) -> str:
    """The name under which a store keeps a ticket.

    A store with digests gives no ticket to a reader of the store, and a look-up by digest takes the same time for every
    wrong text.
    """
    return hashlib.sha256(text).hexdigest()


def read_request(body: bytes) -> str:
    """The name of the service that the body of a request for a ticket asks for.

    >>> read_request(b'{"service": "chat"}')
    'chat'

    Raises:
        BadRequest: the body is anything else.
    """
    try:
        said = json.loads(body, object_pairs_hook=_Members) if len(body) <= MAX_REQUEST else None
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, _Members) and len(said) == 1 and said[0][0] == "service" and isinstance(said[0][1], str):
        return said[0][1]
    raise BadRequest(_ASKED)


class _Members(list[tuple[str, object]]):
    """The members of a JSON object, with repetitions: two members of one name are a mistake (RFC 8259 §4)."""
