"""CORS: which pages of other origins may use a service, as told to the browser (Fetch §3.3, the CORS protocol).

    page ── OPTIONS ──► gateway                    a preflight: may the page send this request?
         ◄── 204 ──────
    page ── request ──► gateway ── request ──► service
         ◄── answer ── annotated ◄── answer ──     may the page read this answer?

CORS protects the users of browsers, and is no access control: a request of any origin is carried out, and without the
fields of this module the browser keeps the answer from the page.

The Origin field of a request is compared with whole origins: no part of a name matches, and neither does `null`, which
any page can send from a sandboxed frame. An origin is written into an answer as the configuration has the origin.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tornado_gateway.errors import METHODS
from tornado_gateway.policy.http.authority import parse_origin
from tornado_gateway.policy.http.lists import members

ANY = "*"  # every origin; every field of requests

# Beginning of the names of the fields that a service may not send where the gateway answers CORS itself. A browser
# takes an answer with two Access-Control-Allow-Origin fields for an answer with none.
ACCESS_CONTROL = b"access-control-"

# The fields of the gateway's own answers that a page reads to know what to do next. A browser shows a page seven
# harmless fields, and no others, unless the answer lists the others (Fetch §4.6, CORS-safelisted response-header name).
EXPOSED = (
    "x-request-id", "Retry-After", "RateLimit", "RateLimit-Policy", "x-ratelimit-limit", "x-ratelimit-remaining",
    "x-ratelimit-reset", "WWW-Authenticate", "Proxy-Status",
)  # fmt: skip

# Fields with credentials, which no browser sends in a preflight.
CREDENTIALS = frozenset((b"authorization", b"cookie", b"x-api-key"))

MOST_ECHOED = 4096  # bytes of field names that a preflight may ask for; a page asks for some 100 bytes

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_METHOD_ASKED, _FIELDS_ASKED = b"access-control-request-method", b"access-control-request-headers"
_VARY = b"Vary: Origin\r\n"
_VARY_OF_PREFLIGHTS = b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"

KnownFields = Mapping[bytes, Sequence[bytes]]


class CorsMode(Enum):
    """Who answers CORS for a service.

    Attributes:
        OFF: the service; the gateway treats a preflight as any other request.
        ANSWER: the gateway, if origins are configured.
        PASS: the service; a preflight needs no credential.
    """

    OFF = "off"
    ANSWER = "answer"
    PASS = "pass"  # noqa: S105  # a word of the configuration


@dataclass(frozen=True)  # without slots, so that lines are made once
class CorsConfig:
    """Which pages of other origins may use a service.

    Attributes:
        mode: who answers.
        origins: origins in canonical form, or ANY alone.
        allows_credentials: whether a page may send cookies, client certificates and what the browser knows for HTTP
            authentication. Off by default, as in Envoy, Traefik and Starlette. A token that the page itself puts into
            a field is no such credential.
        allowed_fields: fields that a page may send; ANY alone for every field that a preflight asks for.
        exposed_fields: fields of answers that a page may read, besides EXPOSED.
        max_age: seconds for which a browser keeps the answer to a preflight. 600 as in Starlette, instead of the 5 s of
            browsers: a preflight costs a page a round trip. Chromium keeps an answer for 7200 s at most.
        answers: whether the gateway answers.
        passes: whether preflights pass to the service without a credential.
    """

    mode: CorsMode = CorsMode.ANSWER
    origins: tuple[str, ...] = ()
    allows_credentials: bool = False
    allowed_fields: tuple[str, ...] = (ANY,)
    exposed_fields: tuple[str, ...] = ()
    max_age: int = 600

    @property
    def answers(self) -> bool:
        return self.mode is CorsMode.ANSWER and bool(self.origins)

    @property
    def passes(self) -> bool:
        return self.mode is CorsMode.PASS

    @property
    def is_for_all(self) -> bool:
        """Whether pages of every origin may use the service, so that all requests have the same answer."""
        return ANY in self.origins

    @property
    def credentialed_origins(self) -> tuple[str, ...]:
        """The origins whose pages may send cookies."""
        return self.origins if self.answers and self.allows_credentials and not self.is_for_all else ()

    def lines(self, known_fields: KnownFields) -> bytes:
        """The lines of an answer.

        Without an Origin field, the lines still say that the answer depends on the field (RFC 9110 §12.5.5): a cache
        would keep the answer for a page that may not read it, and give the answer to a page that may.

        Args:
            known_fields: of the request.
        """
        allowing = self._allowing(known_fields)
        return (allowing and allowing + self._exposing) + (b"" if self.is_for_all else _VARY)

    def preflight_lines(self, known_fields: KnownFields, served: Sequence[bytes]) -> bytes:
        """The lines of the answer to a preflight.

        Methods and fields are listed whatever the preflight asks for: the browser compares, and tells the developer
        what is missing.

        Args:
            known_fields: of the preflight.
            served: the methods that the route serves; () for every method.
        """
        allowing = self._allowing(known_fields)
        if not allowing:
            return _VARY_OF_PREFLIGHTS
        lines = b"%b%bAccess-Control-Allow-Methods: %b\r\nAccess-Control-Max-Age: %d\r\n" % (
            allowing, _VARY_OF_PREFLIGHTS, _methods(served, known_fields[_METHOD_ASKED][0]), self.max_age,
        )  # fmt: skip
        fields = self._fields(known_fields.get(_FIELDS_ASKED, ()))
        return lines + b"Access-Control-Allow-Headers: %b\r\n" % fields if fields else lines

    def _allowing(self, known_fields: KnownFields) -> bytes:
        """The lines that let the page read; b"" for a page that may not, and for a request of no page."""
        if self.is_for_all:
            return b"Access-Control-Allow-Origin: *\r\n"
        given = known_fields.get(b"origin", ())
        if len(given) != 1:
            return b""
        found = self._by_origin.get(given[0])  # browsers send the canonical form
        if found is None:
            origin = parse_origin(given[0].decode("latin-1"))
            found = self._by_origin.get(origin.encode("ascii")) if origin else None
        return found or b""

    def _fields(self, asked: Sequence[bytes]) -> bytes:
        """The value of Access-Control-Allow-Headers; b"" for no field.

        `*` would not do: browsers take it for a field of that name where credentials are sent, and never for
        Authorization (Fetch §4.8).
        """
        if ANY not in self.allowed_fields:
            return ", ".join(self.allowed_fields).encode("ascii")
        names = members(asked)
        is_sound = sum(map(len, names)) <= MOST_ECHOED and all(_TOKEN.fullmatch(each) for each in names)
        return b", ".join(names).lower() if is_sound else b""

    @functools.cached_property
    def _exposing(self) -> bytes:
        return b"Access-Control-Expose-Headers: %b\r\n" % ", ".join((*EXPOSED, *self.exposed_fields)).encode("ascii")

    @functools.cached_property
    def _by_origin(self) -> dict[bytes, bytes]:
        """The lines that let a page read, by origin."""
        credentials = b"Access-Control-Allow-Credentials: true\r\n" if self.allows_credentials else b""
        origins = [each.encode("ascii") for each in self.origins]
        return {each: b"Access-Control-Allow-Origin: %b\r\n%b" % (each, credentials) for each in origins}


def is_preflight(method: bytes, known_fields: KnownFields) -> bool:
    """Whether a request without a body is a preflight (Fetch §3.3.2).

    >>> fields = {b"origin": [b"https://a"], b"access-control-request-method": [b"PUT"]}
    >>> is_preflight(b"OPTIONS", fields), is_preflight(b"GET", fields), is_preflight(b"OPTIONS", {})
    (True, False, False)
    """
    if method != b"OPTIONS":
        return False
    asked = known_fields.get(_METHOD_ASKED, ())
    return len(known_fields.get(b"origin", ())) == len(asked) == 1 and bool(_TOKEN.fullmatch(asked[0]))


def lines_for_anybody(known_fields: KnownFields) -> bytes:
    """The lines of an answer that pages of every origin may read, with and without credentials; b"" for no page."""
    given = known_fields.get(b"origin", ())
    if len(given) != 1:
        return b""
    return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n" % given[0]


def _methods(served: Sequence[bytes], asked: bytes) -> bytes:
    """The value of Access-Control-Allow-Methods.

    All methods are listed, not the asked method alone: browsers keep the list, and need no preflight for the next
    method.
    """
    if served:
        return b", ".join(served)
    usual = ", ".join(METHODS).encode("ascii")
    return usual if asked.decode("ascii") in METHODS else b"%b, %b" % (usual, asked)
