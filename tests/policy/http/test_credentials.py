"""Where tokens stand, and what endpoints see of the tokens."""

import base64

import pytest

from tornado_gateway.errors import BadRequest, Unauthorized
from tornado_gateway.policy.access import ANY, ANYTHING, RULES, Kind
from tornado_gateway.policy.http.credentials import AUTHORIZATION, Asked, Presented, Source, TokenSources, Where
from tornado_gateway.policy.http.headers import REQUEST_FIELDS

OWN_HEADER = Source(Where.HEADER, b"x-gateway-token")
COOKIE = Source(Where.COOKIE, b"session")
QUERY = Source(Where.QUERY, b"access_token")
SUBPROTOCOL = Source(Where.SUBPROTOCOL)
TICKET = Source(Where.TICKET, b"ticket")
ALL = (AUTHORIZATION, OWN_HEADER, COOKIE, QUERY, SUBPROTOCOL, TICKET)
ENCODED = b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"tok.en").rstrip(b"=")


def asked(*lines: bytes, target: bytes = b"/api/svc/x", method: bytes = b"GET") -> Asked:
    block = b"".join(line + b"\r\n" for line in lines)
    return Asked(REQUEST_FIELDS.interpret(block)[0], block + b"\r\n", target, method)


@pytest.mark.parametrize(
    ("source", "line", "target"),
    [
        (AUTHORIZATION, b"Authorization: bearer  tok.en ", b"/x"),
        (OWN_HEADER, b"X-Gateway-Token: tok.en", b"/x"),
        (OWN_HEADER, b"x-gateway-token:Bearer tok.en", b"/x"),
        (COOKIE, b"Cookie: a=b; session=tok.en;c=d", b"/x"),
        (COOKIE, b'cookie: session="tok.en"', b"/x"),
        (QUERY, b"A: b", b"/x?a=b&access_token=tok.en&c"),
        (QUERY, b"A: b", b"/x?access%5Ftoken=tok.en"),
        (SUBPROTOCOL, b"Sec-WebSocket-Protocol: bearer, tok.en, chat", b"/x"),
        (SUBPROTOCOL, b"Sec-WebSocket-Protocol: chat, " + ENCODED, b"/x"),
    ],
)
def test_a_token_is_read_where_it_may_stand_and_nowhere_else(source: Source, line: bytes, target: bytes) -> None:
    request = asked(line, target=target)
    for sources in ((source,), ALL):
        presented = TokenSources(sources).find(request, ANY)
        assert (presented.value, presented.by_cookie) == (b"tok.en", source is COOKIE)
    with pytest.raises(Unauthorized) as refused:
        TokenSources([each for each in ALL if each is not source]).find(request, ANY)
    assert b"invalid_token" not in refused.value.fields[0][1]


