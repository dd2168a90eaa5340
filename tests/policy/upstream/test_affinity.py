"""Affinity: the key of a request, and sticky cookies that only the gateway can make."""

import random
import string
from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.address import NO_ADDRESS, of_peer, parse
from tornado_gateway.policy.http.cookies import sticky_name
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.upstream.affinity import TAG_BYTES, Affinity, HashKey, Sticky, cookie
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Endpoint

CLIENT = of_peer("192.0.2.7")
PATH = b"/orders/7?page=2"
NAME = b"gw_orders"
SECRET = b"a secret that all gateways have"


def endpoints(*urls: str) -> list[Endpoint]:
    return [Endpoint(url, Breaker(BreakerConfig(), random.Random(1))) for url in urls]


def sticky_of(several: list[Endpoint], secret: bytes = SECRET, name: bytes = NAME) -> Sticky:
    sticky = Sticky(name, secret)
    sticky.use(several)
    return sticky


def tag_of(sticky: Sticky, endpoint: Endpoint, name: bytes = NAME) -> bytes:
    """The value of the cookie, as a browser keeps the value."""
    kept = SimpleCookie(sticky.line(endpoint, secure=False).decode("ascii").partition(": ")[2].strip())
    return kept[name.decode("ascii")].value.encode("ascii")


# ---- keys


@pytest.mark.parametrize(
    ("text", "fields", "key"),
    [
        ("client", [], b"192.0.2.7"),
        ("client", [(b"X-Forwarded-For", b"203.0.113.1")], b"192.0.2.7"),
        ("path", [], b"/orders/7"),
        ("header:X-Tenant", [(b"x-tenant", b"blue")], b"blue"),
        ("header:x-tenant", [(b"Accept", b"*/*"), (b"X-TENANT", b"blue"), (b"x-tenant", b"red")], b"blue"),
        ("header:x-tenant", [(b"x-tenants", b"blue")], b""),
        ("header:x-tenant", [(b"x-tenant", b"")], b""),
        ("header:x-tenant", [], b""),
        ("cookie:session", [(b"Cookie", b"a=1; session=xyz")], b"xyz"),
        ("cookie:session", [(b"Cookie", b"Session=xyz")], b""),
        ("cookie:Session", [(b"cookie", b"session=1; Session=2")], b"2"),
        ("cookie:session", [], b""),
    ],
)
def test_the_key_of_a_request(text: str, fields: list[Field], key: bytes) -> None:
    assert HashKey.parse(text).of(fields, CLIENT, PATH) == key


@pytest.mark.parametrize("path", [b"", b"?a=1"])
def test_a_request_without_a_path_has_no_key_of_it(path: bytes) -> None:
    assert HashKey.parse("path").of([], CLIENT, path) == b""


def test_a_client_has_one_key_however_its_address_is_spelled() -> None:
    key = HashKey.parse("client")
    for spellings, text in (
        (("203.0.113.7", "203.0.113.7:50000", "[::ffff:203.0.113.7]:443", "::ffff:cb00:7107"), b"203.0.113.7"),
        (("2001:DB8::1", "[2001:db8:0::1]:1", "2001:db8::1%a"), b"2001:db8::1"),
    ):
        assert {key.of([], parse(each.encode()) or NO_ADDRESS, PATH) for each in spellings} == {text}
    assert key.of([], NO_ADDRESS, PATH) == b""


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("client", HashKey("client")),
        ("path", HashKey("path")),
        ("header:x-tenant", HashKey("header", "x-tenant")),
        ("cookie:SessionId", HashKey("cookie", "SessionId")),
        ("cookie:!#$%&'*+-.^_`|~09", HashKey("cookie", "!#$%&'*+-.^_`|~09")),
    ],
)
def test_a_key_reads_as_it_was_written(text: str, parsed: HashKey) -> None:
    assert HashKey.parse(text) == parsed
    assert str(parsed) == text


def test_names_of_headers_are_the_same_in_any_case() -> None:
    assert HashKey.parse("header:X-Tenant") == HashKey.parse("header:x-tenant")
    assert HashKey.parse("cookie:Session") != HashKey.parse("cookie:session")


@pytest.mark.parametrize(
    "text",
    [
        *("", "Client", "clients", "client:", "client:x", "path:", "path:/x", "header", "header:", "cookie", "cookie:"),
        *("query:x", ":x", "header:a b", "header:a:b", "header:ä", "cookie:a=b", "cookie:a;b", "header:x\n", " client"),
        *("cookie:a,b", 'cookie:"a"', "header:a/b", "header:\x00"),
    ],
)
def test_an_invalid_hash_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        HashKey.parse(text)
    assert raised.value.args == (text,)


