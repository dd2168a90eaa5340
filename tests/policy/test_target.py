"""The request target: the client's own bytes, on the endpoint's host, never above its base path."""

from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.target import (
    Origin,
    climbs,
    is_address,
    parse_base_url,
    split_route,
    upstream_target,
    websocket_target,
)


@pytest.mark.parametrize(
    ("url", "origin", "base_path"),
    [
        ("http://a", Origin("http", "a", 80), b""),
        ("https://a", Origin("https", "a", 443), b""),
        ("http://a:8080/base/", Origin("http", "a", 8080), b"/base"),
        ("http://[::1]:1/x", Origin("http", "::1", 1), b"/x"),
        ("http://A.example/", Origin("http", "a.example", 80), b""),
        ("http://a/b%2Fc/..%20", Origin("http", "a", 80), b"/b%2Fc/..%20"),
        ("unix:/run/app.sock", Origin("http", "localhost", 0, "/run/app.sock"), b""),
        ("unix:/run/app#1.sock", Origin("http", "localhost", 0, "/run/app#1.sock"), b""),
        ("https://a/base/#10.0.0.7", Origin("https", "a", 443, address="10.0.0.7"), b"/base"),
        ("http://a:8080#FD00:0::7", Origin("http", "a", 8080, address="fd00::7"), b""),
    ],
)
def test_what_a_base_url_means(url: str, origin: Origin, base_path: bytes) -> None:
    assert parse_base_url(url) == (origin, base_path)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a", "must start with"),
        ("a:80", "must start with"),
        ("http://", "must name a host"),
        ("http://user@a", "must not contain user information"),
        ("http://a?b", "must not contain a query"),
        ("http://a#b", "fragment"),
        ("http://a#", "fragment"),
        ("http://a#10.0.0.7#10.0.0.8", "fragment"),
        ("http://a#[::1]", "fragment"),
        ("http://a#fe80::1%eth0", "fragment"),
        ("http://a#10.0.0.7 ", "fragment"),
        ("http://a?#10.0.0.7", "query"),
        ("http://a b", "spaces"),
        ("http://a:0", "port"),
        ("http://a:65536", "port"),
        ("http://a:x", "port"),
        ("http://a_b!", "valid host"),
        ("http://-a", "valid host"),
        ("http://a..b", "valid host"),
        ("http://a..", "valid host"),
        ("http://.", "valid host"),
        ("http://" + "x" * 64, "valid host"),
        ("http://" + "x." * 130 + "x", "valid host"),
        ("http://b\u00fccher.test", "xn--"),
        ("http://[fe80::1%25a b]", "spaces"),
        ("http://[fe80::1%25;]", "zone"),
        ("http://a/\u00e9", "percent-encode"),
        ("http://a/../b", "climb"),
        ("http://a/%2e%2e/b", "climb"),
        ("unix:run/app.sock", "absolute path"),
        ("unix:/a\0b", "absolute path"),
    ],
)
def test_what_is_no_base_url_and_why(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_base_url(url)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("BILLING.Internal", "billing.internal"),
        ("billing.internal.", "billing.internal."),  # the dot belongs to the look-up
        ("a_b.internal", "a_b.internal"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("x" * 63, "x" * 63),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.2", "127.0.0.2"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("10.1.258", "10.1.1.2"),
        ("0", "0.0.0.0"),
        ("10.0.0.256", "10.0.0.256"),  # no address, but what a name server may know
        ("1.2.3.4.5", "1.2.3.4.5"),
        ("08.0.0.1", "08.0.0.1"),
        ("4294967296", "4294967296"),
        ("[::0:1]", "::1"),
        ("[FD00:0::7]", "fd00::7"),
        ("[::ffff:10.0.0.7]", "::ffff:10.0.0.7"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("[fe80::1%25]", "fe80::1%25"),
    ],
)
def test_a_host_is_written_in_one_way(given: str, host: str) -> None:
    assert parse_base_url(f"http://{given}:8080")[0].host.replace("::ffff:a00:7", "::ffff:10.0.0.7") == host


@pytest.mark.parametrize(
    ("host", "name", "authority"),
    [
        ("svc.test.", "svc.test", b"svc.test:8443"),
        ("svc.test", "svc.test", b"svc.test:8443"),
        ("fe80::1%eth0", "fe80::1", b"[fe80::1]:8443"),
        ("10.0.0.7", "10.0.0.7", b"10.0.0.7:8443"),
    ],
)
def test_a_host_as_certificates_and_the_host_field_know_it(host: str, name: str, authority: bytes) -> None:
    origin = Origin("https", host, 8443)
    assert (origin.host, origin.name, origin.authority) == (host, name, authority)


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("10.0.0.7", True), ("::1", True), ("fe80::1%eth0", True), ("a", False), ("10.0.0", False), ("[::1]", False)],
)
def test_what_is_an_address(host: str, is_one: bool) -> None:
    assert is_address(host) is is_one


