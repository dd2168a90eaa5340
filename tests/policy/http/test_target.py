"""The request target: the client's bytes, on the endpoint's host, never above the base path."""

import ipaddress
import pickle
import string
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.http.target import (
    BROWSER,
    FORWARD,
    LONGEST_REMEMBERED_TARGET,
    STRICT,
    Origin,
    TargetRule,
    canonical_url,
    climbs,
    is_address,
    is_trustworthy,
    parse_base_url,
    split_route,
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
        ("http://[::FFFF:10.0.0.7]:81", Origin("http", "10.0.0.7", 81), b""),
        ("http://a#::ffff:10.0.0.7", Origin("http", "a", 80, address="10.0.0.7"), b""),
        ("http://a:8080#FD00:0::7", Origin("http", "a", 8080, address="fd00::7"), b""),
    ],
)
def test_base_urls_are_split_into_origin_and_path(url: str, origin: Origin, base_path: bytes) -> None:
    assert parse_base_url(url) == (origin, base_path)


@pytest.mark.parametrize(
    ("canonical", "spellings"),
    [
        ("http://a", ["http://a/", "HTTP://A", "http://a:80", "http://A:080/", "http://a:"]),
        ("https://a/B", ["https://A:443/B/", "https://a/B//"]),
        ("http://a:443", ["http://A:443/"]),
        ("http://[2001:db8::1]", ["http://[2001:DB8:0::1]:80/", "http://[2001:db8:0:0:0:0:0:1]"]),
        ("http://10.0.0.7:81", ["http://[::ffff:10.0.0.7]:81", "http://[::FFFF:A00:7]:81/"]),
        ("http://a#10.0.0.7", ["http://A:80/#10.0.0.7", "http://a#::ffff:10.0.0.7"]),
        ("http://[fe80::1%eth0]", ["http://[FE80::1%25eth0]:80/"]),
        ("http://[fe80::1%eth1]", []),
        ("http://a.", []),
        ("unix:/run/App.sock", []),
    ],
)
def test_every_spelling_of_a_base_url_is_the_same_endpoint(canonical: str, spellings: list[str]) -> None:
    assert {canonical_url(*parse_base_url(url)) for url in (canonical, *spellings)} == {canonical}


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
def test_an_invalid_base_url_is_refused_with_its_reason(url: str, why: str) -> None:
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
        ("[::ffff:10.0.0.7]", "10.0.0.7"),
        ("[::ffff:a00:7%eth0]", f"{ipaddress.IPv6Address('::ffff:a00:7')}%eth0"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("[fe80::1%25]", "fe80::1%25"),
    ],
)
def test_a_host_is_written_in_one_way(given: str, host: str) -> None:
    assert parse_base_url(f"http://{given}:8080")[0].host == host


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
def test_addresses_are_told_from_names(host: str, is_one: bool) -> None:
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
    "rest",
    [
        *(b"/a%2Fb;v=1//c?x=%20&y", b"", b"?", b"?a", b"//evil.example/x", b"/%00%zz", b"/a/../b"),
        b"/x?next=/../../y",
        b"/" + b"a" * LONGEST_REMEMBERED_TARGET,
    ],
)
def test_the_clients_bytes_pass_as_they_are(rest: bytes) -> None:
    assert TargetRule().admit(rest) == TargetRule(FORWARD).admit(rest) == rest


@pytest.mark.parametrize("name", [BROWSER, STRICT, FORWARD])
@pytest.mark.parametrize("byte", [*range(0x21), 0x23, 0x7F])
def test_a_byte_no_target_may_hold_is_refused(byte: int, name: str) -> None:
    for rest in (b"/a%bb" % bytes([byte]), b"/?a%bb" % bytes([byte])):
        with pytest.raises(BadRequest):
            TargetRule(name).admit(rest)


