"""The opening handshake of a WebSocket, checked on both sides. Section numbers are those of RFC 6455."""

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest, GatewayError, OriginNotAllowed, UpgradeRequired, UpstreamInvalid
from tornado_gateway.policy.http.authority import parse_origin
from tornado_gateway.policy.http.frames import ANY_RSV, COMPRESSED
from tornado_gateway.policy.http.handshake import (
    ANY_ORIGIN,
    SAME_ORIGIN,
    Offer,
    accept_value,
    check_answer,
    check_origin,
    fields_by_name,
    read_offer,
)
from tornado_gateway.policy.http.headers import Field

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # §1.3, with the answer it must have
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

ASKED: dict[bytes, bytes] = {
    b"Host": b"gateway.example",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Version": b"13",
    b"Sec-WebSocket-Key": KEY,
}
ANSWERED: dict[bytes, bytes] = {b"Upgrade": b"websocket", b"Connection": b"Upgrade", b"Sec-WebSocket-Accept": ACCEPT}
ANYTHING = Offer(KEY, (b"chat", b"superchat"), frozenset((b"permessage-deflate", b"x-other")), None)


def changed(fields: dict[bytes, bytes], name: bytes, *values: bytes) -> list[Field]:
    """Fields with other values for a field; without the field if there are no values."""
    return [(other, value) for other, value in fields.items() if other != name] + [(name, value) for value in values]


def test_the_accept_value_is_that_of_the_rfcs_example() -> None:
    assert accept_value(KEY) == ACCEPT


def test_values_are_found_by_lower_case_name_in_their_order() -> None:
    assert fields_by_name([(b"A-b", b"1"), (b"c", b"2"), (b"a-B", b"3")]) == {b"a-b": [b"1", b"3"], b"c": [b"2"]}


# ---------------------------------------------------------------- what a client asks for


def test_an_offer_tells_what_the_client_wrote() -> None:
    fields = [
        *ASKED.items(),
        (b"Origin", b"https://App.example"),
        (b"Sec-WebSocket-Protocol", b"chat, SuperChat ,"),
        (b"sec-websocket-protocol", b"mqtt"),
        (b"Sec-WebSocket-Extensions", b"Permessage-Deflate; client_max_window_bits, x-other;a=1"),
        (b"Sec-WebSocket-Extensions", b"x-third"),
    ]
    assert read_offer(fields, 1) == Offer(
        KEY,
        (b"chat", b"SuperChat", b"mqtt"),
        frozenset((b"permessage-deflate", b"x-other", b"x-third")),
        b"https://App.example",
    )


def test_an_offer_may_be_empty() -> None:
    assert read_offer(list(ASKED.items()), 1) == Offer(KEY, (), frozenset(), None)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Upgrade", (b"WebSocket",)),
        (b"Upgrade", (b"h2c, websocket",)),
        (b"Upgrade", (b"websocket, h2c",)),
        (b"Upgrade", (b"h2c", b"websocket")),
        (b"Connection", (b"keep-alive, Upgrade",)),  # Firefox
        (b"Connection", (b"upgrade,close",)),
        (b"Connection", (b", ,upgrade,",)),
        (b"Upgrade", (b",websocket,", b"")),
        (b"Connection", (b"keep-alive", b"UPGRADE")),
        (b"Origin", (b"null",)),
    ],
)
def test_a_handshake_is_known_however_its_lists_are_written(name: bytes, values: tuple[bytes, ...]) -> None:
    assert read_offer(changed(ASKED, name, *values), 1).key == KEY


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        (b"Upgrade", (), UpgradeRequired),
        (b"Upgrade", (b"",), UpgradeRequired),
        (b"Upgrade", (b"h2c",), UpgradeRequired),
        (b"Upgrade", (b"websockets",), UpgradeRequired),
        (b"Upgrade", (b"websocket h2c",), UpgradeRequired),
        (b"Connection", (), UpgradeRequired),
        (b"Connection", (b"keep-alive",), UpgradeRequired),
        (b"Connection", (b"xupgrade",), UpgradeRequired),
        (b"Connection", (b",",), UpgradeRequired),
        (b"Sec-WebSocket-Version", (), UpgradeRequired),
        (b"Sec-WebSocket-Version", (b"8",), UpgradeRequired),
        (b"Sec-WebSocket-Version", (b"13, 8",), UpgradeRequired),
        (b"Sec-WebSocket-Version", (b"013",), UpgradeRequired),
        (b"Sec-WebSocket-Version", (b"13", b"13"), BadRequest),
        (b"Sec-WebSocket-Key", (), BadRequest),
        (b"Sec-WebSocket-Key", (b"",), BadRequest),
        (b"Sec-WebSocket-Key", (KEY, KEY), BadRequest),
        (b"Sec-WebSocket-Key", (b"%b, %b" % (KEY, KEY),), BadRequest),
        (b"Sec-WebSocket-Key", (KEY[:-2],), BadRequest),
        (b"Sec-WebSocket-Key", (base64.b64encode(bytes(15)),), BadRequest),
        (b"Sec-WebSocket-Key", (base64.b64encode(bytes(17)),), BadRequest),
        (b"Sec-WebSocket-Key", (b" ".join((KEY[:8], KEY[8:])),), BadRequest),
        (b"Sec-WebSocket-Key", (b"dGhlIHNhbXBsZSBub25j!Q==",), BadRequest),
        (b"Sec-WebSocket-Key", (b"\xe9" * 24,), BadRequest),
        (b"Origin", (b"https://a.example", b"https://a.example"), BadRequest),
    ],
)
def test_an_invalid_handshake_is_refused(name: bytes, values: tuple[bytes, ...], error: type[GatewayError]) -> None:
    with pytest.raises(BadRequest) as raised:
        read_offer(changed(ASKED, name, *values), 1)
    assert type(raised.value) is error