@given(
    st.sampled_from(["", "header:", "cookie:", "Header:", "client", "path"]),
    st.text(string.ascii_letters + string.digits + "-_.:= \n", max_size=20),
)
def test_whatever_is_taken_for_a_key_finds_something_or_nothing_in_any_request(kind: str, name: str) -> None:
    try:
        key = HashKey.parse(kind + name)
    except ValueError:
        return
    assert HashKey.parse(str(key)) == key
    assert isinstance(key.of([(b"Cookie", b"a=1"), (b"A", b"2")], CLIENT, PATH), bytes)


# ---- Cookie fields


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], b""),
        ([b""], b""),
        ([b"a=1"], b"1"),
        ([b"a=1; b=2"], b"1"),
        ([b"b=2; a=1"], b"1"),
        ([b"b=2;a=1"], b"1"),
        ([b"b=2;   a=1   ;c=3"], b"1"),
        ([b"\ta=1"], b"1"),
        ([b"a=1; a=2"], b"1"),
        ([b"b=2", b"a=1"], b"1"),  # HTTP/2 splits the field (RFC 9113 §8.2.3), and what comes from there may still be
        ([b"a=x=y=="], b"x=y=="),
        ([b'a="quoted"'], b'"quoted"'),
        ([b"a="], b""),
        ([b"a"], b""),
        ([b"a; a=1"], b"1"),
        ([b"=1"], b""),
        ([b"=a=1"], b""),
        ([b";;;; ;a=1;"], b"1"),
        ([b"aa=1; ba=2; A=3"], b""),
        ([b"b=a=1"], b""),
        ([b'b="; a=1; "'], b"1"),  # RFC 6265 knows no quoting: a semicolon always ends a pair
        ([b"a,b=1"], b""),
        ([b"\xff\xfe=\x80; a=\xe9"], b"\xe9"),
        ([b"$Version=1; a=1"], b"1"),
    ],
)
def test_a_cookie_is_found_in_whatever_a_client_sends(values: list[bytes], found: bytes) -> None:
    assert cookie([(b"Cookie", value) for value in values], b"a") == found


def test_only_cookie_fields_hold_cookies() -> None:
    assert cookie([(b"Set-Cookie", b"a=1"), (b"X-Cookie", b"a=2"), (b"cOOkIE", b"a=3")], b"a") == b"3"


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_cookie_field_makes_the_search_fail_or_find_more_than_a_pair(values: list[bytes]) -> None:
    found = cookie([(b"Cookie", value) for value in values], b"a")
    assert b";" not in found
    assert not found or any(b"a=" + found in value for value in values)


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.text(string.ascii_letters + "=-", max_size=5)), max_size=6
    )
)
def test_the_first_cookie_of_a_name_counts(pairs: list[tuple[bytes, str]]) -> None:
    field = b"; ".join(name + b"=" + value.encode() for name, value in pairs)
    expected = next((value.encode() for name, value in pairs if name == b"a"), b"")
    assert cookie([(b"Cookie", field)], b"a") == expected


def test_a_long_cookie_field_is_searched_to_its_end() -> None:
    assert cookie([(b"Cookie", b";" * 100_000 + b"a=1")], b"a") == b"1"
    assert cookie([(b"Cookie", b"=" * 100_000)], b"a") == b""


# ---- sticky cookies


def test_the_cookie_that_is_set_leads_back_to_the_endpoint() -> None:
    several = endpoints("http://a", "http://b", "http://c/base")
    sticky = sticky_of(several)
    for endpoint in several:
        assert sticky.find([(b"Cookie", b"x=1; gw_orders=" + tag_of(sticky, endpoint))]) is endpoint


@pytest.mark.parametrize(("secure", "end"), [(False, b""), (True, b"; Secure")])
def test_the_cookie_lasts_as_long_as_the_browser_runs_and_is_kept_from_scripts_and_other_sites(
    secure: bool, end: bytes
) -> None:
    sticky = sticky_of(several := endpoints("http://a"))
    tag = tag_of(sticky, several[0])
    line = sticky.line(several[0], secure=secure)
    assert line == b"Set-Cookie: gw_orders=" + tag + b"; Path=/; HttpOnly; SameSite=Lax" + end + b"\r\n"


