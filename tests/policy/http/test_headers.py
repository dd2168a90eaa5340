"""Fields: which are read, dropped, forwarded and added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import LoopDetected
from tornado_gateway.policy.http.headers import (
    REQUEST_FIELDS,
    RESPONSE_FIELDS,
    accepts_trailers,
    client_fields,
    options,
    pairs,
    plain_length,
    serialize,
    trailer_lines,
    upstream_fields,
    without,
    without_nominated,
    without_prefix,
)

FORWARDED = b"X-Forwarded-For: 1.1.1.1\r\n"


def block(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def test_forwarded_fields_keep_order_case_repeats_and_white_space() -> None:
    lines = (b"X-b: 1", b"x-B:2 ", b"Host: h", b"ETag:\t3", b"Set-Cookie: a, b", b"Set-Cookie: c", b"X-Empty:")
    known_fields, forwarded_lines = REQUEST_FIELDS.interpret(block(*lines))
    assert known_fields == {b"host": [b"h"]}
    assert forwarded_lines == b"".join(line + b"\r\n" for line in lines if line != b"Host: h")


@pytest.mark.parametrize(
    "name",
    [
        b"Connection", b"KEEP-ALIVE", b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade",
        b"HTTP2-Settings", b"Proxy-Authorization", b"Proxy-Authenticate", b"X-Forwarded-For", b"X-Forwarded-Proto",
        b"X-Forwarded-Host", b"X-Forwarded-Port", b"X-Real-IP", b"Forwarded", b"X-Request-Id", b"Via", b"Expect",
        b"Host", b"Proxy", b"Alt-Used", b"X-Forwarded-Anything", b"X-Original-URL", b"X-Original-Method",
        b"X-Rewrite-URL",
        b"X-Sendfile-Type", b"X-Accel-Mapping", b"True-Client-IP", b"Client-IP", b"Proxy-Authentication-Info",
    ],
)  # fmt: skip
def test_hop_by_hop_fields_and_the_gateways_own_do_not_pass(name: bytes) -> None:
    known_fields, forwarded_lines = REQUEST_FIELDS.interpret(
        block(b"A: 1", name + b": v", b"B: 2", name.lower() + b": w")
    )
    assert known_fields == {name.lower(): [b"v", b"w"]}
    assert forwarded_lines == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize(
    "name", [b"TE", b"Trailer", b"Alt-Svc", b"HTTP2-Settings", b"Proxy-Authenticate", b"Proxy-Authorization",
             b"Proxy-Authentication-Info", b"Upgrade", b"Keep-Alive", b"Proxy-Connection"],
)  # fmt: skip
def test_hop_by_hop_fields_of_a_response_do_not_pass(name: bytes) -> None:
    known_fields, forwarded_lines = RESPONSE_FIELDS.interpret(block(b"A: 1", name + b": v", b"B: 2"))
    assert (known_fields, forwarded_lines) == ({name.lower(): [b"v"]}, b"A: 1\r\nB: 2\r\n")


@pytest.mark.parametrize(
    "name", [b"Proxy-Status", b"Alt-Svc-Used", b"Proxyx", b"X-Forward", b"X-Accel-Buffering", b"Early-Data"]
)
def test_names_that_only_share_a_prefix_pass(name: bytes) -> None:
    assert REQUEST_FIELDS.interpret(block(name + b": v")) == ({}, name + b": v\r\n")


def test_fields_of_a_response_that_are_only_read_pass() -> None:
    known_fields, forwarded_lines = RESPONSE_FIELDS.interpret(block(b"Date: d", b"Content-Length: 3", b"Server: s"))
    assert known_fields == {b"date": [b"d"], b"content-length": [b"3"]}
    assert forwarded_lines == b"Date: d\r\nContent-Length: 3\r\nServer: s\r\n"


@pytest.mark.parametrize(
    "alias",
    [b"X_Forwarded_For", b"X-Forwarded_Proto", b"x_request_id", b"Content_Length", b"Transfer_Encoding", b"REMOTE_USER",
     b"Proxy_Authorization", b"X_User_Id", b"X_Forwarded_Whatever", b"X_Original-URL", b"Client_IP", b"Alt_Used"],
)  # fmt: skip
def test_a_name_that_imitates_another_by_underscores_is_dropped(alias: bytes) -> None:
    _, forwarded_lines = REQUEST_FIELDS.interpret(block(b"A: 1", alias + b": v", b"My_Own: 2"))
    assert forwarded_lines == b"A: 1\r\nMy_Own: 2\r\n"


NAMES = st.sampled_from([b"Host", b"host", b"X-A", b"x-a", b"Via", b"Cookie", b"TE", b"X_Te", b"X-Hop", b"Date"])
VALUES = st.binary(max_size=8).map(lambda raw: bytes(byte for byte in raw if byte > 31 and byte != 127))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_a_field_is_taken_or_passes_and_none_is_changed(fields: list[tuple[bytes, bytes]]) -> None:
    known_fields, forwarded_lines = REQUEST_FIELDS.interpret(serialize(fields))
    taken = {b"host", b"via", b"te"}
    stripped = [(name, value.strip(b" ")) for name, value in fields]
    assert pairs(forwarded_lines) == [(name, value) for name, value in stripped if name.lower() not in taken]
    assert known_fields == {
        each: values
        for each in (*taken, b"cookie")
        if (values := [value for name, value in stripped if name.lower() == each])
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"close"], {b"close"}),
        ([b"Keep-Alive, X-Hop"], {b"keep-alive", b"x-hop"}),
        ([b"a", b"b ,, c,"], {b"a", b"b", b"c"}),
    ],
)
def test_connection_options_are_collected_from_all_lines(values: list[bytes], expected: set[bytes]) -> None:
    assert options({b"connection": values}) == expected


def test_lines_are_dropped_by_the_beginning_of_their_names() -> None:
    lines = b"X-Own-A: 1\r\nx-own-: 2\r\nX-Owner: x-own-a\r\n"
    assert without_prefix(lines, b"x-own-") == b"X-Owner: x-own-a\r\n"
    assert without_prefix(b"X-Owner: 1\r\n", b"x-own-") == b"X-Owner: 1\r\n"


def test_without_connection_there_are_no_options() -> None:
    assert options({}) == frozenset()


@pytest.mark.parametrize(
    ("nominated", "left"),
    [
        ({b"close", b"keep-alive"}, b"X-Hop: 1\r\nContent-Length: 2\r\nAuthorization: a\r\n"),
        ({b"x-hop", b"authorization"}, b"Content-Length: 2\r\n"),
        ({b"content-length"}, b"X-Hop: 1\r\nContent-Length: 2\r\nAuthorization: a\r\n"),
    ],
)
def test_fields_nominated_by_connection_are_dropped_but_never_the_framing(nominated: set[bytes], left: bytes) -> None:
    forwarded_lines = b"X-Hop: 1\r\nContent-Length: 2\r\nAuthorization: a\r\n"
    assert without_nominated(forwarded_lines, nominated) == left
    assert without(forwarded_lines, (b"x-hop",)) == b"Content-Length: 2\r\nAuthorization: a\r\n"


# RFC 9110 §6.5.1: framing, routing, authentication, request modifiers, response controls, content format
NO_TRAILERS = [
    b"Content-Length", b"Transfer-Encoding", b"Trailer", b"TE", b"Connection", b"Upgrade", b"Host", b"Authorization",
    b"Cookie", b"Set-Cookie", b"WWW-Authenticate", b"Proxy-Authorization", b"Expect", b"Max-Forwards", b"Range",
    b"If-None-Match", b"Cache-Control", b"Age", b"Date", b"Expires", b"Location", b"Retry-After", b"Vary",
    b"Content-Type", b"Content-Encoding", b"Content-Range", b"X-Forwarded-For", b"X-Forwarded-Odd", b"Forwarded",
    b"X-Real-IP", b"X-Request-Id", b"X-User-Id", b"Remote-User", b"Proxy", b"Alt-Svc", b"Via", b"Origin",
    b"Sec-WebSocket-Key", b"Access-Control-Allow-Origin", b"Accept", b"Accept-Encoding",
]  # fmt: skip


@pytest.mark.parametrize("name", NO_TRAILERS)
def test_trailers_that_would_mean_something_elsewhere_are_dropped(name: bytes) -> None:
    for spelling in (name, name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b"_", 1).lower()):
        assert trailer_lines([(b"X-Sum", b"7"), (spelling, b"1"), (b"Grpc_Status", b"0")]) == (
            b"X-Sum: 7\r\nGrpc_Status: 0\r\n"
        )


@pytest.mark.parametrize(
    ("te", "expected"),
    [
        (None, False),
        ([b"gzip"], False),
        ([b"gzip, Trailers"], True),
        ([b"a", b"trailers"], True),
        ([b",trailers,"], True),
        ([b","], False),
    ],
)
def test_te_trailers_asks_for_trailers(te: list[bytes] | None, expected: bool) -> None:
    assert accepts_trailers({b"te": te} if te else {}) is expected


# ---------------------------------------------------------------- what the gateway writes


def test_the_gateways_own_lines_follow_the_clients() -> None:
    lines = upstream_fields(
        b"A: 1\r\n", {b"via": [b"1.0 a", b"1.1 b"], b"te": [b"trailers"]}, (FORWARDED,), b"id", 0, b"gw"
    )
    assert lines == (
        b"A: 1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Request-Id: id\r\nVia: 1.0 a, 1.1 b, 1.0 gw\r\n"
        b"TE: trailers\r\nConnection: TE\r\n"
    )


def test_nominated_fields_are_dropped_before_the_gateways_are_added() -> None:
    sent = block(b"X-Hop: 1", b"A: 2", b"Connection: X-Hop, X-Request-Id")
    known_fields, forwarded_lines = REQUEST_FIELDS.interpret(sent)
    lines = upstream_fields(forwarded_lines, known_fields, (FORWARDED,), b"id", 1, b"gw")
    assert lines.startswith(b"A: 2\r\n")
    assert b"X-Request-Id: id\r\n" in lines


@pytest.mark.parametrize(
    ("via", "loops"),
    [
        (b"1.1 gw", True),
        (b"1.0 a, 1.1 gw (comment)", True),
        (b"1.1 gw2", False),
        (b"1.1 a (gw)", False),
        (b"1.1 a,, ,1.1 gw,", True),
    ],
)
def test_a_request_that_was_here_before_is_a_loop(via: bytes, loops: bool) -> None:
    if loops:
        with pytest.raises(LoopDetected):
            upstream_fields(b"", {b"via": [via]}, (FORWARDED,), b"id", 1, b"gw")
    else:
        assert b"Via: " + via in upstream_fields(b"", {b"via": [via]}, (FORWARDED,), b"id", 1, b"gw")


def test_a_response_gets_the_id_and_via_and_loses_what_its_connection_names() -> None:
    sent = block(b"X-Hop: 1", b"Connection: X-Hop", b"B: 2", b"Via: 1.0 a")
    known_fields, forwarded_lines = RESPONSE_FIELDS.interpret(sent)
    assert (
        client_fields(forwarded_lines, known_fields, b"id", 1, b"gw")
        == b"B: 2\r\nx-request-id: id\r\nVia: 1.0 a, 1.1 gw\r\n"
    )
    assert client_fields(b"B: 2\r\n", {}, b"id", 0, b"gw") == b"B: 2\r\nx-request-id: id\r\nVia: 1.0 gw\r\n"


@pytest.mark.parametrize(("value", "forwarded"), [(b"10", b"10"), (b"0", b"0"), (b"010", b"10"), (b"000", b"0")])
def test_a_length_goes_on_without_leading_zeros(value: bytes, forwarded: bytes) -> None:
    assert plain_length(b"Content-Length: %b\r\n" % value, value, int(value)) == b"Content-Length: %b\r\n" % forwarded