def test_http_1_0_has_no_upgrades() -> None:
    with pytest.raises(UpgradeRequired):
        read_offer(list(ASKED.items()), 0)


def test_another_version_is_answered_with_the_supported_version() -> None:  # §4.4
    with pytest.raises(UpgradeRequired) as raised:
        read_offer(changed(ASKED, b"Sec-WebSocket-Version", b"8"), 1)
    assert raised.value.status == 426
    assert set(raised.value.fields) == {
        (b"Sec-WebSocket-Version", b"13"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"),
    }  # fmt: skip


# ---------------------------------------------------------------- what an upstream answers


@pytest.mark.parametrize(
    ("lines", "rsv"),
    [
        ([], 0),
        ([(b"Sec-WebSocket-Protocol", b"superchat")], 0),
        ([(b"Sec-WebSocket-Extensions", b"permessage-deflate")], COMPRESSED),
        ([(b"sec-websocket-extensions", b"PerMessage-Deflate; server_no_context_takeover")], COMPRESSED),
        ([(b"Sec-WebSocket-Extensions", b"x-other")], ANY_RSV),
        ([(b"Sec-WebSocket-Extensions", b"permessage-deflate, x-other; a=1")], ANY_RSV),
        ([(b"Sec-WebSocket-Extensions", b"x-other"), (b"Sec-WebSocket-Extensions", b"permessage-deflate")], ANY_RSV),
        ([(b"Sec-WebSocket-Extensions", b"")], 0),
        ([(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")], 0),
    ],
)
def test_reserved_bits_are_those_of_the_extensions_that_were_agreed_on(lines: list[Field], rsv: int) -> None:
    assert check_answer([*ANSWERED.items(), *lines], ANYTHING, KEY) == rsv


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Upgrade", (b"WebSocket",)),
        (b"Connection", (b"upgrade",)),
        (b"Connection", (b"keep-alive, Upgrade",)),
        (b"Connection", (b"keep-alive", b"Upgrade")),
    ],
)
def test_an_answer_is_known_however_its_lists_are_written(name: bytes, values: tuple[bytes, ...]) -> None:
    assert check_answer(changed(ANSWERED, name, *values), ANYTHING, KEY) == 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Upgrade", ()),
        (b"Upgrade", (b"h2c",)),
        (b"Connection", ()),
        (b"Connection", (b"close",)),
        (b"Sec-WebSocket-Accept", ()),
        (b"Sec-WebSocket-Accept", (ACCEPT.lower(),)),
        (b"Sec-WebSocket-Accept", (ACCEPT, ACCEPT)),
        (b"Sec-WebSocket-Accept", (accept_value(b"another"),)),
        (b"Sec-WebSocket-Protocol", (b"mqtt",)),
        (b"Sec-WebSocket-Protocol", (b"Chat",)),  # §4.1: compared as they are
        (b"Sec-WebSocket-Protocol", (b"",)),
        (b"Sec-WebSocket-Protocol", (b"chat, superchat",)),
        (b"Sec-WebSocket-Protocol", (b"chat", b"chat")),
        (b"Sec-WebSocket-Extensions", (b"x-webkit-deflate-frame",)),
        (b"Sec-WebSocket-Extensions", (b"permessage-deflate, x-unknown",)),
    ],
)
def test_an_answer_that_a_client_would_refuse_is_refused(name: bytes, values: tuple[bytes, ...]) -> None:  # W2
    with pytest.raises(UpstreamInvalid):
        check_answer(changed(ANSWERED, name, *values), ANYTHING, KEY)