@pytest.mark.parametrize(
    "lines",
    [
        (), (b"Authorization: Basic tok.en",), (b"Authorization: tok.en",), (b"Authorization: Bearer",),
        (b"Cookie: session",), (b"Cookie: sessions=tok.en",), (b"X-Gateway-Token: Basic tok.en",),
        (b"Sec-WebSocket-Protocol: bearer",), (b"Sec-WebSocket-Protocol: chat, bearer, tok.en",),
        (b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.A",),
    ],
)  # fmt: skip
def test_without_a_token_a_token_is_asked_for(lines: tuple[bytes, ...]) -> None:
    for sources in (ALL, (AUTHORIZATION,)):
        with pytest.raises(Unauthorized):
            TokenSources(sources).find(asked(*lines), ANY)


def test_a_token_is_not_looked_for_where_none_is_accepted() -> None:
    with pytest.raises(Unauthorized):
        TokenSources(ALL).find(asked(b"Authorization: Bearer a"), RULES["key"])


HANDSHAKE = (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: a")
SHOWN = b"/x?a=b&ticket=tick.et"


@pytest.mark.parametrize("rule", ["any", "jwt", "key", "basic"])
@pytest.mark.parametrize(
    "lines", [(b"Accept: text/event-stream",), (b"Accept: text/event-stream, */*;q=0.1",), HANDSHAKE]
)
def test_a_request_for_a_stream_may_show_a_ticket(lines: tuple[bytes, ...], rule: str) -> None:
    presented = TokenSources(ALL).find(asked(*lines, target=SHOWN), RULES[rule])
    assert presented == Presented(Kind.NOTHING, b"tick.et", is_ticket=True)


@pytest.mark.parametrize(
    "request_",
    [
        asked(target=SHOWN), asked(b"Accept: */*", target=SHOWN), asked(b"Upgrade: h2c", target=SHOWN),
        asked(b"Accept: text/event-stream", target=SHOWN, method=b"POST"), asked(*HANDSHAKE, target=b"/x?tickets=a"),
        asked(*HANDSHAKE, target=SHOWN, method=b"POST"), asked(*HANDSHAKE, target=b"/x?ticket="),
    ],
    ids=["no accept", "any type", "another upgrade", "post", "another name", "posted handshake", "empty"],
)  # fmt: skip
def test_every_other_request_shows_none(request_: Asked) -> None:
    with pytest.raises(Unauthorized):
        TokenSources(ALL).find(request_, ANY)


def test_a_ticket_beside_a_token_is_refused() -> None:
    with pytest.raises(Unauthorized, match="two different credentials"):
        TokenSources(ALL).find(asked(*HANDSHAKE, b"Cookie: session=a", target=SHOWN), ANY)


def test_two_places_may_hold_one_token_but_not_two() -> None:
    same = asked(b"Authorization: Bearer a", b"Cookie: session=a")
    assert TokenSources(ALL).find(same, ANY).by_cookie is False
    for other in (
        asked(b"Authorization: Bearer a", b"Cookie: session=b"),
        asked(b"Cookie: session=a", target=b"/?access_token=b"),
    ):
        with pytest.raises(Unauthorized, match="two different tokens"):
            TokenSources(ALL).find(other, ANY)


@pytest.mark.parametrize(
    "request_",
    [
        asked(b"Authorization: Bearer a", b"authorization: Bearer a"),
        asked(b"X-Gateway-Token: a", b"X-Gateway-Token: a"),
        asked(b"Cookie: session=a; session=b"),
        asked(target=b"/?access_token=a&access_token=a"),
        asked(target=b"/?access_token=a&%61ccess_token=a"),
        asked(*HANDSHAKE, target=b"/?ticket=a&ticket=b"),
    ],
    ids=["authorization", "own field", "cookie", "query", "encoded", "ticket"],
)
def test_a_token_stands_once_in_its_place(request_: Asked) -> None:
    with pytest.raises(BadRequest):
        TokenSources(ALL).find(request_, ANY)


LINES = (
    b"Authorization: Bearer a\r\nX-Gateway-Token: a\r\nCookie: b=c; session=a; d=e\r\n"
    b"Sec-WebSocket-Protocol: bearer, a, chat\r\nETag: x\r\n"
)


def test_tokens_in_the_query_and_in_subprotocols_never_reach_an_endpoint() -> None:
    sources = TokenSources(ALL)
    assert sources.hides_fields
    assert sources.visible_lines(LINES) == LINES.replace(b"bearer, a, chat", b"chat")
    assert sources.visible_target(b"/x?a=1&access_token=t&b") == b"/x?a=1&b"
    assert sources.visible_target(b"/x?access_token=t") == b"/x"
    assert sources.visible_target(b"/x?%61ccess%5ftoken=t&a%5F=1&t%69cket=u") == b"/x?a%5F=1"
    assert sources.visible_target(b"/x?a=1&ticket=t&tickets=u") == b"/x?a=1&tickets=u"
    assert sources.visible_target(b"/x?my_access_token=t#?") == b"/x?my_access_token=t#?"
    assert sources.visible_protocols((b"chat", ENCODED)) == (b"chat",)
    assert sources.visible_protocols((b"chat", b"v2")) == (b"chat", b"v2")
    assert sources.visible_lines(b"Sec-WebSocket-Protocol: bearer, a\r\n") == b""


def test_tokens_in_headers_and_cookies_are_hidden_if_configured() -> None:
    hidden = TokenSources(ALL, hides=True)
    assert hidden.visible_lines(LINES) == b"Cookie: b=c; d=e\r\nSec-WebSocket-Protocol: chat\r\nETag: x\r\n"
    assert hidden.visible_lines(b"Cookie: session=a\r\n") == b""


def test_what_is_no_place_of_tokens_is_not_touched() -> None:
    plain = TokenSources()
    assert not plain.hides_fields
    assert not TokenSources((AUTHORIZATION, QUERY, TICKET)).hides_fields  # field lines then pass as bytes
    keys = TokenSources((TICKET,), hides=True, kinds=frozenset({Kind.KEY}))
    assert keys.hides_fields and keys.visible_lines(b"X-API-Key: a\r\n", Kind.KEY) == b""
    assert plain.visible_target(b"/x?access_token=t") == b"/x?access_token=t"
    assert plain.visible_protocols((b"bearer", b"a")) == (b"bearer", b"a")
    assert TokenSources(hides=True).visible_lines(LINES) == LINES.partition(b"\r\n")[2]


@pytest.mark.parametrize(
    ("source", "line", "target"),
    [
        (AUTHORIZATION, b"authorization: Basic x", b"/x"),
        (OWN_HEADER, b"X-Gateway-Token: not a token", b"/x"),
        (COOKIE, b"Cookie: session=x", b"/x"),
        (COOKIE, b"Cookie: session=x; session=y", b"/x"),
        (QUERY, b"A: b", b"/x?access_token=x"),
        (TICKET, b"A: b", b"/x?ticket=x"),
        (SUBPROTOCOL, b"Sec-WebSocket-Protocol: bearer, x", b"/x"),
    ],
)
def test_a_place_may_hold_a_credential_valid_or_not(source: Source, line: bytes, target: bytes) -> None:
    assert TokenSources([source]).may_hold(asked(line, target=target))
    assert not TokenSources([source]).may_hold(asked(b"A: b"))


def test_a_key_may_be_a_credential_where_keys_can_be_checked() -> None:
    assert TokenSources(kinds=RULES["key"]).may_hold(asked(b"X-Api-Key: k"))
    assert TokenSources([OWN_HEADER], kinds=RULES["basic"]).may_hold(asked(b"Authorization: x"))
    assert not TokenSources().may_hold(asked(b"X-Api-Key: k"))


# ---------------------------------------------------------------- keys and passwords

EVERY = TokenSources(kinds=ANY)
WITH_KEY, WITH_BASIC, WITH_BEARER = b"X-API-Key: k", b"Authorization: basic  YTpi ", b"Authorization: Bearer t"


@pytest.mark.parametrize("rule", ["any", "jwt", "key", "basic"])
@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [(WITH_KEY, "key", b"k"), (WITH_BASIC, "basic", b"YTpi"), (WITH_BEARER, "jwt", b"t"),
     (b"x-api-key:  k\t", "key", b"k")],
)  # fmt: skip
def test_a_credential_is_found_if_its_kind_is_accepted_and_can_be_checked(
    line: bytes, kind: str, value: bytes, rule: str
) -> None:
    request, accepted = asked(b"ETag: x", line), RULES[rule]
    if Kind(kind) in accepted:
        presented = EVERY.find(request, accepted)
        assert (presented.kind, presented.value, presented.by_cookie) == (Kind(kind), value, False)
        lacking = TokenSources(kinds=ANY - {Kind(kind)})
    else:
        lacking = EVERY
    with pytest.raises(Unauthorized):
        lacking.find(request, accepted)


def test_credentials_of_two_kinds_are_refused_only_where_both_are_looked_for() -> None:
    with_both = asked(WITH_KEY, WITH_BASIC)
    with pytest.raises(Unauthorized, match="two different credentials"):
        EVERY.find(with_both, ANY)
    with pytest.raises(Unauthorized, match="two different credentials"):
        EVERY.find(asked(WITH_KEY, WITH_BEARER), ANY)
    assert EVERY.find(with_both, RULES["key"]).kind is Kind.KEY
    assert EVERY.find(with_both, RULES["basic"]).kind is Kind.BASIC
    assert TokenSources(kinds=RULES["key"]).find(asked(WITH_KEY, WITH_BEARER), ANY).kind is Kind.KEY


@pytest.mark.parametrize(
    "lines",
    [(), (b"X-API-Key:",), (b"X_API_Key: k",), (b"Authorization: Basic",), (b"Authorization: Digest YTpi",),
     (b"Authorization: YTpi",), (b"Cookie: x-api-key=k",)],
)  # fmt: skip
def test_without_a_credential_a_credential_is_asked_for(lines: tuple[bytes, ...]) -> None:
    for rule in (ANY, RULES["key"], RULES["basic"], frozenset[Kind]()):
        with pytest.raises(Unauthorized, match="a credential is needed"):
            EVERY.find(asked(*lines), rule)


def test_a_key_or_a_password_stands_once_in_its_place() -> None:
    for request, rule in ((asked(WITH_KEY, WITH_KEY), "key"), (asked(WITH_BASIC, WITH_BEARER), "basic")):
        with pytest.raises(BadRequest):
            EVERY.find(request, RULES[rule])


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ((b"X-API-Key: k", b"ETag: x"), b"k"), ((b"ETag: x", b"x-api-key:\tk \t"), b"k"),
        ((b"A: x-api-key: j", b"X-Api-Key: k", b"My-X-API-Key: j", b"X-API-Keys: j"), b"k"),
        ((b"X-API-Key: a b:c", b"Cookie: \xffX-API-Key: j"), b"a b:c"),
    ],
)  # fmt: skip
def test_a_key_is_the_whole_value_of_its_field(lines: tuple[bytes, ...], value: bytes) -> None:
    assert EVERY.find(asked(*lines), RULES["key"]).value == value