@pytest.mark.parametrize(
    ("origin", "authority"),
    [
        (Origin("http", "a", 80), b"a"),
        (Origin("http", "a", 443), b"a:443"),
        (Origin("https", "a", 443), b"a"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
        (Origin("http", "localhost", 0, "/run/app.sock"), b"localhost"),
        (Origin("http", "a", 8080, address="fd00::7"), b"a:8080"),
    ],
)
def test_the_host_field_leaves_out_the_schemes_own_port(origin: Origin, authority: bytes) -> None:
    assert origin.authority == authority


@pytest.mark.parametrize(
    ("target", "service", "rest"),
    [
        (b"/api/a", b"a", b""),
        (b"/api/a/", b"a", b"/"),
        (b"/api/a?x=/y", b"a", b"?x=/y"),
        (b"/api/a//b?c/d", b"a", b"//b?c/d"),
        (b"/api/", b"", b""),
        (b"/api//a", b"", b"/a"),
    ],
)
def test_a_route_is_split_at_the_first_slash_or_question_mark(target: bytes, service: bytes, rest: bytes) -> None:
    assert split_route(target, b"/api/") == (service, rest)


# FEATURES H15 to H17; Next.js CVE-2026-44578, reply-from CVE-2021-21321
@pytest.mark.parametrize(
    ("base", "rest", "target"),
    [
        (b"/base", b"/a%2Fb;v=1//c?x=%20&y", b"/base/a%2Fb;v=1//c?x=%20&y"),
        (b"", b"", b"/"),
        (b"", b"?", b"/?"),
        (b"/base", b"?a", b"/base/?a"),
        (b"", b"//evil.example/x", b"//evil.example/x"),
        (b"", b"/\\evil.example", b"/\\evil.example"),
        (b"", b"/%00%zz\xc3\xa9", b"/%00%zz\xc3\xa9"),
        (b"", b"/a/../b", b"/a/../b"),
        (b"", b"/x?next=/../../y", b"/x?next=/../../y"),
    ],
)
def test_the_clients_bytes_stand_behind_the_base_path(base: bytes, rest: bytes, target: bytes) -> None:
    assert upstream_target(base, rest) == target


@pytest.mark.parametrize("byte", [*range(0x21), 0x23, 0x7F])
def test_a_byte_no_target_may_hold_is_refused(byte: int) -> None:
    with pytest.raises(BadRequest):
        upstream_target(b"", b"/a" + bytes([byte]) + b"b")


@pytest.mark.parametrize(
    "path",
    [
        b"/..", b"/../x", b"/a/../..", b"/%2e%2e/x", b"/.%2E/x", b"/%2E./x", b"/a/..%2f..", b"/a%5c..%5C..%5C..",
        b"/\\..", b"/..;v=1/x", b"/./..", b"//..", b"/a//../..",
    ],
)  # fmt: skip
def test_a_path_that_climbs_is_refused_however_it_is_written(path: bytes) -> None:
    assert climbs(path)
    with pytest.raises(BadRequest):
        upstream_target(b"/base", path)


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/a/..", b"/a/../b/..", b"/...", b"/..a", b"/a..", b"/.%2e.", b"/%252e%252e/x"]
)
def test_a_path_that_stays_is_no_climb(path: bytes) -> None:
    assert not climbs(path)


@given(st.binary(max_size=30), st.sampled_from([b"", b"/base", b"/a/b"]))
def test_any_bytes_are_refused_or_stand_unchanged_below_the_base_path(rest: bytes, base: bytes) -> None:
    try:
        target = upstream_target(base, rest)
    except BadRequest:
        return
    assert target in (base + rest, base + b"/" + rest)
    assert target.startswith(base + b"/")
    assert not climbs(target.partition(b"?")[0][len(base) :])


