"""Where a client's credential may stand in a request, and how the credential is hidden from endpoints.

An API key stands in X-API-Key, a password in Authorization: Basic (RFC 7617), and a token in one of several places:

    header              Authorization: Bearer <token> (RFC 6750 §2.1)
    header:NAME         NAME: <token>, or NAME: Bearer <token>; Authorization is then the service's own
    cookie:NAME         the cookie NAME
    query:NAME          the query parameter NAME; access_token by default (RFC 6750 §2.3)
    subprotocol         Sec-WebSocket-Protocol: bearer, <token>; or base64url.bearer.authorization.<any>.<token>
    ticket:NAME         the query parameter NAME of a request for a stream; a one-time ticket for a token

A ticket, and a token in the query or among the subprotocols, never reaches an endpoint. Credentials in other places
reach endpoints unless the configuration hides the credentials. Only kinds of credentials that a request may come with
are looked for: an X-API-Key that is not looked for belongs to the service.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tornado_gateway.errors import BEARER_CHALLENGE, BadRequest, Unauthorized
from tornado_gateway.policy.access import JWT, Kind
from tornado_gateway.policy.http.handshake import is_handshake
from tornado_gateway.policy.http.headers import Field, pairs, serialize
from tornado_gateway.policy.http.lists import members
from tornado_gateway.policy.http.negotiation import accepts_only
from tornado_gateway.policy.http.sse import EVENT_STREAM

BEARER, BASIC = b"bearer", b"basic"
API_KEY = b"x-api-key"
ACCESS_TOKEN = "access_token"  # noqa: S105  # the name of a parameter
TICKET = "ticket"
_IN_BASE64 = re.compile(rb"base64url\.bearer\.authorization\.(?:[A-Za-z0-9_-]+\.)*([A-Za-z0-9_-]+)")
_NEEDED = "one Authorization field with a bearer token is needed"
_ONLY_TOKENS = frozenset({JWT})

# In the order of a 401. No scheme of API keys is registered; "ApiKey" is the word of OpenAPI.
_CHALLENGES = {
    JWT: BEARER_CHALLENGE,
    Kind.KEY: b'ApiKey realm="gateway"',
    Kind.BASIC: b'Basic realm="gateway", charset="UTF-8"',
}

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
_FIELDS = {Kind.KEY: API_KEY, Kind.BASIC: AUTHORIZATION.name}  # of credentials that stand in one place


class Asked(NamedTuple):
    """The parts of a request that may hold a token.

    Attributes:
        known_fields: see FieldTable.interpret().
        block: all field lines of the request, with the empty line.
        target: of the request.
        method: of the request.
        client: the address by which failed attempts are counted.
    """

    known_fields: KnownFields
    block: bytes
    target: bytes
    method: bytes = b"GET"
    client: str = ""

    @property
    def is_for_stream(self) -> bool:
        """Whether an EventSource or a WebSocket of a browser asks: a GET for an event stream alone, or a handshake."""
        known = self.known_fields
        if b"upgrade" in known and is_handshake(self.method, known):
            return True
        return self.method == b"GET" and accepts_only(known.get(b"accept", ()), EVENT_STREAM)


class Presented(NamedTuple):
    """A credential, and where the credential stood.

    Attributes:
        kind: of the credential; NOTHING for a ticket, which tells the kind of its credential when it is redeemed.
        value: the token, the key, what follows "Basic", or the ticket.
        by_cookie: whether only a cookie held the token, so that a page of another origin may have caused the request.
        is_ticket: whether the value is a ticket.
        client: the address by which failed attempts are counted.
    """

    kind: Kind
    value: bytes
    by_cookie: bool = False
    is_ticket: bool = False
    client: str = ""


class TokenSources:
    """The places where credentials may stand.

    Args:
        sources: of tokens; at least one.
        hides: whether endpoints get no credential from a header or cookie.
        kinds: the kinds of credentials that can be checked. Others are never looked for.

    Attributes:
        hides_fields: whether endpoints get no credential from some field.
        hides_parameters: whether endpoints get no credential from some parameter of the query.
        edits_requests: whether visible_target() or visible_lines() ever change anything.
        field_names: names of the fields that may hold a credential, in lower case, without Cookie.
    """

    def __init__(
        self,
        sources: Sequence[Source] = (AUTHORIZATION,),
        *,
        hides: bool = False,
        kinds: frozenset[Kind] = _ONLY_TOKENS,
    ) -> None:
        self._only_header = tuple(sources) == (AUTHORIZATION,)
        self._sources = tuple(each for each in sources if each.where is not Where.TICKET)
        self._ticket_name = next((each.name for each in sources if each.where is Where.TICKET), b"")
        self._kinds = kinds
        self._reads_fields_alone = all(each.where not in _IN_QUERY for each in sources)
        self._hidden = {each for each in sources if hides or each.where in (*_IN_QUERY, Where.SUBPROTOCOL)}
        self._hidden_fields = _FIELDS if hides else {}
        self.hides_fields = hides or any(each.where not in _IN_QUERY for each in self._hidden)
        self._query_names = {each.name for each in self._hidden if each.where in _IN_QUERY}
        self.hides_parameters = bool(self._query_names)
        self.edits_requests = self.hides_fields or self.hides_parameters or Kind.KEY in kinds
        of_tokens = {each.name for each in sources if each.where is Where.HEADER}
        self.field_names = frozenset(of_tokens | {name for kind, name in _FIELDS.items() if kind in kinds})

    def find(self, asked: Asked, accepted: frozenset[Kind]) -> Presented:
        """The credential of a request.

        Args:
            accepted: the kinds of credentials to look for. Others belong to the service.

        Raises:
            BadRequest: a field that holds one credential occurs twice, so the service might read another credential.
            Unauthorized: there is no credential, or two places hold different credentials.
        """
        wanted = accepted & self._kinds
        if self._only_header and wanted == _ONLY_TOKENS:
            return Presented(JWT, _bearer(asked.known_fields.get(b"authorization", ())))
        found = [self._token(asked)] if JWT in wanted else []
        found += [_api_key(asked)] if Kind.KEY in wanted else []
        found += [_basic(asked)] if Kind.BASIC in wanted else []
        found += [self._ticket(asked)] if self._ticket_name else []
        presented = [each for each in found if each]
        if len(presented) > 1:
            raise Unauthorized("the request holds two different credentials")
        if not presented:
            raise Unauthorized("a credential is needed")
        return presented[0]

    def challenges(self, accepted: frozenset[Kind]) -> tuple[bytes, ...]:
        """The values of WWW-Authenticate of a 401 (RFC 9110 §11.6.1): a challenge for each accepted kind of credential.

        A challenge for a Bearer token, if no accepted kind has a challenge.
        """
        asked_for = accepted & self._kinds
        return tuple(challenge for kind, challenge in _CHALLENGES.items() if kind in asked_for) or (BEARER_CHALLENGE,)

    def _token(self, asked: Asked) -> Presented | None:
        found = {source: token for source in self._sources if (token := _READERS[source.where](asked, source.name))}
        tokens = set(found.values())
        if len(tokens) > 1:
            raise Unauthorized("the request holds two different tokens", invalid=True)
        if not tokens:
            return None
        return Presented(JWT, tokens.pop(), all(each.where is Where.COOKIE for each in found))

    def _ticket(self, asked: Asked) -> Presented | None:
        """A ticket is for streams alone: every other request can bring its credential in a field."""
        ticket = _of_query(asked, self._ticket_name) if asked.is_for_stream else b""
        return Presented(Kind.NOTHING, ticket, is_ticket=True) if ticket else None

    def tells_by_fields(self, presented: Presented) -> bool:
        """Whether the fields of a request alone say that find() finds the token, and no method or Origin counts.

        Args:
            presented: what find() has found.
        """
        return self._reads_fields_alone and presented.kind is JWT and not presented.by_cookie

    def may_hold(self, asked: Asked) -> bool:
        """Whether a place of the request holds anything that might be a credential, valid or not."""
        if any(name.lower() in self.field_names for name, _ in pairs(asked.block[:-2])):
            return True
        try:
            held = [_READERS[source.where](asked, source.name) for source in self._sources]
            held += [_of_query(asked, self._ticket_name)] if self._ticket_name else []
        except BadRequest:
            return True
        return any(held)

    def visible_target(self, target: bytes) -> bytes:
        """A target without the parameters that hold tokens."""
        if not self._query_names or b"?" not in target:
            return target
        path, mark, query = target.partition(b"?")
        kept = [each for each in query.split(b"&") if _name_of(each) not in self._query_names]
        return path + (mark + b"&".join(kept) if kept else b"")

    def visible_lines(self, lines: bytes, kind: Kind = JWT, *, without_copies: bool = False) -> bytes:
        """Field lines without credentials.

        Args:
            kind: of the credential that the request has been admitted with.
            without_copies: whether the request could have come with an API key, so that no X_API_Key passes unchecked.
        """
        if without_copies and Kind.KEY in self._kinds:
            lines = _without_copies(lines)
        if not self.hides_fields:
            return lines
        hidden = self._hidden_fields.get(kind)
        kept = [each for each in pairs(lines) if each[0].lower() != hidden]
        return serialize(list(filter(None, map(self._visible_field, kept))))

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
    scheme, token = _authorization(values)
    if scheme != BEARER or not token:
        raise Unauthorized(_NEEDED)
    return token


def _basic(asked: Asked) -> Presented | None:
    scheme, credential = _authorization(asked.known_fields.get(b"authorization", ()))
    return Presented(Kind.BASIC, credential, client=asked.client) if scheme == BASIC and credential else None


def _authorization(values: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The scheme in lower case, and what follows the scheme."""
    if len(values) > 1:  # RFC 9110 §5.3 and §11.6.2: not a list
        raise BadRequest("the request has more than one Authorization field")
    scheme, _, credential = values[0].partition(b" ") if values else (b"", b"", b"")
    return scheme.lower(), credential.strip(b" ")


