"""What Consul's health endpoint says."""

import json

import pytest

from tornado_gateway.policy.upstream.consul import instances, next_index
from tornado_gateway.policy.upstream.sources import Target, parse_source

BILLING = parse_source("consul+http://billing")


def instance(address: str, port: object = 9000, node: str = "10.0.0.1", **service: object) -> dict[str, object]:
    return {"Node": {"Address": node}, "Service": {"Address": address, "Port": port, **service}}


def test_an_instance_has_the_address_of_the_service_or_of_the_node() -> None:
    document = json.dumps([instance("10.0.0.7"), instance(""), instance("billing-3.internal")]).encode()
    host = "billing.service.consul"
    assert instances(document, BILLING) == (
        Target(host, 9000, "10.0.0.7"), Target(host, 9000, "10.0.0.1"), Target("billing-3.internal", 9000),
    )  # fmt: skip


def test_weights_of_instances_that_pass_count() -> None:
    several = [instance("10.0.0.7", Weights={"Passing": 10}), instance("10.0.0.8", Weights=None), instance("10.0.0.9")]
    assert [each.weight for each in instances(json.dumps(several).encode(), BILLING)] == [10, 1, 1]


@pytest.mark.parametrize(
    "document",
    [
        b"", b"<html>", b"{}x", b"null", b"[null]", b'{"a": 1}', b"[{}]", b'[{"Service": {}}]', b"[" * 100_000,
        json.dumps([instance("10.0.0.7", "9000")]).encode(), json.dumps([instance("10.0.0.7", 0)]).encode(),
        json.dumps([instance("10.0.0.7", 65536)]).encode(), json.dumps([instance("10.0.0.7", True)]).encode(),
        json.dumps([instance(7)]).encode(),  # type: ignore[arg-type]
        json.dumps([instance("10.0.0.7", Weights={"Passing": "1"})]).encode(),
    ],
)  # fmt: skip
def test_what_consul_would_not_say_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        instances(document, BILLING)


@pytest.mark.parametrize(
    ("last", "said", "index"), [(0, "1", 1), (5, "5", 5), (5, "9", 9), (9, "5", 0), (0, str(2**64 - 1), 2**64 - 1)]
)
def test_an_index_that_goes_backwards_begins_anew(last: int, said: str, index: int) -> None:
    assert next_index(last, said) == index


@pytest.mark.parametrize("said", [None, "", "0", "-1", "x", "1.5", "1" * 21, "²"])
def test_an_answer_without_an_index_is_refused(said: str | None) -> None:
    with pytest.raises(ValueError, match="no X-Consul-Index"):
        next_index(5, said)