BY_RULE = {  # bytes that may stand in a path, and in a query, beside those of every URI
    BROWSER: (b"^|`{}[]", b"^|`{}[]\\?"),
    STRICT: (b"", b"?"),
    FORWARD: (b'^|`{}[]"<>\\' + bytes(range(0x80, 0x100)), b'^|`{}[]"<>\\?' + bytes(range(0x80, 0x100))),
}
OF_URIS = string.ascii_letters.encode() + string.digits.encode() + b"-._~!$&'()*+,;=:@/"  # RFC 3986 §3.3


@pytest.mark.parametrize("name", BY_RULE)
def test_each_rule_admits_its_bytes_and_no_others(name: str) -> None:
    rule = TargetRule(name)
    for start, more in zip((b"/a", b"/?a"), BY_RULE[name], strict=True):
        admitted = {*OF_URIS, *more}
        for byte in admitted:
            assert rule.admit(start + bytes([byte])) == start + bytes([byte])
        for byte in {*range(0x100)} - admitted - {*b"%?"}:
            with pytest.raises(BadRequest):
                rule.admit(start + bytes([byte]))


def test_strict_wants_whole_escapes() -> None:
    for text in (b"/%2fA%C3%a9", b"/?%00"):
        assert TargetRule(STRICT).admit(text) == text
    for text in (b"/%", b"/%2", b"/%zz", b"/?%2", b"/a?%0g"):
        assert TargetRule().admit(text) == text
        with pytest.raises(BadRequest, match="'%' without two hexadecimal digits"):
            TargetRule(STRICT).admit(text)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (b"/caf\xc3\xa9", "the path of the request target below its service holds the byte 0xC3 at offset 4; .* %C3"),
        (b'/a?b="', "the query of .* holds the byte 0x22 at offset 2; it must be sent as %22"),
        (b"/a\\b", "the path of .* holds the byte 0x5C at offset 2"),
    ],
)
def test_an_error_names_the_byte_and_its_place(rest: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        TargetRule().admit(rest)


@pytest.mark.parametrize(
    "path",
    [
        b"/..", b"/../x", b"/a/../..", b"/%2e%2e/x", b"/.%2E/x", b"/%2E./x", b"/a/..%2f..", b"/a%5c..%5C..%5C..",
        b"/\\..", b"/..;v=1/x", b"/./..", b"//..", b"/a//../..",
        b"/a%2Fb/../..", rb"/a\b/../..",  # a step too many for a server that sees one segment before
        b"/..%3Bx/b", b"/%3B/..", b"/;/..",  # parameters, decoded before or after they are cut
    ],
)  # fmt: skip
def test_a_path_that_climbs_is_refused_however_it_is_written(path: bytes) -> None:
    assert climbs(path)
    for name in (BROWSER, STRICT, FORWARD):
        with pytest.raises(BadRequest):
            TargetRule(name).admit(path)


@pytest.mark.parametrize(
    "path", [b"", b"/", b"/a/..", b"/a/../b/..", b"/...", b"/..a", b"/a..", b"/.%2e.", b"/%252e%252e/x"]
)
def test_a_path_that_stays_is_no_climb(path: bytes) -> None:
    assert not climbs(path)


@given(st.binary(max_size=30), st.sampled_from([BROWSER, STRICT, FORWARD]))
def test_any_bytes_are_refused_or_pass_unchanged(rest: bytes, name: str) -> None:
    try:
        target = TargetRule(name).admit(rest)
    except BadRequest:
        return
    assert target == rest
    assert not climbs(target.partition(b"?")[0])


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
        (b"?path=/caf%C3%A9/%a9", b"/caf%C3%A9/%A9"),
        (b"?Path=/room&xpath=/x", b"/?Path=/room&xpath=/x"),
        (b"?path=/a//b/..", b"/a//b/.."),
        (b"/", b"/"),
        (b"/room/7?a=1", b"/room/7?a=1"),
        (b"/room?path=/x&path=/y", b"/room?path=/x&path=/y"),
        (b"/a%2Fb;v=1//c?x=%20&y", b"/a%2Fb;v=1//c?x=%20&y"),
    ],
)
def test_a_websockets_path_stands_in_the_query_or_in_the_route(rest: bytes, target: bytes) -> None:
    assert websocket_target(rest, TargetRule()) == TargetRule().admit(target) == target


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
            websocket_target(rest, TargetRule(FORWARD))