def test_the_client_of_a_password_is_told_to_the_check() -> None:
    request = asked(WITH_BASIC)
    found = EVERY.find(Asked(request.known_fields, request.block, request.target, client="192.0.2.1"), ANY)
    assert found.client == "192.0.2.1"


@pytest.mark.parametrize(
    ("kinds", "rule", "schemes"),
    [
        (ANY, ANY, [b"Bearer", b"ApiKey", b"Basic"]),
        (ANY, RULES["key"], [b"ApiKey"]), (ANY, RULES["basic"], [b"Basic"]),
        (RULES["basic"], ANY, [b"Basic"]), (RULES["key"], RULES["jwt"], [b"Bearer"]), (ANY, frozenset(), [b"Bearer"]),
    ],
)  # fmt: skip
def test_a_refusal_names_the_ways_that_are_accepted(
    kinds: frozenset[Kind], rule: frozenset[Kind], schemes: list[bytes]
) -> None:
    assert [each.partition(b" ")[0] for each in TokenSources(kinds=kinds).challenges(rule)] == schemes


def test_a_password_is_asked_for_in_utf_8() -> None:
    assert EVERY.challenges(RULES["basic"]) == (b'Basic realm="gateway", charset="UTF-8"',)


def test_the_credential_that_was_looked_for_is_hidden_and_no_other() -> None:
    lines = b"X-API-Key: k\r\nx_api_key: k\r\nAuthorization: Basic YTpi\r\nETag: x\r\n"
    own_header = (OWN_HEADER,)
    hidden = TokenSources(own_header, hides=True, kinds=ANY)
    without_key = hidden.visible_lines(lines, Kind.KEY, without_copies=True)
    assert without_key == b"Authorization: Basic YTpi\r\nETag: x\r\n"
    assert hidden.visible_lines(lines, Kind.BASIC) == b"X-API-Key: k\r\nx_api_key: k\r\nETag: x\r\n"
    assert hidden.visible_lines(lines.replace(b"_", b"-"), Kind.KEY) == b"Authorization: Basic YTpi\r\nETag: x\r\n"
    for kind in (Kind.JWT, Kind.NOTHING):
        assert hidden.visible_lines(lines, kind) == lines
    shown = TokenSources(own_header, kinds=ANY)
    for kind in ANYTHING - {Kind.KEY}:
        assert shown.visible_lines(lines, kind) == lines


