"""Where a client's token may stand in a request, and how the token is hidden from endpoints.

    header              Authorization: Bearer <token> (RFC 6750 §2.1)
    header:NAME         NAME: <token>, or NAME: Bearer <token>; Authorization is then the service's own
    cookie:NAME         the cookie NAME
    query:NAME          the query parameter NAME; access_token by default (RFC 6750 §2.3)
    subprotocol         Sec-WebSocket-Protocol: bearer, <token>; or base64url.bearer.authorization.<any>.<token>
    ticket:NAME         the query parameter NAME of a request for a stream; a one-time ticket for a token

A ticket, and a token in the query or among the subprotocols, never reaches an endpoint. Tokens in other places reach
endpoints unless the configuration hides the tokens.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tornado_gateway.errors import BadRequest, Unauthorized
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.http.handshake import is_handshake
from tornado_gateway.policy.http.headers import Field, pairs, serialize
from tornado_gateway.policy.http.lists import members
from tornado_gateway.policy.http.negotiation import accepts_only
from tornado_gateway.policy.http.sse import EVENT_STREAM

BEARER = b"bearer"
ACCESS_TOKEN = "access_token"  # noqa: S105  # the name of a parameter
TICKET = "ticket"
_IN_BASE64 = re.compile(rb"base64url\.bearer\.authorization\.(?:[A-Za-z0-9_-]+\.)*([A-Za-z0-9_-]+)")
_NEEDED = "one Authorization field with a bearer token is needed"

KnownFields = Mapping[bytes, Sequence[bytes]]


class Where(Enum):
    """The kinds of places."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"
    SUBPROTOCOL = "subprotocol"
    TICKET = "ticket"


_IN_QUERY = (Where.QUERY, Where.TICKET)


@dataclass(frozen=True, slots=True)
class Source:
    """A place where a token may stand.

    Attributes:
        name: of the field, in lower case; of the cookie or parameter, as is; b"" for subprotocols.
    """

    where: Where
    name: bytes = b""