@pytest.mark.parametrize("name", [b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"])
def test_an_answer_cannot_choose_without_an_offer(name: bytes) -> None:  # W2
    with pytest.raises(UpstreamInvalid):
        check_answer(changed(ANSWERED, name, b"chat"), Offer(KEY, (), frozenset(), None), KEY)


# ---------------------------------------------------------------- whose pages may connect

HOST = b"gateway.example"


@pytest.mark.parametrize(
    ("origin", "allowed", "host"),
    [
        (None, (), HOST),  # no browser
        (b"https://evil.example", (ANY_ORIGIN,), HOST),
        (b"null", (ANY_ORIGIN,), HOST),
        (b"http://[", (ANY_ORIGIN,), HOST),
        (b"https://app.example", ("https://app.example",), HOST),
        (b"HTTPS://App.Example", ("https://app.example",), HOST),
        (b"https://app.example:8443", ("https://a.example", "https://app.example:8443"), HOST),
        (b"http://gateway.example", (SAME_ORIGIN,), HOST),
        (b"https://gateway.example", (SAME_ORIGIN,), HOST),  # TLS may end in front of the gateway
        (b"https://Gateway.Example", (SAME_ORIGIN,), b"GATEWAY.example"),
        (b"http://gateway.example", (SAME_ORIGIN,), HOST + b":80"),
        (b"https://gateway.example", (SAME_ORIGIN,), HOST + b":443"),
        (b"http://gateway.example:80", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example:8080", (SAME_ORIGIN,), HOST + b":8080"),
        (b"http://[::1]:8080", (SAME_ORIGIN,), b"[::1]:8080"),
        (b"http://[::1]", (SAME_ORIGIN,), b"[::1]:80"),
        (b"http://gateway.example", ("https://app.example", SAME_ORIGIN), HOST),
        (b"https://app.example:443", ("https://app.example",), HOST),
        (b"http://[0:0::1]:80", (SAME_ORIGIN,), b"[::1]"),
        (b"http://[2001:DB8::1]", (SAME_ORIGIN,), b"[2001:db8:0::1]:80"),
        (b"http://gateway.example.", (SAME_ORIGIN,), HOST + b"."),
        (b"http://[2001:DB8::0:1]:80", ("http://[2001:db8::1]",), HOST),
        (b"https://app.example", ("https://app.example", SAME_ORIGIN), HOST),
    ],
)
def test_origins_that_may_connect(origin: bytes | None, allowed: tuple[str, ...], host: bytes) -> None:  # W5
    check_origin(origin, allowed, host)


@pytest.mark.parametrize(
    ("origin", "allowed", "host"),
    [
        (b"https://evil.example", (), HOST),
        (b"https://evil.example", ("https://app.example",), HOST),
        (b"https://app.example.evil.example", ("https://app.example",), HOST),
        (b"https://evil-app.example", ("https://app.example",), HOST),
        (b"http://app.example", ("https://app.example",), HOST),
        (b"https://app.example:8443", ("https://app.example",), HOST),
        (b"https://app.example/", ("https://app.example",), HOST),
        (b"https://app.example https://evil.example", ("https://app.example",), HOST),
        (b"same-origin", ("https://app.example",), HOST),
        (b"same-origin", (SAME_ORIGIN,), HOST),
        (b"http://[::1]", (SAME_ORIGIN,), b"[::2]"),
        (b"http://gateway.example:99999", (SAME_ORIGIN,), HOST + b":99999"),
        (b"https://app.example:80", ("https://app.example",), HOST),
        (b"", ("https://app.example", SAME_ORIGIN), HOST),
        (b"null", ("https://app.example", SAME_ORIGIN), HOST),  # a sandboxed frame may be anybody's
        (b"gateway.example", (SAME_ORIGIN,), HOST),
        (b"http://", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example:8080", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example", (SAME_ORIGIN,), HOST + b":8080"),
        (b"http://gateway.example:443", (SAME_ORIGIN,), HOST),
        (b"https://gateway.example:80", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example", (SAME_ORIGIN,), HOST + b":443"),
        (b"http://evil.example@gateway.example", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example@evil.example", (SAME_ORIGIN,), HOST),
        (b"http://evil.example/gateway.example", (SAME_ORIGIN,), HOST),
        (b"http://evil.gateway.example", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example.", (SAME_ORIGIN,), HOST),
        (b"http://gateway.example/", (SAME_ORIGIN,), HOST),
        (b"//gateway.example", (SAME_ORIGIN,), HOST),
        (b"ftp://gateway.example", (SAME_ORIGIN,), HOST),
        (b"http://[", (SAME_ORIGIN,), HOST),
        (b"http://[::1", (SAME_ORIGIN,), HOST),
        (b"http://[x]", (SAME_ORIGIN,), HOST),
        (b"http://\xe9\xbf", (SAME_ORIGIN,), HOST),
    ],
)
def test_origins_that_may_not(origin: bytes, allowed: tuple[str, ...], host: bytes) -> None:  # W5
    with pytest.raises(OriginNotAllowed):
        check_origin(origin, allowed, host)


# ---------------------------------------------------------------- anything at all

NAMES = (
    b"upgrade", b"Connection", b"Sec-WebSocket-Version", b"SEC-WEBSOCKET-KEY", b"Sec-WebSocket-Accept", b"origin",
    b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions",
)  # fmt: skip
LIKELY = (
    b"websocket",
    b"upgrade",
    b"13",
    KEY,
    ACCEPT,
    b"chat",
    b"permessage-deflate",
    b'x;a="b,c"',
    b",;,",
    b"http://[",
)
values = st.sampled_from(LIKELY) | st.binary(max_size=24)
any_fields = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=10)
IS_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


@given(any_fields, st.sampled_from([0, 1]))
@example([(b"Sec-WebSocket-Extensions", b",;,")], 1)
def test_any_fields_are_an_offer_or_refused(fields: list[Field], minor: int) -> None:
    try:
        offer = read_offer([*ASKED.items(), *fields], minor)
    except BadRequest:
        return
    said = fields_by_name([*ASKED.items(), *fields])
    assert said[b"sec-websocket-version"] == [b"13"]
    assert said[b"sec-websocket-key"] == [offer.key]
    assert IS_KEY.fullmatch(offer.key)
    assert all(offer.protocols)
    assert b"" not in offer.extensions


@given(any_fields)
def test_any_fields_without_those_of_a_handshake_are_an_offer_or_refused(fields: list[Field]) -> None:
    try:
        offer = read_offer(fields, 1)
    except BadRequest:
        return
    assert IS_KEY.fullmatch(offer.key)


@given(any_fields, any_fields)
def test_any_answer_stays_within_any_offer_or_is_refused(asked: list[Field], answered: list[Field]) -> None:
    try:
        offer = read_offer([*ASKED.items(), *asked], 1)
    except BadRequest:
        offer = ANYTHING
    try:
        rsv = check_answer([*ANSWERED.items(), *answered], offer, KEY)
    except UpstreamInvalid:
        return
    assert rsv in (0, COMPRESSED, ANY_RSV)
    assert set(fields_by_name(answered).get(b"sec-websocket-protocol", [])) <= set(offer.protocols)


@given(
    values | st.sampled_from([b"http://", b"https://"]).flatmap(lambda scheme: values.map(lambda rest: scheme + rest)),
    st.sets(st.sampled_from(["https://app.example", SAME_ORIGIN])),
)
def test_any_origin_is_allowed_or_not(origin: bytes, allowed: set[str]) -> None:
    try:
        check_origin(origin, allowed, HOST)
    except OriginNotAllowed:
        return
    page = parse_origin(origin.decode())
    assert page in ("https://app.example", "http://gateway.example", "https://gateway.example")