@pytest.mark.parametrize(
    "rest",
    [
        b"?path=/a%22b", b"?path=/%3Ca%3E", b"?path=/a%5Cb", b'?path=/a"b', b"?path=/\xc3\xa9", b"?a=\xc3&path=/a",
        b"?path=/a&b=<", b'/a"', b"/\xc3\xa9", b"/a?\xc3", b"?path=/a%3Fb%3D%22",
    ],
)  # fmt: skip
def test_bytes_that_no_browser_sends_are_refused_in_the_decoded_path_too(rest: bytes) -> None:
    with pytest.raises(BadRequest, match="holds the byte"):
        websocket_target(rest, TargetRule())
    assert websocket_target(rest, TargetRule(FORWARD)).startswith(b"/")


@pytest.mark.parametrize(
    "path", [b"/..", b"/../x", b"/%2e%2e/x", b"/%252e%252e/x", b"/a/%2E./..", b"/a/..%252f..", b"/x/..%5c..%5c"]
)
def test_a_path_that_climbs_once_it_is_decoded_is_refused(path: bytes) -> None:
    with pytest.raises(BadRequest, match="climbs"):
        websocket_target(b"?path=" + path, TargetRule(FORWARD))


def test_a_path_may_not_be_given_twice() -> None:
    with pytest.raises(BadRequest, match="more than once"):
        websocket_target(b"?path=/a&b&path=/a", TargetRule())


@given(st.binary(max_size=30), st.binary(max_size=10).map(lambda others: others.replace(b"path=", b"")))
def test_any_path_is_refused_or_stays_below_the_base_path(path: bytes, others: bytes) -> None:
    rest = b"?path=" + quote_from_bytes(path, safe="").encode() + b"&" + quote_from_bytes(others, safe="&=").encode()
    try:
        target = websocket_target(rest, TargetRule())
    except BadRequest:
        return
    assert target[:1] == b"/"
    assert target[1:2] not in (b"/", b"\\")
    assert all(0x21 <= byte < 0x7F and byte != 0x23 for byte in target)
    if path and not any(byte >= 0x80 for byte in path):
        assert target.startswith(path)


ROUTES = st.sampled_from([b"", b"/", b"?", b"?path=", b"?path=/", b"?path=%2f", b"?path=/%"])


@given(st.binary(max_size=40), ROUTES, st.sampled_from([BROWSER, STRICT, FORWARD]))
def test_any_route_of_a_websocket_is_refused_or_kept_to_the_rule(rest: bytes, start: bytes, name: str) -> None:
    rule = TargetRule(name)
    try:
        target = websocket_target(start + rest, rule)
    except BadRequest:
        return
    assert rule.admit(target) == target
    assert not any(byte <= 0x20 or byte in (0x23, 0x7F) for byte in target)
    assert not climbs(target.partition(b"?")[0])


def test_rules_of_one_name_are_the_same() -> None:
    rules = {name: TargetRule(name) for name in (BROWSER, STRICT, FORWARD)}
    assert TargetRule() == rules[BROWSER] != rules[STRICT] != rules[FORWARD] != FORWARD
    assert len({TargetRule(), *rules.values()}) == 3


def test_a_rule_is_the_same_in_another_process() -> None:
    """Workers get their settings as a pickle, which has no place for what `__reduce__` leaves out: a cache."""
    rule = TargetRule(STRICT)
    copy = pickle.loads(pickle.dumps(rule))  # our own
    assert copy == rule
    with pytest.raises(BadRequest):
        copy.admit(b"/a|b")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://id.example/keys", True), ("http://localhost:1/", True), ("http://127.0.0.9/", True),
        ("http://[::1]:8/", True), ("http://id.example/", False), ("http://10.0.0.1/", False), ("ftp://a/", False),
        ("id.example", False), ("https://", False), ("file:///etc/passwd", False),
    ],
)  # fmt: skip
def test_only_https_and_loopback_are_trusted(url: str, expected: bool) -> None:
    assert is_trustworthy(url) is expected
