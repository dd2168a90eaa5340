"""Requests that look into the cache, and the key that tells requests apart."""

import pytest

from tornado_gateway.policy.http.caching.config import CacheConfig
from tornado_gateway.policy.http.caching.directives import NO_CACHE, NONE, read_directives
from tornado_gateway.policy.http.caching.request import (
    CacheRequest,
    by_name,
    has_credentials,
    may_collapse,
    partition,
    read_request,
    resource,
)

PLAIN = CacheConfig()
ORIGIN = (b"http", b"80", b"", b"/api/svc")


@pytest.mark.parametrize(
    ("line", "passes", "has_condition"),
    [
        (b"Accept: a", False, False),
        (b"Range: bytes=0-1", False, True),
        (b"IF-NONE-MATCH: x", False, True),
        (b"If-Modified-Since: x", False, True),
        (b"If-Range: x", False, True),
        (b"if-match: x", True, False),
        (b"If-Unmodified-Since: x", True, False),
        (b"X-HTTP-Method-Override: x", True, False),
        (b"X-HTTP-Method: x", True, False),
        (b"X-Method-Override: x", True, False),
        (b"X-Host: x", True, False),
        (b"X-HTTP-Host-Override: x", True, False),
    ],
)
def test_lines_tell_what_a_stored_response_can_answer(line: bytes, passes: bool, has_condition: bool) -> None:
    read = read_request(line + b"\r\n")
    assert (read.passes, read.has_condition) == (passes, has_condition)


def test_lines_tell_the_directives() -> None:
    assert NO_CACHE in read_request(b"Pragma: no-cache\r\n").directives
    assert read_request(b"Accept: a\r\n").directives is NONE


def test_fields_are_found_by_lower_case_name() -> None:
    lines = b"A: 1\r\nb:2 \r\na: 3\r\n"
    assert by_name(lines) == read_request(lines).fields == {b"a": [b"1", b"3"], b"b": [b"2"]}


def test_nothing_of_a_request_stays_in_memory() -> None:
    assert read_request(b"Authorization: Bearer secret\r\n").has_credentials
    assert read_request(b"A: 1\r\n") is not read_request(b"A: 1\r\n")


@pytest.mark.parametrize(
    ("names", "bears"),
    [
        ([b"accept"], False),
        ([b"cookie"], True),
        ([b"authorization"], True),
        ([b"x-api-key"], True),
    ],
)
def test_credentials_are_known_by_their_fields(names: list[bytes], bears: bool) -> None:
    assert has_credentials(names) == bears


def test_a_principal_of_its_own_may_keep_what_a_credential_forbids_to_share() -> None:
    request = CacheRequest((b"", b""), b"GET", {}, has_credentials=True)
    assert not request.may_share
    assert CacheRequest((b"", b""), b"GET", {}, has_credentials=True, has_principal=True).may_share
    assert CacheRequest((b"", b""), b"GET", {}).may_share


@pytest.mark.parametrize(
    ("method", "name", "directive", "may"),
    [
        (b"GET", b"accept", b"max-age=1", True),
        (b"HEAD", b"accept", b"", False),
        (b"GET", b"range", b"", False),
        (b"GET", b"if-none-match", b"", False),
        (b"GET", b"accept", b"no-cache", False),
        (b"GET", b"accept", b"no-store", False),
    ],
)
def test_requests_with_an_answer_of_their_own_are_not_collapsed(
    method: bytes, name: bytes, directive: bytes, may: bool
) -> None:
    request = CacheRequest((b"", b""), method, {name: [b"x"]}, read_directives([directive]))
    assert may_collapse(request) == may


def test_head_is_asked_about_as_get() -> None:
    head = CacheRequest((b"a", b"b"), b"HEAD", {b"accept": [b"*"]}, has_credentials=True, is_plain=True)
    assert head.as_get() == CacheRequest((b"a", b"b"), b"GET", {b"accept": [b"*"]}, has_credentials=True, is_plain=True)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_plain_get_may_be_collapsed(method: bytes) -> None:
    assert may_collapse(CacheRequest((b"", b""), method, {}, is_plain=True)) == (method == b"GET")


