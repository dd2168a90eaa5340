"""Each parser: accepted values, and the reasons for refused values."""

import math
from ipaddress import ip_network
from typing import Any

import pytest

from tornado_gateway.config import parsers
from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import ConfigurationError, Invalid, shown
from tornado_gateway.policy.upstream.affinity import HashKey
from tornado_gateway.policy.upstream.hosts import Family


@pytest.mark.parametrize(
    ("syntax", "text", "value"),
    [
        (parsers.whole(1, 9), "1", 1),
        (parsers.whole(1, 9), "9", 9),
        (parsers.size(0), "0", 0),
        (parsers.whole(0, 9, zero=math.inf), "0", math.inf),
        (parsers.whole(0, 9, zero=math.inf), "9", 9),
        (parsers.milliseconds(0, zero=math.inf), "0", math.inf),
        (parsers.milliseconds(0), "0", 0.0),
        (parsers.percent(0, 100), "29", 0.29),
        (parsers.choice({"pass": False, "rewrite": True}), "rewrite", True),
        (parsers.member_of(Family), "ipv6", Family.IPV6),
        (parsers.hash_key, "header:X-A", HashKey("header", "x-a")),
        (parsers.statuses, "503,500-501", frozenset((500, 501, 503))),
        (parsers.names, "a, b", ("a", "b")),
        (parsers.path, "/live", "/live"),
        (parsers.key, "gr\u00fcn", "gr\u00fcn".encode()),
        (parsers.key, "\udcff", b"\xed\xb3\xbf"),
        (parsers.milliseconds(1), "1500", 1.5),
        (parsers.milliseconds(1), "500.5", 0.5005),
        (parsers.flag, "Yes", True),
        (parsers.flag, "off", False),
        (parsers.one_of("a", "b"), "b", "b"),
        (parsers.hosts, "::1", ("::1",)),
        (parsers.hosts, "*", ("*",)),
        (parsers.hosts, " 127.0.0.1 ,localhost,", ("127.0.0.1", "localhost")),
        (parsers.retry_on, "off", ()),
        (parsers.retry_on, "reset, 503", ("reset", 503)),
        (parsers.repeatable, "all", ("all",)),
        (parsers.repeatable, "POST, PATCH,,X-Y", ("POST", "PATCH", "X-Y")),
        (parsers.token, "gw-1", b"gw-1"),
        (parsers.origins, "*", ("*",)),
        (parsers.origins, " Same-Origin ,,", ("same-origin",)),
        (
            parsers.origins,
            "https://App.example.com, http://localhost:3000,http://[::1]:80",
            ("https://app.example.com", "http://localhost:3000", "http://[::1]"),
        ),
        (
            parsers.origins,
            "https://app.example.com:443,http://[::0:1]:8080",
            ("https://app.example.com", "http://[::1]:8080"),
        ),
        (
            parsers.networks,
            "::ffff:10.0.0.0/104,::FFFF:10.1.2.3",
            (ip_network("10.0.0.0/8"), ip_network("10.1.2.3/32")),
        ),
        (parsers.networks, "2001:DB8:0::/32", (ip_network("2001:db8::/32"),)),
        (parsers.origins, "chrome-extension://abcdef", ("chrome-extension://abcdef",)),
    ],
)
def test_what_a_parser_takes(syntax: Syntax[Any], text: str, value: object) -> None:
    assert syntax.parse(text) == value
    assert syntax.parse(syntax.text(value)) == value


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (parsers.whole(1, 9), "0"),
        (parsers.whole(1, 9), "10"),
        (parsers.whole(1, 9), "0x"),
        (parsers.size(0), "1k"),
        (parsers.milliseconds(1), "nan"),
        (parsers.milliseconds(1), "0"),
        (parsers.flag, "maybe"),
        (parsers.one_of("a", "b"), "c"),
        (parsers.hosts, "a b"),
        (parsers.hosts, ","),
        (parsers.hosts, "*,::1"),
        (parsers.hosts, "::1,::1"),
        (parsers.hosts, "*:80"),
        (parsers.retry_on, "off,503"),
        (parsers.retry_on, "connect,off"),
        (parsers.retry_on, "503 504"),
        (parsers.repeatable, "post"),
        (parsers.repeatable, "ALL,all"),
        (parsers.repeatable, "POST;PUT"),
        (parsers.origins, "*,https://a.example.com"),
        (parsers.origins, "same-origin,*"),
        (parsers.token, "a,b"),
        (parsers.readable_file, "/no/such/file"),
    ],
)
def test_what_a_parser_refuses_it_explains(syntax: Syntax[Any], text: str) -> None:
    with pytest.raises(Invalid) as refused:
        syntax.parse(text)
    assert refused.value.reason
    assert refused.value.allowed


@pytest.mark.parametrize(
    "text",
    [
        "app.example.com",
        "https://",
        "https://a/",
        "https://a/path",
        "https://a b",
        "https://*.a.com",
        "https://a:x",
        "https://a:65536",
        "http://[:::]",
        "+://a",
        "null",
    ],
)
def test_an_invalid_origin_is_named_with_its_place(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parsers.origins.parse(f"https://ok.example.com,{text}")
    (problem,) = refused.value.problems
    assert (problem.variable, problem.given) == ("[1]", shown(text))
    assert "https://" in problem.allowed


@pytest.mark.parametrize(
    "syntax",
    [parsers.whole(0, 1000), parsers.size(0), parsers.whole(0, 1000, zero=math.inf), parsers.percent(0, 1000)],
    ids=["whole", "size", "zero", "percent"],
)
def test_a_number_is_written_as_it_was_read(syntax: Syntax[float]) -> None:
    assert [syntax.text(syntax.parse(str(number))) for number in range(1001)] == [str(number) for number in range(1001)]


def test_a_list_is_one_in_json_too() -> None:
    lists = (parsers.statuses, parsers.retry_on, parsers.repeatable)
    assert all(each.is_list for each in lists)
    assert not parsers.hosts.is_list