@given(st.binary(max_size=64), st.text("abc.:/0123456789é", min_size=1, max_size=30))
def test_the_cookie_says_nothing_about_the_endpoint_and_breaks_no_field(secret: bytes, host: str) -> None:
    sticky = sticky_of(several := endpoints("http://a"), secret)
    several[0].url = f"http://{host}"
    tag = tag_of(sticky, several[0])
    assert len(tag) == TAG_BYTES * 4 // 3
    assert set(tag) <= set((string.ascii_letters + string.digits + "-_").encode())


def test_equal_gateways_give_equal_cookies_and_another_secret_gives_others() -> None:
    several, respelled = endpoints("http://a", "http://b"), endpoints("HTTP://A:80/")
    here, there, elsewhere = sticky_of(several), sticky_of(endpoints("http://a")), sticky_of(several, b"another secret")
    tag = tag_of(here, several[0])
    assert tag == tag_of(there, several[0])
    assert tag == tag_of(sticky_of(respelled), respelled[0])
    assert tag not in {tag_of(here, several[1]), tag_of(elsewhere, several[0])}
    assert elsewhere.find([(b"Cookie", b"gw_orders=" + tag)]) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"http://a",
        b"aHR0cDovL2E=",
        b"0",
        b"AAAAAAAAAAAAAAAA",
        b"*",
        b"../../etc/passwd",
        b"\xff" * 16,
        b"a" * 9999,
    ],
)
def test_a_forged_cookie_binds_to_no_endpoint(value: bytes) -> None:
    assert sticky_of(endpoints("http://a")).find([(b"Cookie", b"gw_orders=" + value)]) is None


@given(st.data())
def test_a_changed_tag_binds_to_no_endpoint(data: st.DataObject) -> None:
    several = endpoints("http://a", "http://b")
    sticky = sticky_of(several)
    tag = tag_of(sticky, several[0])
    at = data.draw(st.integers(0, len(tag) - 1))
    forged = tag[:at] + bytes([data.draw(st.sampled_from([each for each in b"AZaz09-_=" if each != tag[at]]))])
    forged += tag[at + 1 :]
    for value in (forged, tag[:-1], tag + b"A", tag.swapcase()):
        assert sticky.find([(b"Cookie", b"gw_orders=" + value)]) is None


def test_the_cookie_of_another_service_binds_to_no_endpoint() -> None:
    several = endpoints("http://a")
    sticky = sticky_of(several)
    tag = tag_of(sticky, several[0])
    assert sticky.find([(b"Cookie", sticky_name("users") + b"=" + tag)]) is None
    assert sticky.find([]) is None


def test_the_cookie_of_a_removed_endpoint_binds_to_no_endpoint_until_the_endpoint_returns() -> None:
    several = endpoints("http://a", "http://b")
    sticky = sticky_of(several)
    fields = [(b"Cookie", b"gw_orders=" + tag_of(sticky, several[0]))]
    sticky.use(several[1:])
    assert sticky.find(fields) is None
    (returned,) = endpoints("http://a")
    sticky.use([returned])
    assert sticky.find(fields) is returned


def test_sessions_move_to_another_endpoint_unless_the_service_refuses() -> None:
    assert not Sticky(NAME, SECRET).refuses
    assert Sticky(NAME, SECRET, refuses=True).refuses


# ---- both


def test_affinity_finds_the_key_and_the_endpoint_of_a_request() -> None:
    several = endpoints("http://a", "http://b")
    sticky = sticky_of(several)
    fields = [(b"Cookie", b"gw_orders=" + tag_of(sticky, several[1]))]
    assert Affinity(HashKey.parse("path"), sticky).of(fields, CLIENT, PATH) == (b"/orders/7", several[1])
    assert Affinity(HashKey.parse("path"), None).of(fields, CLIENT, PATH) == (b"/orders/7", None)
    assert Affinity(None, sticky).of(fields, CLIENT, PATH) == (b"", several[1])
    assert Affinity(None, sticky).of([], CLIENT, PATH) == (b"", None)


def test_a_cookie_is_set_only_where_sessions_are_sticky() -> None:
    several = endpoints("http://a")
    sticky = sticky_of(several)
    assert Affinity(HashKey.parse("client"), None).cookie_line(several[0], secure=True) == b""
    assert Affinity(None, sticky).cookie_line(several[0], secure=True) == sticky.line(several[0], secure=True)
