"""What a ticket says, who may use it, and how it is asked for."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.principal import ANYBODY, Principal
from tornado_gateway.policy.tickets.ticket import (
    MAX_REQUEST,
    MAX_SIZE,
    TTL,
    Ticket,
    Use,
    digest,
    has_form,
    read_request,
)

PAGE = b"https://app.example"
ADA = Principal.of(
    {"sub": "ada", "iss": "id", "jti": "7", "exp": 1_000_100, "scope": "read write", "groups": ["a", "é"]}
)


@pytest.mark.parametrize("origin", [None, PAGE, b"null", b"\xff"])
@pytest.mark.parametrize("principal", [ADA, ANYBODY, Principal("", "key:a", {}, frozenset({"b"}), math.inf)])
@pytest.mark.parametrize("kind", Kind)
def test_a_ticket_is_read_as_it_was_written(origin: bytes | None, principal: Principal, kind: Kind) -> None:
    ticket = Ticket(principal, kind, "chat", origin)
    assert Ticket.of_bytes(ticket.to_bytes()) == ticket


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(claims=st.dictionaries(st.text() | st.sampled_from(["sub", "iss", "scope", "scp", "jti"]), JSON, max_size=5))
def test_whatever_a_token_says_is_kept(claims: dict[str, Any]) -> None:
    ticket = Ticket(Principal.of(claims), Kind.JWT, "chat", PAGE)
    assert Ticket.of_bytes(ticket.to_bytes()) == ticket


def test_claims_of_any_text_are_kept() -> None:
    claims = {"a": "\ud800\x00\n", "b": {"c": [None, 1.5, True]}}
    assert Ticket.of_bytes(Ticket(Principal.of(claims), Kind.JWT, "chat").to_bytes()).principal.claims == claims


def test_a_ticket_is_bounded() -> None:
    def of_size(size: int) -> bytes:
        return Ticket(Principal.of({"a": "x" * size}), Kind.JWT, "chat").to_bytes()

    around = len(of_size(0))
    assert len(of_size(MAX_SIZE - around)) == MAX_SIZE
    with pytest.raises(BadRequest):
        of_size(MAX_SIZE - around + 1)


WRITTEN = json.loads(Ticket(ADA, Kind.JWT, "chat", PAGE).to_bytes())


BROKEN = [
    b"", b"{", b"\xff", b"[]", b"{}", b"null", b"[" * 100_000,
    *(json.dumps({**WRITTEN, name: value}).encode() for name, value in (
        ("kind", "unknown"), ("expiry", "soon"), ("scopes", None), ("origin", 7), ("origin", "€"),
    )),
    *(json.dumps({name: value for name, value in WRITTEN.items() if name != left}).encode() for left in WRITTEN),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_what_is_no_ticket_is_told(number: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Ticket.of_bytes(BROKEN[number])


@pytest.mark.parametrize(
    ("made_by", "used_by", "host", "fits"),
    [
        (PAGE, PAGE, b"gateway.example", True),
        (PAGE, b"https://evil.example", b"gateway.example", False),
        (PAGE, b"http://app.example", b"app.example", False),
        (PAGE, b"HTTPS://app.example", b"app.example", False),  # browsers spell their origin in one way
        (PAGE, b"null", b"app.example", False),
        (PAGE, b"", b"app.example", False),
        (PAGE, None, b"gateway.example", False),
        (PAGE, None, b"app.example", True),  # an EventSource of the same origin
        (PAGE, None, b"App.Example:443", True),
        (PAGE, None, b"app.example:8443", False),
        (None, None, b"gateway.example", True),
        (None, PAGE, b"app.example", False),
        (b"null", None, b"null", False),
        (b"null", b"null", b"gateway.example", True),
    ],
)
def test_a_ticket_is_for_the_page_that_made_it(
    made_by: bytes | None, used_by: bytes | None, host: bytes, fits: bool
) -> None:
    assert Ticket(ADA, Kind.JWT, "chat", made_by).is_for(Use("chat", used_by, host)) is fits


@pytest.mark.parametrize("service", ["", "mail", "Chat", "chat "])
def test_a_ticket_is_for_one_service(service: str) -> None:
    assert not Ticket(ADA, Kind.JWT, "chat").is_for(Use(service, None, b""))


@pytest.mark.parametrize(
    ("wall", "seconds"), [(0.0, TTL), (1_000_070.0, TTL), (1_000_080.0, 20.0), (1_000_100.0, 0.0), (1_000_101.0, -1.0)]
)
def test_a_ticket_does_not_outlive_its_token(wall: float, seconds: float) -> None:
    assert Ticket(ADA, Kind.JWT, "chat").seconds(wall) == seconds
    assert Ticket(ANYBODY, Kind.KEY, "chat").seconds(wall) == TTL


def test_a_store_never_sees_the_ticket() -> None:
    name = digest(b"a" * 32)
    assert (len(name), "aaa" in name) == (64, False)
    assert name != digest(b"a" * 31 + b"b")


@pytest.mark.parametrize("text", [b"", b"a" * 31, b"a" * 33, b"a" * 31 + b"=", b"a" * 31 + b"\n", b"a" * 31 + b"%"])
def test_a_text_without_the_form_is_no_ticket(text: bytes) -> None:
    assert has_form(b"aZ09_-" + b"a" * 26)
    assert not has_form(text)


def padded(size: int) -> bytes:
    return b'{"service":"chat"}'.ljust(size)


@pytest.mark.parametrize("body", [b'{"service":"chat"}', b' {"service" : "chat"}\n', padded(MAX_REQUEST)])
def test_a_request_names_its_service(body: bytes) -> None:
    assert read_request(body) == "chat"


WRONG = {
    "empty": b"", "no JSON": b"service=chat", "no UTF-8": b'{"service":"\xff"}', "another value": b'"chat"',
    "a list": b'["service","chat"]', "a list of pairs": b'[["service","chat"]]', "no member": b"{}",
    "another member": b'{"Service":"chat"}', "one more member": b'{"service":"chat","a":1}',
    "a member twice": b'{"service":"chat","service":"chat"}', "a number": b'{"service":1}', "null": b'{"service":null}',
    "an object": b'{"service":{"service":"chat"}}', "more behind": b'{"service":"chat"}{}',
    "deep": b'{"service":' + b"[" * 500 + b"]" * 500 + b"}", "too long": padded(MAX_REQUEST + 1),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_request_says_nothing_else(wrong: str) -> None:
    with pytest.raises(BadRequest, match="the body must be JSON"):
        read_request(WRONG[wrong])
