"""The request target: the client's own bytes, on the endpoint's host, never above its base path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.target import Origin, climbs, parse_base_url, split_route, upstream_target


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
        ("http://a b", "spaces"),
        ("http://a:0", "port"),
        ("http://a:65536", "port"),
        ("http://a:x", "port"),
        ("http://a_b!", "valid host"),
        ("http://-a", "valid host"),
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
    ("origin", "authority"),
    [
        (Origin("http", "a", 80), b"a"),
        (Origin("http", "a", 443), b"a:443"),
        (Origin("https", "a", 443), b"a"),
        (Origin("http", "::1", 8080), b"[::1]:8080"),
        (Origin("http", "localhost", 0, "/run/app.sock"), b"localhost"),
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
