"""Opening handshakes: what a client must ask, what a service may answer, whose pages may connect (RFC 6455 §4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest, GatewayError, OriginNotAllowed, UpgradeRequired, UpstreamInvalid
from tornado_gateway.policy.frames import ANY_RSV, COMPRESSED
from tornado_gateway.policy.handshake import (
    ANY_ORIGIN,
    SAME_ORIGIN,
    Offer,
    accept_value,
    check_answer,
    check_origin,
    named,
    read_offer,
)
from tornado_gateway.policy.headers import Field

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ASKED: list[Field] = [
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", KEY),
]
ANSWERED: list[Field] = [
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Accept", accept_value(KEY)),
]


def but(fields: list[Field], *others: Field, without: bytes = b"") -> list[Field]:
    """The fields, with some replaced by others of their names, or left out."""
    replaced = {name.lower() for name, _ in others} | {without.lower()}
    return [field for field in fields if field[0].lower() not in replaced] + list(others)


# ---------------------------------------------------------------- what a client asks


def test_an_offer_is_read_as_it_was_written() -> None:
    offer = read_offer(
        [
            *ASKED,
            (b"Sec-WebSocket-Protocol", b"chat, Super.Chat"),
            (b"sec-websocket-protocol", b"json"),
            (b"Sec-WebSocket-Extensions", b"Permessage-Deflate; client_max_window_bits, x-other"),
            (b"Origin", b"https://app.example"),
        ],
        1,
    )
    assert offer == Offer(
        KEY, (b"chat", b"Super.Chat", b"json"), frozenset((b"permessage-deflate", b"x-other")), b"https://app.example"
    )


@pytest.mark.parametrize(
    "fields",
    [
        but(ASKED, (b"Upgrade", b"WebSocket")),
        but(ASKED, (b"Upgrade", b"h2c, websocket")),
        but(ASKED, (b"Connection", b"keep-alive, UPGRADE")),
        but(ASKED, (b"Connection", b"keep-alive"), (b"Connection", b"upgrade")),
    ],
)
def test_tokens_stand_in_lists_in_any_case(fields: list[Field]) -> None:
    assert read_offer(fields, 1).key == KEY


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (but(ASKED, without=b"Upgrade"), UpgradeRequired),
        (but(ASKED, (b"Upgrade", b"h2c")), UpgradeRequired),
        (but(ASKED, (b"Upgrade", b"websockets")), UpgradeRequired),
        (but(ASKED, without=b"Connection"), UpgradeRequired),
        (but(ASKED, (b"Connection", b"keep-alive")), UpgradeRequired),
        (but(ASKED, without=b"Sec-WebSocket-Version"), UpgradeRequired),
        (but(ASKED, (b"Sec-WebSocket-Version", b"8")), UpgradeRequired),
        (but(ASKED, (b"Sec-WebSocket-Version", b"13, 8")), UpgradeRequired),
        (but(ASKED, without=b"Sec-WebSocket-Key"), BadRequest),
        (but(ASKED, (b"Sec-WebSocket-Key", b"x")), BadRequest),
        (but(ASKED, (b"Sec-WebSocket-Key", KEY[:-4])), BadRequest),
        (but(ASKED, (b"Sec-WebSocket-Key", b"\xff" * 24)), BadRequest),
        ([*ASKED, (b"Sec-WebSocket-Key", KEY)], BadRequest),
        ([*ASKED, (b"Origin", b"https://a"), (b"Origin", b"https://b")], BadRequest),
    ],
)
def test_what_is_no_handshake_is_refused(fields: list[Field], error: type[GatewayError]) -> None:
    with pytest.raises(error):
        read_offer(fields, 1)


def test_http_1_0_has_no_upgrade() -> None:
    with pytest.raises(UpgradeRequired):
        read_offer(ASKED, 0)


def test_whoever_needs_another_version_is_told_which() -> None:
    with pytest.raises(UpgradeRequired) as refused:
        read_offer(but(ASKED, (b"Sec-WebSocket-Version", b"8")), 1)
    assert named(refused.value.fields)[b"sec-websocket-version"] == [b"13"]


# ---------------------------------------------------------------- what a service answers


def offer(*protocols: bytes, extensions: tuple[bytes, ...] = ()) -> Offer:
    return Offer(KEY, protocols, frozenset(extensions), None)


def test_the_accept_value_is_that_of_the_rfc() -> None:
    assert accept_value(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3


@pytest.mark.parametrize(
    ("extra", "asked", "rsv"),
    [
        ([], offer(), 0),
        ([], offer(b"a", b"b"), 0),
        ([(b"Sec-WebSocket-Protocol", b"b")], offer(b"a", b"b"), 0),
        (
            [(b"Sec-WebSocket-Extensions", b"permessage-deflate")],
            offer(extensions=(b"permessage-deflate",)),
            COMPRESSED,
        ),
        (
            [(b"Sec-WebSocket-Extensions", b"PerMessage-Deflate; server_max_window_bits=10")],
            offer(extensions=(b"permessage-deflate",)),
            COMPRESSED,
        ),
        ([(b"Sec-WebSocket-Extensions", b"x-own")], offer(extensions=(b"x-own", b"permessage-deflate")), ANY_RSV),
        (
            [(b"Sec-WebSocket-Extensions", b"x-own, permessage-deflate")],
            offer(extensions=(b"x-own", b"permessage-deflate")),
            ANY_RSV,
        ),
    ],
)
def test_what_was_offered_may_be_chosen(extra: list[Field], asked: Offer, rsv: int) -> None:
    assert check_answer([*ANSWERED, *extra], asked, KEY) == rsv


@pytest.mark.parametrize(
    "fields",
    [
        but(ANSWERED, without=b"Upgrade"),
        but(ANSWERED, (b"Upgrade", b"h2c")),
        but(ANSWERED, without=b"Connection"),
        but(ANSWERED, (b"Connection", b"close")),
        but(ANSWERED, without=b"Sec-WebSocket-Accept"),
        but(ANSWERED, (b"Sec-WebSocket-Accept", accept_value(b"another"))),
        [*ANSWERED, ANSWERED[2]],
        [*ANSWERED, (b"Sec-WebSocket-Protocol", b"z")],
        [*ANSWERED, (b"Sec-WebSocket-Protocol", b"A")],
        [*ANSWERED, (b"Sec-WebSocket-Protocol", b"a, b")],
        [*ANSWERED, (b"Sec-WebSocket-Protocol", b"a"), (b"Sec-WebSocket-Protocol", b"a")],
        [*ANSWERED, (b"Sec-WebSocket-Extensions", b"permessage-deflate")],
    ],
)
def test_an_answer_that_a_client_would_have_to_refuse_is_invalid(fields: list[Field]) -> None:
    with pytest.raises(UpstreamInvalid):
        check_answer(fields, offer(b"a", b"b"), KEY)


# ---------------------------------------------------------------- whose pages may connect


@pytest.mark.parametrize(
    ("origin", "allowed", "host", "expected"),
    [
        (b"https://evil.example", {ANY_ORIGIN}, b"a", True),
        (None, {"https://good.example"}, b"a", True),
        (b"https://good.example", {"https://good.example"}, b"a", True),
        (b"HTTPS://Good.Example", {"https://good.example"}, b"a", True),
        (b"https://good.example:8443", {"https://good.example"}, b"a", False),
        (b"http://good.example", {"https://good.example"}, b"a", False),
        (b"https://good.example.evil.example", {"https://good.example"}, b"a", False),
        (b"null", {"https://good.example"}, b"a", False),
        (b"", {"https://good.example"}, b"a", False),
        (b"https://app.example", {SAME_ORIGIN}, b"app.example", True),
        (b"https://app.example:443", {SAME_ORIGIN}, b"APP.example", True),
        (b"https://app.example", {SAME_ORIGIN}, b"app.example:443", True),
        (b"http://app.example:8080", {SAME_ORIGIN}, b"app.example:8080", True),
        (b"http://app.example:8080", {SAME_ORIGIN}, b"app.example", False),
        (b"https://app.example.evil", {SAME_ORIGIN}, b"app.example", False),
        (b"null", {SAME_ORIGIN}, b"", False),
        (b"null", {SAME_ORIGIN}, b"null", False),
        (b"\xff", {SAME_ORIGIN}, b"\xff", False),
        (b"https://other.example", {SAME_ORIGIN, "https://other.example"}, b"app.example", True),
    ],
)
def test_whose_pages_may_connect(origin: bytes | None, allowed: set[str], host: bytes, expected: bool) -> None:
    if expected:
        check_origin(origin, allowed, host)
        return
    with pytest.raises(OriginNotAllowed):
        check_origin(origin, allowed, host)


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in ASKED] + [b"Origin"]), st.binary(max_size=30))))
def test_no_bytes_do_more_than_be_refused(fields: list[Field]) -> None:
    try:
        asked = read_offer([*ASKED, *fields], 1)
        check_origin(asked.origin, {SAME_ORIGIN}, b"a")
        check_answer([*ANSWERED, *fields], asked, KEY)
    except GatewayError:
        pass
