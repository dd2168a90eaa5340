"""Authorities and origins with the same meaning are equal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.http.authority import Authority, is_of_authority, parse_authority, parse_origin


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("a", Authority("a", None)),
        ("A.Example:8080", Authority("a.example", 8080)),
        ("a.", Authority("a.", None)),
        ("a_b-c~d:", Authority("a_b-c~d", None)),
        ("a:0080", Authority("a", 80)),
        ("127.0.0.1:65535", Authority("127.0.0.1", 65535)),
        ("[2001:DB8:0:0::1]:443", Authority("[2001:db8::1]", 443)),
        ("[::ffff:1.2.3.4]", Authority("[::ffff:102:304]", None)),
        *(
            (text, None)
            for text in ("", ":80", "a:65536", "a:123456", "a:b", "a:b:1", "[", "[]", "[x]", "[:::]", "[::1", "::1")
        ),
        *(
            (text, None)
            for text in ("::1", "[::1%eth0]", "a/b", "a@b", "a b", "a?b", "é", "a\n", "a:1\n", "a,b", '"a"')
        ),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, authority: Authority | None) -> None:
    assert parse_authority(text) == authority


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("https://app.example:8443", "https://app.example:8443"),
        ("http://[0::1]:80", "http://[::1]"),
        ("chrome-extension://AbC", "chrome-extension://abc"),
        *(
            (text, None)
            for text in ("", "null", "same-origin", "*", "a", "//a", "://a", "1a://a", "http://", "http://a/")
        ),
        *((text, None) for text in ("http://a b", "http://a@b", "http://[", "http://a:x", "http:a", "ht\ttp://a")),
    ],
)
def test_an_origin_is_spelled_as_browsers_do(text: str, origin: str | None) -> None:
    assert parse_origin(text) == origin


HOSTS = st.sampled_from(["a", "gateway.example", "127.0.0.1", "[::1]", "[2001:db8::1]"])
PORTS = st.sampled_from(["", ":80", ":443", ":8080"])
SPELLINGS = {"[::1]": "[0:0::1]", "[2001:db8::1]": "[2001:DB8:0::1]"}


@settings(deadline=None)
@given(st.sampled_from(["http", "https"]), HOSTS, PORTS, HOSTS, PORTS)
def test_a_page_is_of_an_authority_if_host_and_port_are(
    scheme: str, host: str, port: str, other: str, its: str
) -> None:
    default = {"http": ":80", "https": ":443"}[scheme]
    same = host == other and (port or default) == (its or default)
    spelled = SPELLINGS.get(host, host.upper())
    assert is_of_authority(f"{scheme.upper()}://{spelled}{port}", other + its) is same
    assert is_of_authority(f"{scheme}://{host}{port}", SPELLINGS.get(other, other.upper()) + its) is same


@pytest.mark.untraced
@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_origin_or_not(text: str) -> None:
    origin = parse_origin(text)
    assert origin is None or parse_origin(origin) == origin
    assert not is_of_authority("null", text)