AUTHORIZATION = Source(Where.HEADER, b"authorization")


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a request that may hold a token.

    Attributes:
        known_fields: see FieldTable.interpret().
        block: all field lines of the request, with the empty line.
        target: of the request.
        method: of the request.
    """

    known_fields: KnownFields
    block: bytes
    target: bytes
    method: bytes = b"GET"

    @property
    def is_for_stream(self) -> bool:
        """Whether an EventSource or a WebSocket of a browser asks: a GET for an event stream alone, or a handshake."""
        known = self.known_fields
        if b"upgrade" in known and is_handshake(self.method, known):
            return True
        return self.method == b"GET" and accepts_only(known.get(b"accept", ()), EVENT_STREAM)


@dataclass(frozen=True, slots=True)
class Presented:
    """A credential, and where the credential stood.

    Attributes:
        kind: of the credential; NOTHING for a ticket, which tells the kind of its credential when it is redeemed.
        value: the token, or the ticket.
        by_cookie: whether only a cookie held the token, so that a page of another origin may have caused the request.
        is_ticket: whether the value is a ticket.
    """

    kind: Kind
    value: bytes
    by_cookie: bool = False
    is_ticket: bool = False


class TokenSources:
    """The places where tokens may stand.

    Args:
        sources: at least one.
        hides: whether endpoints get no token from a header or cookie.

    Attributes:
        hides_something: whether endpoints get no token from some place.
        field_names: names of the fields that may hold a token, in lower case, without Cookie.
    """

    def __init__(self, sources: Sequence[Source] = (AUTHORIZATION,), *, hides: bool = False) -> None:
        self._only_header = tuple(sources) == (AUTHORIZATION,)
        self._sources = tuple(each for each in sources if each.where is not Where.TICKET)
        self._ticket_name = next((each.name for each in sources if each.where is Where.TICKET), b"")
        self._hidden = {each for each in sources if hides or each.where in (*_IN_QUERY, Where.SUBPROTOCOL)}
        self.hides_something = bool(self._hidden)
        self.field_names = frozenset(each.name for each in sources if each.where is Where.HEADER)

    def find(self, asked: Asked, accepted: frozenset[Kind]) -> Presented:
        """The credential of a request.

        Args:
            accepted: the kinds of credentials to look for. Others belong to the service.

        Raises:
            BadRequest: a field that holds one token occurs twice, so the service might read another token.
            Unauthorized: there is no credential, or two places hold different credentials.
        """
        takes_tokens = Kind.JWT in accepted
        if self._only_header and takes_tokens:
            return Presented(Kind.JWT, _bearer(asked.known_fields.get(b"authorization", ())))
        found = [self._token(asked)] if takes_tokens else []
        found += [self._ticket(asked)] if self._ticket_name else []
        presented = [each for each in found if each]
        if len(presented) > 1:
            raise Unauthorized("the request holds a token and a ticket")
        if not presented:
            raise Unauthorized("a token is needed")
        return presented[0]

    def _token(self, asked: Asked) -> Presented | None:
        found = {source: token for source in self._sources if (token := _READERS[source.where](asked, source.name))}
        tokens = set(found.values())
        if len(tokens) > 1:
            raise Unauthorized("the request holds two different tokens", invalid=True)
        if not tokens:
            return None
        return Presented(Kind.JWT, tokens.pop(), all(each.where is Where.COOKIE for each in found))

    def _ticket(self, asked: Asked) -> Presented | None:
        """A ticket is for streams alone: every other request can bring its credential in a field."""
        ticket = _of_query(asked, self._ticket_name) if asked.is_for_stream else b""
        return Presented(Kind.NOTHING, ticket, is_ticket=True) if ticket else None

    def may_hold(self, asked: Asked) -> bool:
        """Whether a place of the request holds anything that might be a credential, valid or not."""
        own = {each.name for each in self._sources if each.where is Where.HEADER}
        if any(name.lower() in own for name, _ in pairs(asked.block[:-2])):
            return True
        try:
            held = [_READERS[source.where](asked, source.name) for source in self._sources]
            held += [_of_query(asked, self._ticket_name)] if self._ticket_name else []
        except BadRequest:
            return True
        return any(held)

    def visible_target(self, target: bytes) -> bytes:
        """A target without the parameters that hold tokens."""
        names = {each.name for each in self._hidden if each.where in _IN_QUERY}
        path, mark, query = target.partition(b"?")
        if not names or not mark:
            return target
        kept = [each for each in query.split(b"&") if each.partition(b"=")[0] not in names]
        return path + (mark + b"&".join(kept) if kept else b"")

    def visible_lines(self, lines: bytes) -> bytes:
        """Field lines without tokens."""
        return serialize(list(filter(None, map(self._visible_field, pairs(lines)))))

    def visible_protocols(self, offered: Iterable[bytes]) -> tuple[bytes, ...]:
        """Offered subprotocols without the ones that hold a token."""
        offered = tuple(offered)
        if Source(Where.SUBPROTOCOL) not in self._hidden or _token_among(offered) == b"":
            return offered
        if offered[0].lower() == BEARER:
            return offered[2:]
        return tuple(each for each in offered if not _IN_BASE64.fullmatch(each))

    def _visible_field(self, field: Field) -> Field | None:
        name, value = field
        lower = name.lower()
        if Source(Where.HEADER, lower) in self._hidden:
            return None
        if lower == b"cookie":
            names = {each.name for each in self._hidden if each.where is Where.COOKIE}
            kept = [each for each in value.split(b";") if each.partition(b"=")[0].strip(b" \t") not in names]
            return (name, b";".join(kept).strip(b" \t")) if kept else None
        if lower == b"sec-websocket-protocol":
            protocols = self.visible_protocols(members([value]))
            return (name, b", ".join(protocols)) if protocols else None
        return field


def _bearer(values: Sequence[bytes]) -> bytes:
    if len(values) > 1:  # RFC 9110 §5.3 and §11.6.2: not a list
        raise BadRequest("the request has more than one Authorization field")
    scheme, _, token = values[0].partition(b" ") if values else (b"", b"", b"")
    token = token.strip(b" ")
    if scheme.lower() != BEARER or not token:
        raise Unauthorized(_NEEDED)
    return token


def _of_header(asked: Asked, name: bytes) -> bytes:
    values = [value for each, value in pairs(asked.block[:-2]) if each.lower() == name]
    if len(values) > 1:
        raise BadRequest(f"the request has more than one {name.decode('ascii')} field")
    scheme, blank, token = values[0].partition(b" ") if values else (b"", b"", b"")
    if scheme.lower() == BEARER:
        return token.strip(b" ")
    return b"" if blank or name == b"authorization" else scheme


def _of_cookie(asked: Asked, name: bytes) -> bytes:
    cookies = [each.strip(b" \t") for value in asked.known_fields.get(b"cookie", ()) for each in value.split(b";")]
    found = {value for each, mark, value in (cookie.partition(b"=") for cookie in cookies) if mark and each == name}
    if len(found) > 1:
        raise BadRequest("the request has two cookies of the name that holds the token")
    return found.pop().strip(b'"') if found else b""


def _of_query(asked: Asked, name: bytes) -> bytes:
    pieces = asked.target.partition(b"?")[2].split(b"&")
    found = [value for each, _, value in (piece.partition(b"=") for piece in pieces) if each == name]
    if len(found) > 1:
        raise BadRequest("the request target has two parameters of the name that holds the token")
    return found[0] if found else b""


def _of_subprotocol(asked: Asked, _: bytes) -> bytes:
    values = [value for name, value in pairs(asked.block[:-2]) if name.lower() == b"sec-websocket-protocol"]
    return _token_among(tuple(members(values)))


def _token_among(offered: Sequence[bytes]) -> bytes:
    """The token among subprotocols; b"" for none."""
    if len(offered) > 1 and offered[0].lower() == BEARER:
        return offered[1]
    for each in offered:
        encoded = _IN_BASE64.fullmatch(each)
        if encoded:
            return _decoded(encoded[1])
    return b""


def _decoded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        return b""


_READERS: Mapping[Where, Callable[[Asked, bytes], bytes]] = {
    Where.HEADER: _of_header,
    Where.COOKIE: _of_cookie,
    Where.QUERY: _of_query,
    Where.SUBPROTOCOL: _of_subprotocol,
}
