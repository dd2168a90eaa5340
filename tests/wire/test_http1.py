"""HTTP/1.x messages: parsing, the ends of bodies, and refusals. No sockets."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import (
    BadRequest,
    ExpectationFailed,
    GatewayError,
    HeadTooLarge,
    MethodTooLong,
    TargetTooLong,
    UpstreamInvalid,
    VersionNotSupported,
)
from tornado_gateway.wire.http1 import (
    MAX_CHUNK_LINE,
    MAX_METHOD,
    MAX_REQUEST_FIELDS,
    MAX_REQUEST_HEAD,
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD,
    MAX_TARGET,
    MAX_TRAILERS,
    Body,
    ChunkedBody,
    LengthBody,
    RequestFields,
    RequestHead,
    ResponseFields,
    ResponseHead,
    UntilCloseBody,
    check_partial_request,
    check_partial_response,
    fields,
    parse_request,
    parse_response,
)


def request(*lines: bytes, line: bytes = b"GET /x HTTP/1.1", host: bytes | None = b"Host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host is not None else []), *lines, b"", b""])


def response(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *lines, b"", b""])


# ---------------------------------------------------------------- requests


def test_a_request_is_read_as_it_stands() -> None:
    head = parse_request(request(b"X-a: 1", b"ETag:2", line=b"BREW /a%2Fb?c HTTP/1.1"))
    assert (head.method, head.target, head.minor, head.host) == (b"BREW", b"/a%2Fb?c", 1, b"a")
    assert (head.keep_alive, head.expects_continue, head.body) == (True, False, None)
    assert head.forwarded_lines == b"X-a: 1\r\nETag:2\r\n"
    assert fields(head.block) == [(b"Host", b"a"), (b"X-a", b"1"), (b"ETag", b"2")]


@pytest.mark.parametrize(
    ("line", "minor", "connection", "keep_alive"),
    [
        (b"GET / HTTP/1.1", 1, None, True),
        (b"GET / HTTP/1.1", 1, b"close", False),
        (b"GET / HTTP/1.1", 1, b"x, Close", False),
        (b"GET / HTTP/1.0", 0, None, False),
        (b"GET / HTTP/1.0", 0, b"keep-alive", True),
        (b"GET / HTTP/1.0", 0, b"closed", False),
        (b"GET / HTTP/1.9", 1, None, True),  # RFC 9110 §2.5: a higher minor version is read as the highest known
    ],
)
def test_requests_that_ask_for_a_persistent_connection(
    line: bytes, minor: int, connection: bytes | None, keep_alive: bool
) -> None:
    head = parse_request(request(*([b"Connection: " + connection] if connection else []), line=line))
    assert (head.minor, head.keep_alive) == (minor, keep_alive)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"GET  / HTTP/1.1", BadRequest), (b"GET\t/ HTTP/1.1", BadRequest), (b"GET / http/1.1", BadRequest),
        (b"GET / HTTP/1.1 x", BadRequest), (b"GET /", BadRequest), (b" GET / HTTP/1.1", BadRequest),
        (b"G\x00T / HTTP/1.1", BadRequest), (b"GE(T / HTTP/1.1", BadRequest), (b"GET /a\x01 HTTP/1.1", BadRequest),
        (b"GET /a\x7f HTTP/1.1", BadRequest), (b"GET /a#b HTTP/1.1", BadRequest), (b"GET a HTTP/1.1", BadRequest),
        (b"GET * HTTP/1.1", BadRequest), (b"G" * 65 + b" / HTTP/1.1", MethodTooLong), (b"", BadRequest),
        (b"G" * 100_000 + b" / HTTP/1.1", MethodTooLong), (b"G" * 65, MethodTooLong), (b"G(" * 65 + b" /", BadRequest),
        (b"GET / HTTP/1.1" + b"1" * MAX_TARGET, BadRequest),
        (b"GET / HTTP/2.0", VersionNotSupported), (b"GET / HTTP/0.9", VersionNotSupported),
        (b"GET / HTTP/1.10", BadRequest), (b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1", TargetTooLong),
    ],
)  # fmt: skip
def test_a_request_line_that_is_none(line: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as refused:
        parse_request(request(line=line))
    assert type(refused.value) is error


# SECURITY 11.1: each is refused, and says so with 400
@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 6", b"Transfer-Encoding: chunked"), (b"Transfer-Encoding: chunked", b"Content-Length: 6"),
        (b"Content-Length: 3", b"Content-Length: 4"), (b"Content-Length: 3", b"Content-Length: 3"),
        (b"Content-Length: 3, 3",), (b"Content-Length: +3",), (b"Content-Length: -1",), (b"Content-Length: 0x3",),
        (b"Content-Length: 3_0",), (b"Content-Length:",), (b"Content-Length: 3 4",),
        (b"Content-Length: \xd9\xa3",), (b"Content-Length: " + b"9" * 5000,), (b"Content-Length : 3",),
        (b"Content-Length: %d" % 2**63,), (b"Content-Length: %d" % (2**64 - 1),), (b"Content-Length: %d" % 2**64,),
        (b"Content-Length: 0%d" % 2**63,), (b"Content-Length: 3,",), (b"Content-Length: ,3",),
        (b"Transfer-Encoding: ,",), (b"Transfer-Encoding: chunked, chunked",), (b"Transfer-Encoding: chunked;",),
        (b"Transfer-Encoding: xchunked",), (b"Transfer-Encoding: chunked, identity",), (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: gzip, chunked",), (b"Transfer-Encoding: chunked",) * 2, (b"Transfer-Encoding:",),
        (b"Transfer-Encoding: \x0bchunked",), (b"Transfer-Encoding : chunked",), (b'Transfer-Encoding: "chunked"',),
        (b"X: 1\r\n 2",), (b"X: 1\r\n\t2",), (b"X : 1",), (b": 1",), (b"X",), (b"X Y: 1",), (b"X(Y): 1",),
        (b"X: 1\x002",), (b"X\x00: 1",), (b"X: 1\rY: 2",), (b"X: 1\nY: 2",), (b"\x80: 1",), (b"X: \x01",),
        (b"X: \x7f",),
        (b" X: 1",), (b"X: 1\x0b",),
    ],
)  # fmt: skip
def test_ambiguous_or_malformed_fields_are_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_request(request(*lines, line=b"POST / HTTP/1.1"))
    assert refused.value.status == 400


@pytest.mark.parametrize("line", [b"POST / HTTP/1.0", b"GET / HTTP/1.0"])
def test_http_1_0_has_no_transfer_encoding(line: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(request(b"Transfer-Encoding: chunked", line=line))


@pytest.mark.parametrize(
    "host",
    [b"a", b"a.example:80", b"a:", b"[::1]", b"[::1]:8080", b"127.0.0.1", b"a_b", b"xn--9ca", b"A.B", b"a%20b", b"*"],
)
def test_valid_hosts(host: bytes) -> None:
    assert parse_request(request(host=b"Host: " + host)).host == host


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a, b",
        b"a@b",
        b"a/b",
        b"a:abc",
        b"a b",
        b"[::1",
        b"a:1:2",
        b"\xc3\xa9",
        b"a?b",
        b"[:::::]",
        b"[1::2::3]",
        b"[1.2.3.4]",
        b"[::1]:65536",
        b"a:99999",
    ],
)
def test_a_host_that_is_none(host: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(request(host=b"Host: " + host))


def test_there_is_exactly_one_host() -> None:
    for lines in ((), (b"Host: a", b"Host: a")):
        with pytest.raises(BadRequest):
            parse_request(request(*lines, host=None))
    assert parse_request(request(host=None, line=b"GET / HTTP/1.0")).host == b""


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET http://a/x?y HTTP/1.1", b"/x?y"), (b"GET HTTPS://A/x HTTP/1.1", b"/x"), (b"GET http://a HTTP/1.1", b"/"),
        (b"GET http://a?x HTTP/1.1", b"/?x"), (b"OPTIONS * HTTP/1.1", b"*"),
        (b"OPTIONS http://a HTTP/1.1", b"*"), (b"OPTIONS http://a/ HTTP/1.1", b"/"),
        (b"CONNECT b:443 HTTP/1.1", b"b:443"),
    ],
)  # fmt: skip
def test_other_forms_of_the_target(line: bytes, target: bytes) -> None:
    head = parse_request(request(line=line))
    assert (head.target, head.host.lower()) == (target, b"a")


def test_an_absolute_target_overrules_the_host_field() -> None:  # RFC 9112 §3.2.2
    assert parse_request(request(line=b"GET http://b:80/ HTTP/1.1")).host == b"b:80"
    assert parse_request(request(host=None, line=b"GET http://b/ HTTP/1.0")).host == b"b"


@pytest.mark.parametrize("line", [b"GET http:///x HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"GET http://u@a/ HTTP/1.1"])
def test_an_absolute_target_is_that_of_a_host(line: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_request(request(line=line))


def test_100_continue_is_the_only_expectation() -> None:
    assert parse_request(request(b"Expect: 100-Continue", b"Content-Length: 1")).expects_continue
    assert not parse_request(request(b"Expect: x", b"Content-Length: 1", line=b"POST / HTTP/1.0")).expects_continue
    assert not parse_request(request(b"Expect: ,")).expects_continue  # a list of nothing
    for value in (b"100-continue,", b",100-continue", b" , 100-Continue\t,, 100-continue"):
        assert parse_request(request(b"Expect: " + value)).expects_continue
    for value in (b"y", b"y 100-continue", b"100-continue, y", b'"100-continue"'):
        with pytest.raises(ExpectationFailed):
            parse_request(request(b"Expect: " + value))


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((), type(None)), ((b"Content-Length: 0",), type(None)), ((b"Content-Length: 007 ",), LengthBody),
        ((b"Content-Length: " + b"0" * 5000 + b"7",), LengthBody), ((b"Content-Length: " + b"0" * 5000,), type(None)),
        ((b"transfer-ENCODING:  Chunked ",), ChunkedBody), ((b"Transfer-Encoding: , chunked,",), ChunkedBody),
        ((b"Transfer-Encoding: ,", b"Transfer-Encoding: chunked"), ChunkedBody),
    ],
)  # fmt: skip
def test_how_a_requests_body_is_framed(lines: tuple[bytes, ...], body: type) -> None:
    assert type(parse_request(request(*lines, line=b"DELETE / HTTP/1.1")).body) is body


def test_a_length_is_below_2_to_the_63rd_in_both_directions() -> None:
    length = b"Content-Length: %d" % (2**63 - 1)
    assert parse_request(request(length, line=b"POST / HTTP/1.1")).body.left == 2**63 - 1
    assert parse_response(response(length), b"GET").body.left == 2**63 - 1


@pytest.mark.parametrize("value", [b"007", b"0" * 5000 + b"7"])
def test_a_length_passes_in_its_shortest_form(value: bytes) -> None:
    lines = (b"Content-Length: " + value, b"X: 1")
    assert parse_request(request(*lines, line=b"POST / HTTP/1.1")).forwarded_lines == b"X: 1\r\nContent-Length: 7\r\n"
    assert parse_response(response(*lines), b"GET").forwarded_lines == b"X: 1\r\nContent-Length: 7\r\n"


@pytest.mark.parametrize(
    ("line", "lines", "upgrades"),
    [
        (b"GET / HTTP/1.1", (b"Upgrade: h2c",), True),
        (b"GET / HTTP/1.1", (), False),
        (b"GET / HTTP/1.0", (b"Upgrade: h2c",), False),  # RFC 9110 §7.8: ignored
    ],
)
def test_requests_that_ask_for_another_protocol(line: bytes, lines: tuple[bytes, ...], upgrades: bool) -> None:
    assert parse_request(request(*lines, line=line)).upgrades is upgrades


def test_a_connection_does_not_outlive_connect() -> None:  # RFC 9110 §9.3.6
    assert not parse_request(request(line=b"CONNECT a:443 HTTP/1.1")).keep_alive
    assert not parse_request(request(line=b"CONNECT /a HTTP/1.1")).keep_alive


def test_fields_are_counted() -> None:
    lines = [b"X: %d" % number for number in range(MAX_REQUEST_FIELDS)]
    parse_request(request(*lines[1:]))
    with pytest.raises(HeadTooLarge):
        parse_request(request(*lines))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_REQUEST_HEAD, HeadTooLarge),
        (b"GET /" + b"a" * (MAX_TARGET + 200), TargetTooLong),
        (b"GET /" + b"a" * (MAX_TARGET + 200) + b" HTTP/1.1\r\n", TargetTooLong),
        (b"G" * (MAX_METHOD + 1), MethodTooLong),
        (b"G" * (MAX_TARGET + 200), MethodTooLong),
        (b"GET / HTTP/1." + b"1" * (MAX_TARGET + 200), BadRequest),
        (b"(" * (MAX_TARGET + 200), BadRequest),
        (b"GET / HTTP/1.1\nHost: a\n\n", BadRequest),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BadRequest),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadRequest),  # TLS on the port for HTTP
        (b"\x00", BadRequest),
        (b"\rG", BadRequest),
        (b" GET", BadRequest),
        (b"GET\t/", BadRequest),
    ],
)
def test_a_beginning_that_cannot_end_well_is_refused_early(data: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as refused:
        check_partial_request(data)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r",
        b"G",
        b"GET ",
        b"G" * MAX_METHOD,
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET /" + b"a" * 10000,
    ],
)
def test_a_beginning_that_may_end_well_is_waited_for(data: bytes) -> None:
    check_partial_request(data)


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"HTTP/1.1 200 OK\r\nX: 1\n", b"HTTP/2", b"<html>",
        b"\r\nHTTP/1.1", b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_RESPONSE_HEAD,
    ],
)  # fmt: skip
def test_a_response_that_cannot_end_well_is_refused_early(data: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        check_partial_response(data)


@pytest.mark.parametrize("data", [b"", b"HT", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\r\nX: 1\r\n"])
def test_a_response_that_may_end_well_is_waited_for(data: bytes) -> None:
    check_partial_response(data)


def test_a_response_is_read_as_it_stands() -> None:
    head = parse_response(response(b"Content-Length: 3", b"x-Y: 1", line=b"HTTP/1.1 299 Odd But Fine"), b"GET")
    assert (head.status, head.reason, head.minor, head.length) == (299, b"Odd But Fine", 1, 3)
    assert (type(head.body), head.keep_alive, head.idle_hint) == (LengthBody, True, None)
    assert head.forwarded_lines == b"Content-Length: 3\r\nx-Y: 1\r\n"


@pytest.mark.parametrize("line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 \xe9"])
def test_a_reason_may_be_missing_or_odd(line: bytes) -> None:
    assert parse_response(response(b"Content-Length: 0", line=line), b"GET").status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-x\r\n\r\n", response(line=b"HTTP/1.1 20 OK"), response(line=b"HTTP/1.1 2000 OK"),
        response(line=b"HTTP/2.0 200 OK"), response(line=b"HTTP/1.1 099 X"), response(b"Content-Length: a"),
        response(b"Content-Length: 2", b"Content-Length: 3"), response(b"Content-Length: +2"), response(b": x"),
        response(b"Content-Length: 2, 2"), response(b"Content-Length: %d" % 2**63),
        response(b"Content-Length: %d" % (2**64 - 1)), response(b"Content-Length: " + b"9" * 5000),
        response(b"X: a\x00b"), response(b"X: a\rb"), response(b"X: a\r\n b"), response(b"X : a"),
        response(b"Content-Length: 3", b"Transfer-Encoding: chunked"), response(b"Transfer-Encoding: gzip, chunked"),
        response(b"Transfer-Encoding: identity"),
        response(*[b"X: %d" % number for number in range(MAX_RESPONSE_FIELDS + 1)]),
    ],
)  # fmt: skip
def test_a_response_that_cannot_be_believed(head: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        parse_response(head, b"GET")


# RFC 9112 §6.3
@pytest.mark.parametrize(
    ("method", "status", "lines", "body", "keep_alive"),
    [
        (b"GET", 200, (), UntilCloseBody, False),
        (b"GET", 200, (b"Content-Length: 0",), type(None), True),
        (b"GET", 200, (b"Transfer-Encoding: Chunked",), ChunkedBody, True),
        (b"GET", 200, (b"Connection: close", b"Content-Length: 1"), LengthBody, False),
        (b"HEAD", 200, (b"Content-Length: 9",), type(None), True),
        (b"HEAD", 200, (b"Transfer-Encoding: chunked",), type(None), True),
        (b"HEAD", 200, (), type(None), True),
        (b"GET", 204, (b"Content-Length: 5",), type(None), True),
        (b"GET", 304, (b"Content-Length: 5",), type(None), True),
        (b"GET", 103, (b"Link: x",), type(None), True),
    ],
)
def test_how_a_responses_body_is_framed(
    method: bytes, status: int, lines: tuple[bytes, ...], body: type, keep_alive: bool
) -> None:
    head = parse_response(response(*lines, line=b"HTTP/1.1 %d X" % status), method)
    assert (type(head.body), head.keep_alive) == (body, keep_alive)


def test_http_1_0_is_persistent_only_with_keep_alive() -> None:
    line = b"HTTP/1.0 200 OK"
    assert not parse_response(response(b"Content-Length: 1", line=line), b"GET").keep_alive
    assert parse_response(response(b"Content-Length: 1", b"Connection: Keep-Alive", line=line), b"GET").keep_alive


def test_no_connection_stays_behind_a_chunked_response_of_http_1_0() -> None:  # RFC 9112 §6.1
    lines = (b"Transfer-Encoding: chunked", b"Connection: keep-alive")
    head = parse_response(response(*lines, line=b"HTTP/1.0 200 OK"), b"GET")
    assert (type(head.body), head.keep_alive) == (ChunkedBody, False)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (b"timeout=5", 5.0),
        (b"max=3, timeout=20", 20.0),
        (b",, Timeout = 7", 7.0),
        (b"xtimeout=5", None),
        (b"max=3", None),
        (b"timeout=" + b"9" * 99, 999999.0),
    ],
)
def test_how_long_the_server_keeps_the_connection(value: bytes, hint: float | None) -> None:
    head = parse_response(response(b"Content-Length: 0", b"Keep-Alive: " + value), b"GET")
    assert head.idle_hint == hint


# ---------------------------------------------------------------- heads in general

LINES = st.lists(
    st.sampled_from(
        [b"A: 1", b"B:2", b"Connection: close", b"Content-Length: 3", b"Content-Length: 0",
         b"Transfer-Encoding: chunked",
         b"Expect: 100-continue", b"Date: d", b"Via: 1.1 x", b"Keep-Alive: timeout=3", b"X: \xff", b"bad line"]
    ),
    max_size=4,
)  # fmt: skip

STATUS_LINES = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 304 N"])
REQUEST_LINES = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"GET http://a/ HTTP/1.1", b"GET http://evil.test/a HTTP/1.1",
     b"GET http://evil.test/a HTTP/1.0", b"OPTIONS * HTTP/1.1", b"OPTIONS http://b HTTP/1.1", b"CONNECT c:1 HTTP/1.1",
     b"CONNECT / HTTP/1.1"]
)  # fmt: skip


def outcome(parse: Callable[..., RequestHead | ResponseHead], *arguments: object) -> object:
    try:
        head = parse(*arguments)
    except GatewayError as error:
        return type(error)
    plain = {each.name: getattr(head, each.name) for each in dataclasses.fields(head)}
    return plain | {"body": (type(head.body), getattr(head.body, "left", None))}


@given(
    st.lists(
        st.tuples(LINES, REQUEST_LINES),
        max_size=4,
    )
)
def test_remembering_the_head_before_never_changes_a_request(heads: list[tuple[list[bytes], bytes]]) -> None:
    before: RequestFields | None = None
    for lines, line in heads + heads:
        data = request(*lines, line=line)
        assert outcome(parse_request, data, before) == outcome(parse_request, data)
        try:
            before = parse_request(data, before).fields
        except GatewayError:
            before = None


@given(
    st.lists(
        st.tuples(LINES, STATUS_LINES, st.sampled_from([b"GET", b"HEAD"])),
        max_size=4,
    )
)  # fmt: skip
def test_remembering_the_head_before_never_changes_a_response(heads: list[tuple[list[bytes], bytes, bytes]]) -> None:
    before: ResponseFields | None = None
    for lines, line, method in heads + heads:
        data = response(*lines, line=line)
        assert outcome(parse_response, data, method, before) == outcome(parse_response, data, method)
        try:
            before = parse_response(data, method, before).fields
        except GatewayError:
            before = None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_an_error_of_ours(data: bytes) -> None:
    for whole in (
        data + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n",
    ):
        end = whole.index(b"\r\n\r\n") + 4
        outcome(parse_request, whole[:end])
        outcome(parse_response, whole[:end], b"GET")
    try:
        check_partial_request(data)
    except BadRequest:
        return


# ---------------------------------------------------------------- bodies


def read(body: Body, *pieces: bytes) -> tuple[bytes, bytes | None]:
    """The payload of all pieces, and what followed the body; nothing is fed behind its end."""
    payload, rest = b"", None
    for at, piece in enumerate(pieces):
        more, rest = body.feed(piece)
        payload += more
        if rest is not None:
            return payload, rest + b"".join(pieces[at + 1 :])
    return payload, rest


@pytest.mark.parametrize(
    ("data", "payload", "rest"),
    [
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", b""),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nNEXT", b"abcde", b"NEXT"),
        (b"0003\r\nabc\r\n000\r\n\r\n", b"abc", b""),
        (b'A;a=b;c="d"\r\n0123456789\r\n0;x\r\n\r\n', b"0123456789", b""),
        (b'3 \t; a\t=  b ;c\r\nabc\r\n0 ;e="\\";\\\\=\xff"\r\n\r\nN', b"abc", b"N"),  # with "bad" white space
        (b'3;a=""\r\nabc\r\n0\r\n\r\n', b"abc", b""),
        (b"0" * 40 + b"3\r\nabc\r\n" + b"0" * 40 + b"\r\n\r\n", b"abc", b""),
        (b"3\r\nabc\r\n0\r\nX: 1\r\nY: 2\r\n\r\nN", b"abc", b"N"),
        (b"3\r\nabc\r\n", b"abc", None),
        (b"", b"", None),
    ],
)
def test_chunks(data: bytes, payload: bytes, rest: bytes | None) -> None:
    assert read(ChunkedBody(BadRequest), data) == (payload, rest)


@pytest.mark.parametrize("size", [2**63 - 1, 2**60, 5])
@pytest.mark.parametrize("form", [b"%x", b"%X", b"0000%x"])
def test_a_chunk_is_shorter_than_2_to_the_63rd(size: int, form: bytes) -> None:
    body = ChunkedBody(BadRequest)
    assert body.feed(form % size + b"\r\nabc") == (b"abc", None)


CHUNK_LINES = [
    b"3;", b"3; ", b"3 ;", b"3;bad[=x", b"3;;a", b"3;a;", b"3;=b", b"3;a=", b"3;a= ;b", b"3;a=b c", b"3;a b", b'3;a="b',
    b'3;a="b"c', b'3;a=b"c"', b'3;"a"=b', b'3;a="\\"', b'3;a="\x01"', b"3;a=\xff", b"3;\xff", b"3;a,b", b"3,a", b"3a b",
    b"3;a\x0b", b"3 3", b"3\x0b", b"3;a=b;c=@", b" 3", b"\t3", b"3_0", b"0x3", b"%x" % 2**63, b"%x" % (2**64 + 3),
    b"f" * 17, b"1" + b"0" * 5000, b"3;a ", b"3;a=b\t", b'3;a="b" ',
]  # fmt: skip
PADDED = [b"3 ", b"3\t \t", b"3   ", b"0003 ", b"3;a ", b"3;a=b\t", b'3;a="b" ']


@pytest.mark.parametrize("line", [*CHUNK_LINES, *PADDED])
def test_a_request_with_a_loose_chunk_line_is_refused(line: bytes) -> None:  # RFC 9112 §7.1.1
    for end in (line + b"\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n" + line + b"\r\nabc\r\n0\r\n\r\n"):
        for pieces in ([end], [end[at : at + 1] for at in range(len(end))]):
            with pytest.raises(BadRequest, match="chunk"):
                read(ChunkedBody(BadRequest), *pieces)


@pytest.mark.parametrize("line", [line for line in CHUNK_LINES if line not in PADDED])
def test_a_response_with_a_loose_chunk_line_is_refused(line: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        read(ChunkedBody(UpstreamInvalid), line + b"\r\nabc\r\n0\r\n\r\n")


@pytest.mark.parametrize("line", PADDED)
def test_a_response_may_pad_its_chunk_lines(line: bytes) -> None:
    data = line + b"\r\nabc\r\n0   \r\n\r\nN"
    assert read(ChunkedBody(UpstreamInvalid), data) == (b"abc", b"N")
    assert read(ChunkedBody(UpstreamInvalid), *[data[at : at + 1] for at in range(len(data))]) == (b"abc", b"N")


@pytest.mark.parametrize(
    "line", [b"3" + b";a" * 2000, b"3;a" + b" " * 4000 + b"x", b'3;a="' + b"\\a" * 2000, b"0" * 4000]
)
def test_a_chunk_line_is_read_in_one_pass(line: bytes) -> None:
    began = time.process_time()
    for _ in range(20):
        with pytest.raises(BadRequest):
            read(ChunkedBody(BadRequest), line + b"@\r\n")
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"+3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"-3\r\nabc\r\n", b"g\r\nabc\r\n", b"\r\nabc\r\n", b"8" * 16 + b"\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3\nabc\r\n", b"3;\nabc\r\n", b"3\r\nabc\n0\r\n\r\n",
        b"3;" + b"a" * MAX_CHUNK_LINE + b"a", b"0\r\nX: 1\n\r\n", b"0\r\nX: 1\rY: 2\r\n\r\n",
        b"0\r\nX: 1\x00\r\n\r\n", b"0\r\nX: 1\r\r\n\r\n", b"0\r\n" + b"X: 1\r\n" * 2000,
        b"0\r\n" + b"X: 1\r\n" * 2000 + b"\r\n", b"0\r\n\n", b"3;\x00\r\nabc\r\n", b"0\r\nX: " + b"a" * MAX_TRAILERS,
    ],
)  # fmt: skip
@pytest.mark.parametrize("error", [BadRequest, UpstreamInvalid])
def test_malformed_chunked_bodies(data: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        read(ChunkedBody(error), data)
    with pytest.raises(error):
        read(ChunkedBody(error), *[data[at : at + 1] for at in range(len(data))])


@pytest.mark.parametrize("error", [BadRequest, UpstreamInvalid])
def test_a_size_line_has_one_limit_wherever_the_data_is_cut(error: type[GatewayError]) -> None:
    for size, is_allowed in ((MAX_CHUNK_LINE, True), (MAX_CHUNK_LINE + 1, False)):
        chunk, last = b"1;" + b"a" * (size - 4) + b"\r\nx\r\n", b"0\r\n\r\n"
        for pieces in ([chunk, last], [chunk + last], [chunk[:99], chunk[99:], last], [chunk[:-3], chunk[-3:] + last]):
            with contextlib.nullcontext() if is_allowed else pytest.raises(error):
                assert read(ChunkedBody(error), *pieces) == (b"x", b"")


def test_trailers_are_kept_apart() -> None:
    body = ChunkedBody(BadRequest)
    assert read(body, b"1\r\na\r\n0\r\nX-Sum: 7 \r\nx-b:\r\n\r\n") == (b"a", b"")
    assert body.trailers == [(b"X-Sum", b"7"), (b"x-b", b"")]


MALFORMED_TRAILERS = [
    b"X", b": v", b"X : v", b" X: v", b"X: 1\r\n 2", b"X y: v", b"X: \x01", b"\x80: v", b"X: 1\r\nContent-Length : 3",
]  # fmt: skip


@pytest.mark.parametrize("lines", MALFORMED_TRAILERS)
def test_a_requests_malformed_trailers_are_refused(lines: bytes) -> None:
    with pytest.raises(BadRequest, match="trailer"):
        read(ChunkedBody(BadRequest), b"1\r\na\r\n0\r\n" + lines + b"\r\n\r\n")


@pytest.mark.parametrize("lines", MALFORMED_TRAILERS)
def test_a_responses_malformed_trailers_are_dropped(lines: bytes) -> None:
    body = ChunkedBody(UpstreamInvalid)
    assert read(body, b"1\r\na\r\n0\r\nX-Sum: 7\r\n" + lines + b"\r\n\r\nN") == (b"a", b"N")
    assert body.trailers == []


@pytest.mark.parametrize("error", [BadRequest, UpstreamInvalid])
def test_framing_means_nothing_in_a_trailer(error: type[GatewayError]) -> None:
    body = ChunkedBody(error)
    lines = [b"Content-Length: x", b"Content-Length: 3", b"Transfer-Encoding: gzip", b"Connection: a b", b"Upgrade: "]
    assert read(body, b"1\r\na\r\n0\r\n" + b"\r\n".join(lines) + b"\r\n\r\nN") == (b"a", b"N")
    assert len(body.trailers) == len(lines)


def test_trailers_that_connection_names_are_dropped() -> None:  # RFC 9110 §7.6.1
    lines = (b"Transfer-Encoding: chunked", b"Connection: X-Hop")
    trailers = b"1\r\na\r\n0\r\nx-hop: 1\r\nX-Sum: 7\r\n\r\n"
    for head in (parse_request(request(*lines, line=b"POST / HTTP/1.1")), parse_response(response(*lines), b"GET")):
        read(head.body, trailers)
        assert head.body.trailers == [(b"X-Sum", b"7")]


CUTS = st.lists(st.integers(0, 400), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.binary(min_size=1, max_size=40)), st.booleans(), st.binary(max_size=20), CUTS)
def test_a_chunked_body_cut_anywhere_is_the_same_body(
    chunks: list[bytes], has_trailers: bool, rest: bytes, places: list[int]
) -> None:
    data = b"".join([b"%x;e\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]) + b"0\r\n"
    data += (b"X: 1\r\n" if has_trailers else b"") + b"\r\n" + rest
    body = ChunkedBody(BadRequest)
    assert read(body, *cut(data, places)) == (b"".join(chunks), rest)
    assert body.trailers == ([(b"X", b"1")] if has_trailers else [])


@given(st.binary(max_size=80), CUTS)
def test_any_bytes_are_a_chunked_body_or_not_wherever_they_are_cut(data: bytes, places: list[int]) -> None:
    def result(pieces: list[bytes]) -> object:
        try:
            return read(ChunkedBody(BadRequest), *pieces)
        except BadRequest:
            return "malformed"

    assert result(cut(data, places)) == result([data])


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=20), CUTS)
def test_a_body_of_known_length_cut_anywhere_is_the_same_body(data: bytes, rest: bytes, places: list[int]) -> None:
    assert read(LengthBody(len(data)), *cut(data + rest, places)) == (data, rest)


def test_a_body_until_close_has_no_other_end() -> None:
    assert read(UntilCloseBody(), b"a", b"b") == (b"ab", None)
