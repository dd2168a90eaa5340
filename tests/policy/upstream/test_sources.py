"""Sources of endpoints in UPSTREAMS, and the base URLs that targets become."""

import pytest

from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.policy.upstream.sources import (
    Kind,
    Source,
    Target,
    base_path_of,
    is_source,
    of_family,
    parse_source,
    scaled,
    urls_of,
)


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("srv+http://_http._tcp.billing.internal", Source(Kind.SRV, "http", "_http._tcp.billing.internal")),
        ("srv+https://billing.internal./v2", Source(Kind.SRV, "https", "billing.internal.", path="/v2")),
        ("consul+http://billing", Source(Kind.CONSUL, "http", "billing")),
        ("consul+http://v2.billing/base/", Source(Kind.CONSUL, "http", "billing", "v2", path="/base")),
        ("k8s+http://billing", Source(Kind.KUBERNETES, "http", "billing")),
        ("k8s+http://billing.shop:8080", Source(Kind.KUBERNETES, "http", "billing", "shop", "8080")),
        ("k8s+https://billing.shop:http/a/b", Source(Kind.KUBERNETES, "https", "billing", "shop", "http", "/a/b")),
    ],
)
def test_a_source_is_read(url: str, source: Source) -> None:
    assert is_source(url)
    assert parse_source(url) == source
    assert base_path_of(url) == source.path.encode()


@pytest.mark.parametrize(
    "url",
    [
        "srv+ftp://a", "srv+http://", "srv+http://a:80", "srv+http://a..b", "srv+http://-a", f"srv+http://{'a' * 64}",
        "consul+http://a.b.c", "consul+http://a:80", "consul+http://a/?x", "consul+http://a/#x", "consul+http://ada@a",
        "k8s+http://a.b.c", "k8s+http://a:", "k8s+http://a:UPPER", "k8s+http://a/../..", "k8s+http://a/é",
        "k8s+http:/a",
    ],
)  # fmt: skip
def test_a_mistake_is_refused(url: str) -> None:
    assert is_source(url)
    with pytest.raises(ValueError, match="must "):
        parse_source(url)


@pytest.mark.parametrize("url", ["http://a", "unix:/srv+http", "srv", "etcd+http://a", "+http://a", ""])
def test_a_base_url_is_no_source(url: str) -> None:
    assert not is_source(url)


def test_a_base_url_has_its_own_path() -> None:
    assert base_path_of("http://a/b/") == b"/b"


def test_targets_become_base_urls() -> None:
    source = parse_source("k8s+https://billing.shop/base")
    targets = [Target("a.svc", 8443, "10.0.0.7"), Target("b", 80, "", 3), Target("fd00::1", 80), Target("b", 80, "", 2)]
    assert urls_of(source, targets) == {
        "https://a.svc:8443/base#10.0.0.7": 1, "https://b:80/base": 3, "https://[fd00::1]:80/base": 1,
    }  # fmt: skip


@pytest.mark.parametrize("host", ["a b", "", "a/b", "ada@a", "[x"])
def test_a_target_that_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        urls_of(parse_source("consul+http://billing"), [Target(host, 80)])


def test_addresses_of_one_family_are_used() -> None:
    four, six, name = Target("a", 1, "10.0.0.7"), Target("a", 1, "fd00::7"), Target("b", 1)
    assert of_family([four, six, name], Family.AUTO) == (four, name)
    assert of_family([six, name], Family.AUTO) == (six, name)
    assert of_family([four, six], Family.ALL) == (four, six)
    assert of_family([four, six], Family.IPV6) == (six,)


@pytest.mark.parametrize(
    ("given", "weights"),
    [([], []), ([0, 0], [1, 1]), ([1, 3], [1, 3]), ([2000, 1000, 1], [1000, 500, 1]), ([1000], [1000])],
)
def test_weights_keep_their_proportions(given: list[int], weights: list[int]) -> None:
    assert scaled(given) == weights
