"""Tornado's messages have the same content whether parsed at once or on first use."""

import copy

import pytest
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPInputError, HTTPServerRequest, RequestStartLine

from tornado_gateway.wire.server.messages import RawHeaders, RawRequest

BLOCK = (
    b"Host: gateway.example:81\r\nuser-AGENT: test\r\nX-Many: 1\r\nx-many: 2\r\n"
    b"Cookie: a=b; c=\xe9\r\nContent-Type: text/plain\r\nX-Padded: \t v \t\r\n\r\n"
)


class Context:
    remote_ip = "192.0.2.7"
    protocol = "http"


class Connection(HTTPConnection):
    context = Context()


def eager() -> HTTPHeaders:
    headers = HTTPHeaders()
    for name, value in [
        ("Host", "gateway.example:81"),
        ("User-Agent", "test"),
        ("X-Many", "1"),
        ("X-Many", "2"),
        ("Cookie", "a=b; c=é"),
        ("Content-Type", "text/plain"),
        ("X-Padded", "v"),
    ]:
        headers.add(name, value)
    return headers


@pytest.mark.parametrize(
    "look",
    [
        lambda headers: list(headers.get_all()),
        lambda headers: headers["HOST"],
        lambda headers: headers.get("x-none", "default"),
        lambda headers: headers.get_list("x-many"),
        lambda headers: headers["x-many"],
        lambda headers: "user-agent" in headers,
        lambda headers: "x-none" in headers,
        len,
        list,
        str,
        bool,
        lambda headers: dict(headers.items()),
        lambda headers: headers == eager(),
        lambda headers: eager() == headers,
        lambda headers: list(headers.copy().get_all()),
        lambda headers: list(copy.copy(headers).get_all()),
        lambda headers: list(copy.deepcopy(headers).get_all()),
        lambda headers: (headers.add("X-Many", "3"), headers["x-many"])[1],
        lambda headers: (headers.__setitem__("x-many", "9"), headers.get_list("x-many"))[1],
        lambda headers: (headers.__delitem__("x-many"), len(headers))[1],
        lambda headers: (headers.parse_line("X-More: 1"), headers["x-more"])[1],
        lambda headers: headers.pop("Host"),
    ],
)
def test_headers_answer_their_first_look_as_tornados_do(look) -> None:
    assert look(RawHeaders(BLOCK)) == look(eager())


def test_unused_headers_are_not_parsed() -> None:
    headers = RawHeaders(BLOCK)
    assert vars(headers) == {"_block": BLOCK}
    assert headers["host"]
    assert len(vars(headers)) > 1


def test_headers_without_fields_are_empty() -> None:
    assert (len(RawHeaders(b"\r\n")), bool(RawHeaders(b"\r\n"))) == (0, False)


def test_headers_have_no_attribute_that_tornados_have_not() -> None:
    headers = RawHeaders(BLOCK)
    for _ in range(2):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = headers.nonsense
    with pytest.raises(AttributeError):
        _ = headers.__nonsense__


def request(uri: str = "/a%20b?x=1&x=2&y=", block: bytes = BLOCK, cls: type = RawRequest) -> HTTPServerRequest:
    line = RequestStartLine("GET", uri, "HTTP/1.1")
    return cls(connection=Connection(), start_line=line, headers=RawHeaders(block))


@pytest.mark.parametrize(
    "name",
    [
        *("method", "uri", "version", "path", "query", "arguments", "query_arguments", "body_arguments", "files"),
        *("host", "host_name", "remote_ip", "protocol", "body", "server_connection"),
    ],
)
def test_a_request_answers_its_first_look_as_tornados_does(name: str) -> None:
    assert getattr(request(), name) == getattr(request(cls=HTTPServerRequest), name)


def test_a_request_computes_what_needs_more_than_one_look() -> None:
    raw = request()
    assert {name: morsel.value for name, morsel in raw.cookies.items()} == {"a": "b", "c": "é"}
    assert raw.full_url() == "http://gateway.example:81/a%20b?x=1&x=2&y="
    assert raw.request_time() >= 0
    assert repr(raw).startswith("RawRequest(protocol='http', host='gateway.example:81'")


def test_an_unused_request_is_not_parsed() -> None:
    raw = request()
    assert set(vars(raw)) == {"connection", "method", "uri", "version", "headers"}
    assert vars(raw.headers) == {"_block": BLOCK}


@pytest.mark.parametrize(
    ("uri", "block"),
    [("/?" + "&".join(f"a{n}=" for n in range(1001)), BLOCK), ("/", b"Host: a,b\r\n\r\n"), ("/", b"\r\n")],
    ids=["1001 arguments", "two hosts", "no host"],
)
def test_a_request_that_tornado_cannot_read_says_so_at_the_first_look(uri: str, block: bytes) -> None:
    raw = request(uri, block)
    assert raw.uri == uri
    with pytest.raises(HTTPInputError):
        _ = raw.arguments


def test_a_request_has_no_attribute_that_tornados_has_not() -> None:
    raw = request()
    for _ in range(2):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = raw.nonsense
    with pytest.raises(AttributeError):
        _ = raw.__nonsense__