@pytest.mark.parametrize(
    ("config", "target", "wanted"),
    [
        (PLAIN, b"/a?b=2&a=1", b"/a?b=2&a=1"),
        (CacheConfig(sorts_query=True), b"/a?b=2&a=2&a=1&=", b"/a?=&a=2&a=1&b=2"),
        (CacheConfig(sorts_query=True), b"/a", b"/a"),
        (CacheConfig(sorts_query=True), b"/a?", b"/a?"),
        (CacheConfig(ignored_parameters=("utm",)), b"/a?utm=1&x=1&utm&utms=2", b"/a?x=1&utms=2"),
        (CacheConfig(ignored_parameters=("utm",)), b"/a?utm=1", b"/a"),
        (CacheConfig(ignored_parameters=("*",)), b"/a?utm=1&x=2", b"/a"),
    ],
)
def test_the_resource_is_service_and_target(config: CacheConfig, target: bytes, wanted: bytes) -> None:
    assert resource(b"svc", target, config) == b"svc " + wanted


def test_paths_that_differ_in_any_byte_are_different_resources() -> None:
    targets = [b"/a", b"//a", b"/a/", b"/A", b"/%61", b"/a;x", b"/a%00", b"/a?", b"/a/..%2fa", b"/.//a"]
    assert len({resource(b"svc", each, PLAIN) for each in targets}) == len(targets)


def parted(
    config: CacheConfig = PLAIN, host: bytes = b"a", claims: bytes = b"", principal: str = "", **fields: bytes
) -> bytes:
    known = {name.replace("_", "-").encode(): [value] for name, value in fields.items()}
    return partition(config, known, ORIGIN, host, claims, principal)


def test_what_an_endpoint_sees_of_the_origin_keeps_requests_apart() -> None:
    assert parted(host=b"a") != parted(host=b"b")
    assert parted(principal="ada") != parted()
    assert partition(PLAIN, {}, (b"https", *ORIGIN[1:]), b"a", b"", "") != parted()
    assert parted(claims=b"X-Rewrite-URL: /x\r\n") != parted(claims=b"X-Rewrite-URL: /y\r\n")
    ignoring = CacheConfig(ignores_host=True)
    assert parted(ignoring, host=b"a") == parted(ignoring, host=b"b")


def test_fields_of_the_configuration_keep_requests_apart() -> None:
    keyed = CacheConfig(key_fields=(b"x-tenant", b"x-plan"))
    tenants = [parted(keyed), parted(keyed, x_tenant=b"1"), parted(keyed, x_plan=b"1"), parted(keyed, x_tenant=b"2")]
    assert len(set(tenants)) == 4
    assert parted(keyed, x_tenant=b"1", x_other=b"1") == parted(keyed, x_tenant=b"1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"X-Real-IP: 10.0.0.1\r\n", b"X-Real-IP: 10.0.0.2\r\n", True),
        (b"Forwarded: for=a;host=h\r\n", b"Forwarded: for=b;host=h\r\n", True),
        (b"Forwarded: for=a;host=h, by=x\r\n", b"Forwarded: For=b;host=h, by=y\r\n", True),
        (b"Forwarded: for=a;host=h\r\n", b"Forwarded: for=a;host=g\r\n", False),
        (b"X-Original-URL: /a\r\n", b"X-Original-URL: /b\r\n", False),
    ],
)
def test_claims_about_addresses_do_not_keep_requests_apart(one: bytes, other: bytes, same: bool) -> None:
    assert (parted(claims=one) == parted(claims=other)) == same


def test_the_selection_that_is_remembered_is_by_the_same_vary_and_the_same_lines() -> None:
    lines = read_request(b"Accept-Language: de\r\nAccept: A\r\n")
    for _ in range(2):
        assert lines.selection((b"accept-language",)) == lines.selection((b"accept-language",)) == (b"de",)
        assert lines.selection((b"accept", b"x")) == (b"a", None)
        assert lines.selection(()) == ()
        assert read_request(b"Accept-Language: fr\r\n").selection((b"accept-language",)) == (b"fr",)