# ---------------------------------------------------------------- a WebSocket's path


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        (b"", b"/"),
        (b"?", b"/"),
        (b"?path=", b"/"),
        (b"?path", b"/?path"),
        (b"?path=/", b"/"),
        (b"?path=/room", b"/room"),
        (b"?path=%2Froom%2F7", b"/room/7"),
        (b"?path=/room%3Fa%3D1%26b%3D2", b"/room?a=1&b=2"),
        (b"?path=/room?a=1", b"/room?a=1"),
        (b"?path=/room%3Fa&b=2&c", b"/room?a&b=2&c"),
        (b"?b=2&path=/room&c=%20%zz", b"/room?b=2&c=%20%zz"),
        (b"?b=2", b"/?b=2"),
        (b"?path=/room&", b"/room"),
        (b"?path=/a%252Fb", b"/a%2Fb"),  # decoded once
        (b"?path=/a+b", b"/a+b"),
        (b"?path=/caf%C3%A9/\xc3\xa9", b"/caf%C3%A9/%C3%A9"),
        (b"?Path=/room&xpath=/x", b"/?Path=/room&xpath=/x"),
        (b"?path=/a//b/..", b"/a//b/.."),
        (b"/", b"/"),
        (b"/room/7?a=1", b"/room/7?a=1"),
        (b"/room?path=/x&path=/y", b"/room?path=/x&path=/y"),
        (b"/a%2Fb;v=1//c?x=%20&y", b"/a%2Fb;v=1//c?x=%20&y"),
    ],
)
def test_a_websockets_path_stands_in_the_query_or_in_the_route(rest: bytes, target: bytes) -> None:
    assert websocket_target(rest) == target
    assert upstream_target(b"/base", target) == b"/base" + target


# FEATURES H17; Next.js CVE-2026-44578
@pytest.mark.parametrize(
    "path",
    [
        b"//evil:9/", b"%2F%2Fevil", b"/%2Fevil", b"/\\evil", b"/%5Cevil", b"\\\\evil/", b"%5C%5Cevil",
        b"http://evil/", b"http%3A%2F%2Fevil%2F", b"room", b"?a=1", b"%3Fa", b"@evil/", b":9/", b"%00/", b"/%00",
        b"/x%20HTTP/1.1%0d%0aX:%20y", b"/a%0Db", b"/a%0Ab", b"/a%20b", b"/a%09b", b"/a%23b", b"/a%7Fb", b"*",
    ],
)  # fmt: skip
def test_a_path_that_would_leave_the_endpoint_or_break_its_line_is_refused(path: bytes) -> None:
    for rest in (b"?path=" + path, b"?a=1&path=%b&b=2" % path):
        with pytest.raises(BadRequest):
            websocket_target(rest)


@pytest.mark.parametrize(
    "path", [b"/..", b"/../x", b"/%2e%2e/x", b"/%252e%252e/x", b"/a/%2E./..", b"/a/..%252f..", b"/x/..%5c..%5c"]
)
def test_a_path_that_climbs_once_it_is_decoded_is_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        upstream_target(b"/base", websocket_target(b"?path=" + path))


def test_a_path_may_not_be_given_twice() -> None:
    with pytest.raises(BadRequest, match="more than once"):
        websocket_target(b"?path=/a&b&path=/a")


@given(st.binary(max_size=30), st.binary(max_size=10).map(lambda others: others.replace(b"path=", b"")))
def test_any_path_is_refused_or_one_below_the_endpoints_root(path: bytes, others: bytes) -> None:
    rest = b"?path=" + quote_from_bytes(path, safe="").encode() + b"&" + quote_from_bytes(others, safe="&=").encode()
    try:
        target = websocket_target(rest)
    except BadRequest:
        return
    assert target[:1] == b"/"
    assert target[1:2] not in (b"/", b"\\")
    assert all(0x21 <= byte < 0x7F and byte != 0x23 for byte in target)
    if path and not any(byte >= 0x80 for byte in path):
        assert target.startswith(path)


@given(st.binary(max_size=40), st.sampled_from([b"", b"/", b"?", b"?path=", b"?path=/", b"?path=%2f", b"?path=/%"]))
def test_any_route_of_a_websocket_is_refused_or_stays_below_the_base_path(rest: bytes, start: bytes) -> None:
    try:
        target = upstream_target(b"/base", websocket_target(start + rest))
    except BadRequest:
        return
    assert target.startswith(b"/base/")
    assert not any(byte <= 0x20 or byte in (0x23, 0x7F) for byte in target)
    assert not climbs(target.partition(b"?")[0][len(b"/base") :])