def _api_key(asked: Asked) -> Presented | None:
    key = _field_value(asked, API_KEY)
    return Presented(Kind.KEY, key) if key else None


def _without_copies(lines: bytes) -> bytes:
    """Field lines without X_API_Key and the like: CGI servers would take the unchecked value for that of X-API-Key
    (Traefik GHSA-5m6w-wvh7-57vm)."""
    if b"_" not in lines:
        return lines
    return b"".join([line for line in lines.splitlines(keepends=True) if not _is_copy(line)])


def _is_copy(line: bytes) -> bool:
    name = line.partition(b":")[0].lower()
    return name != API_KEY and name.replace(b"_", b"-") == API_KEY


def _field_value(asked: Asked, name: bytes) -> bytes:
    """The value of a field that may occur once; b"" for none. A search costs a fifth of splitting all lines."""
    lines, begin = b"\n" + asked.block, b"\n%b:" % name
    lowered = lines.lower()
    place = lowered.find(begin)
    if place < 0:
        return b""
    if lowered.find(begin, place + 1) > 0:
        raise BadRequest(f"the request has more than one {name.decode('ascii')} field")
    place += len(begin)
    return lines[place : lines.index(b"\r", place)].strip(b" \t")


def _of_header(asked: Asked, name: bytes) -> bytes:
    if name == AUTHORIZATION.name:
        scheme, token = _authorization(asked.known_fields.get(name, ()))
        return token if scheme == BEARER else b""
    scheme, blank, token = _field_value(asked, name).partition(b" ")
    if scheme.lower() == BEARER:
        return token.strip(b" ")
    return b"" if blank else scheme


def _of_cookie(asked: Asked, name: bytes) -> bytes:
    cookies = [each.strip(b" \t") for value in asked.known_fields.get(b"cookie", ()) for each in value.split(b";")]
    found = {value for each, mark, value in (cookie.partition(b"=") for cookie in cookies) if mark and each == name}
    if len(found) > 1:
        raise BadRequest("the request has two cookies of the name that holds the token")
    return found.pop().strip(b'"') if found else b""


def _of_query(asked: Asked, name: bytes) -> bytes:
    pieces = asked.target.partition(b"?")[2].split(b"&")
    found = [piece.partition(b"=")[2] for piece in pieces if _name_of(piece) == name]
    if len(found) > 1:
        raise BadRequest("the request target has two parameters of the name that holds the token")
    return found[0] if found else b""


def _name_of(piece: bytes) -> bytes:
    """The name of a parameter as services read the name: "access%5Ftoken" is access_token (URL §5.1)."""
    name = piece.partition(b"=")[0]
    return unquote_to_bytes(name) if b"%" in name else name


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