def test_beside_a_checked_key_no_copy_reaches_an_endpoint_that_would_read_the_copy_as_the_key() -> None:
    shown = TokenSources(kinds=ANY)
    lines = b"X-API-Key: k\r\nX_API_Key: j\r\nx-api_key: j\r\nX_API_Keys: j\r\nETag: _\r\n"
    for kind in (Kind.KEY, Kind.JWT):  # a token is no reason to let an unchecked key pass
        visible = shown.visible_lines(lines, kind, without_copies=True)
        assert visible == b"X-API-Key: k\r\nX_API_Keys: j\r\nETag: _\r\n"
    assert shown.visible_lines(lines, Kind.JWT) == lines
    assert TokenSources().visible_lines(lines, without_copies=True) == lines  # no key is known
    assert shown.visible_lines(lines[:14], Kind.KEY, without_copies=True) == lines[:14]


def test_fields_alone_tell_a_token_unless_a_place_is_in_the_query() -> None:
    token = Presented(Kind.JWT, b"t")
    assert TokenSources((AUTHORIZATION, COOKIE, SUBPROTOCOL)).tells_by_fields(token)
    assert not any(TokenSources((AUTHORIZATION, each)).tells_by_fields(token) for each in (QUERY, TICKET))
    others = (Presented(Kind.KEY, b"k"), Presented(Kind.BASIC, b"b"), Presented(Kind.JWT, b"t", by_cookie=True))
    assert not any(TokenSources((AUTHORIZATION, COOKIE)).tells_by_fields(each) for each in others)
