"""The names of the gateway's own cookies: read, set, and kept from services."""

import pytest

from tornado_gateway.policy.http.cookies import (
    MOST_VALUES,
    is_session_name,
    service_of,
    session_cookie,
    session_values,
    sticky_name,
    without_own,
    without_session,
)

OWN = (b"gateway_session", b"__Secure-gateway_session")


def test_a_sticky_cookie_is_that_of_its_service() -> None:
    assert service_of(sticky_name("a.b")) == b"a.b"
    assert service_of(b"gateway_session") == b""


@pytest.mark.parametrize("name", OWN)
def test_the_names_of_sessions_are_known(name: bytes) -> None:
    assert is_session_name(name)
    assert not is_session_name(name.upper())
    assert not is_session_name(b"x" + name)


@pytest.mark.parametrize(
    ("cookie", "plain", "secure"),
    [
        (b"gateway_session=x", [b"x"], []),
        (b"__Secure-gateway_session=x", [], [b"x"]),
        (b"a=1;gateway_session = x ; b=2", [b"x"], []),
        (b"gateway_session=x; gateway_session=y; gateway_session=x", [b"x", b"y"], []),
        (b"gateway_session=a=b", [b"a=b"], []),
        (b"gateway_session", [b""], []),
        (b"Gateway_Session=x; xgateway_session=x", [], []),
        (b"", [], []),
    ],
)
def test_a_session_is_read_by_the_name_of_the_scheme(cookie: bytes, plain: list[bytes], secure: list[bytes]) -> None:
    assert session_values([cookie], is_secure=False) == plain
    assert session_values([cookie], is_secure=True) == secure


def test_few_sessions_of_a_request_are_looked_at() -> None:
    cookie = b"; ".join(b"gateway_session=%d" % number for number in range(1000))
    assert session_values([cookie], is_secure=False) == [b"%d" % number for number in range(MOST_VALUES)]


def test_a_session_is_for_admin_alone_and_for_no_script() -> None:
    assert session_cookie("t", is_secure=False) == "gateway_session=t; Path=/admin; HttpOnly; SameSite=Strict"
    secure = "__Secure-gateway_session=t; Path=/admin; HttpOnly; SameSite=Strict; Secure"
    assert session_cookie("t", is_secure=True) == secure


def test_a_session_is_taken_away_by_a_cookie_of_the_past() -> None:
    assert session_cookie("", is_secure=False).endswith("; Max-Age=0")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Cookie: a=1; b=2", b"Cookie: a=1; b=2"),
        (b"Cookie: gateway_session=x", b""),
        (b"cOOKIE: gateway_session=x; a=1", b"cOOKIE: a=1"),
        (b"Cookie:a=1;gateway_session=x", b"Cookie: a=1"),
        (b"Cookie: a=1; __Secure-gateway_session=x; b=2", b"Cookie: a=1; b=2"),
        (b"Cookie: =gateway_session=x; gateway_session", b""),
        (b"Cookie: my_gateway_session=x", b"Cookie: my_gateway_session=x"),
        (b"X-Note: gateway_session=x", b"X-Note: gateway_session=x"),
    ],
)
def test_no_endpoint_gets_a_session(before: bytes, after: bytes) -> None:
    lines = without_session(b"A: 1\r\n%b\r\nZ: 1\r\n" % before)
    assert lines == b"A: 1\r\n%bZ: 1\r\n" % (after and after + b"\r\n")


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    "line",
    [b"Set-Cookie: %b=x; Path=/", b"set-cookie:\t%b =x", b"Set-Cookie: =%b=x", b"Set-Cookie: = %b", b"SET-COOKIE:%b"],
)
def test_no_endpoint_sets_a_cookie_of_the_gateways(name: bytes, line: bytes) -> None:
    lines = b"Set-Cookie: a=1\r\n%b\r\nETag: 1\r\n" % (line % name)
    assert without_own(lines, is_session_name) == b"Set-Cookie: a=1\r\nETag: 1\r\n"


@pytest.mark.parametrize("value", [b"a=gateway_session=x", b"gateway_sessions=x", b"a=1; gateway_session=x"])
def test_other_cookies_of_endpoints_pass(value: bytes) -> None:
    line = b"Set-Cookie: %b\r\n" % value
    assert without_own(line, is_session_name) == line
