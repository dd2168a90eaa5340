"""URLs of Redis: several places, IPv6 addresses among the places, on every version of Python."""

import pytest

from tornado_gateway.adapters.redis_cluster import node_urls
from tornado_gateway.adapters.redis_url import split_url
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError

URLS = [
    "redis://:a,b@[::1]:6379/3", "redis+sentinel://user:secret@a,[::1]:7001,10.0.0.1:7002/name/2",
    "rediss+cluster://[::1]:7000,[::2],b?ssl_ca_certs=/ca.pem", "memory://",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_url_of_several_places_is_a_setting(url: str) -> None:
    settings = load_settings({"UPSTREAMS": '{"a": ["http://a"]}', "RATE_LIMIT_MAX": "5", "RATE_LIMIT_STORE": url})
    assert settings.limit_store.url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis:", "redis://", "redis://a,,b", "redis+cluster://,a", "memory://a", "http://a", "redis://[::1", "a",
        "redis+cluster://a,[::g]:7000", "redis://a:port", "redis+cluster://a:1,b:99999",
    ],
)  # fmt: skip
def test_a_url_with_a_wrong_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RATE_LIMIT_STORE"):
        load_settings({"UPSTREAMS": '{"a": ["http://a"]}', "RATE_LIMIT_MAX": "5", "RATE_LIMIT_STORE": url})


def test_each_node_of_a_cluster_has_a_url() -> None:
    assert node_urls(URLS[2]) == [f"rediss://{place}?ssl_ca_certs=/ca.pem" for place in ("[::1]:7000", "[::2]", "b")]


def test_each_sentinel_has_an_address() -> None:
    assert split_url(URLS[1]).addresses(26379) == [("a", 26379), ("::1", 7001), ("10.0.0.1", 7002)]
    assert split_url(URLS[1]).first.path == "/name/2"
