"""EndpointSlices: a list, events, and which endpoints get requests."""

import json
from typing import Any

import pytest

from tornado_gateway.policy.upstream.endpoint_slices import EndpointSlices, Gone
from tornado_gateway.policy.upstream.sources import Target, parse_source

BILLING = parse_source("k8s+http://billing")
HTTP = [{"name": "http", "port": 8080, "protocol": "TCP"}]


def endpoint(address: str, **conditions: object) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def a_slice(name: str, *endpoints: dict[str, Any], ports: Any = HTTP, kind: str = "IPv4", version: str = "7") -> Any:
    metadata = {"name": name, "resourceVersion": version}
    return {"metadata": metadata, "addressType": kind, "endpoints": list(endpoints), "ports": ports}


def a_list(*slices: Any, version: str = "1") -> bytes:
    return json.dumps({"metadata": {"resourceVersion": version}, "items": list(slices)}).encode()


def event(kind: str, of: Any) -> bytes:
    return json.dumps({"type": kind, "object": of}).encode()


def listed(*slices: Any) -> EndpointSlices:
    slices_of = EndpointSlices()
    slices_of.replace(a_list(*slices))
    return slices_of


def weights(of: EndpointSlices, url: str = "k8s+http://billing") -> dict[tuple[str, int], int]:
    return {(each.address, each.port): each.weight for each in of.targets(parse_source(url), "shop")}


def test_a_list_is_read() -> None:
    of = listed(a_slice("a", endpoint("10.1.0.8"), endpoint("10.1.0.7")), a_slice("b", endpoint("10.1.0.9")))
    assert of.version == "1"
    host = "billing.shop.svc"
    assert of.targets(BILLING, "shop") == tuple(Target(host, 8080, f"10.1.0.{number}") for number in (7, 8, 9))


def test_events_change_the_list_and_bookmarks_the_version_alone() -> None:
    of = listed(a_slice("a", endpoint("10.1.0.7")))
    assert of.apply(event("ADDED", a_slice("b", endpoint("10.1.0.8"), version="2")))
    assert set(weights(of)) == {("10.1.0.7", 8080), ("10.1.0.8", 8080)}
    assert of.apply(event("MODIFIED", a_slice("a", endpoint("10.1.0.9"), version="3")))
    assert of.apply(event("DELETED", a_slice("b", version="4")))
    assert set(weights(of)) == {("10.1.0.9", 8080)}
    assert not of.apply(event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}))
    assert of.version == "9"
    assert of.apply(event("DELETED", a_slice("unknown", version="10")))


@pytest.mark.parametrize(
    ("conditions", "weight"),
    [
        ({}, 1),
        ({"ready": True}, 1),
        ({"ready": None}, 1),
        ({"ready": False}, None),
        ({"ready": False, "serving": True, "terminating": True}, 0),
        ({"ready": False, "serving": False, "terminating": True}, None),
    ],
)
def test_conditions_decide_about_new_requests(conditions: dict[str, Any], weight: int | None) -> None:
    of = listed(a_slice("a", endpoint("10.1.0.7", **conditions), endpoint("10.1.0.8")))
    assert weights(of).get(("10.1.0.7", 8080)) == weight


def test_if_all_terminate_those_that_serve_get_requests() -> None:
    leaving = {"ready": False, "serving": True, "terminating": True}
    of = listed(a_slice("a", endpoint("10.1.0.7", **leaving), endpoint("10.1.0.8", ready=False, serving=False)))
    assert weights(of) == {("10.1.0.7", 8080): 1}


def test_an_endpoint_in_two_slices_counts_by_the_better_one() -> None:
    leaving = {"ready": False, "serving": True, "terminating": True}
    of = listed(a_slice("a", endpoint("10.1.0.7")), a_slice("b", endpoint("10.1.0.7", **leaving)))
    assert weights(of) == {("10.1.0.7", 8080): 1}


@pytest.mark.parametrize(
    ("url", "port"),
    [("k8s+http://a", 8080), ("k8s+http://a:metrics", 9090), ("k8s+http://a:9090", 9090), ("k8s+http://a:none", None)],
)
def test_a_port_is_chosen_by_name_or_number(url: str, port: int | None) -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "null"}, *HTTP, {"name": "metrics", "port": 9090}]
    found = weights(listed(a_slice("a", endpoint("10.1.0.7"), ports=ports)), url)
    assert [at for _, at in found] == ([port] if port else [])


def test_names_and_slices_without_ports_or_endpoints_are_left_out() -> None:
    of = listed(a_slice("a", endpoint("example.com"), kind="FQDN"), a_slice("b", endpoint("10.1.0.7"), ports=None))
    empty = a_slice("c")
    empty["endpoints"] = None
    of.apply(event("ADDED", empty))
    assert weights(of) == {}


@pytest.mark.parametrize("error", [event("ERROR", {"kind": "Status", "code": 410}), b'{"kind": "Status", "code": 410}'])
def test_gone_asks_for_a_new_list(error: bytes) -> None:
    with pytest.raises(Gone):
        listed().apply(error)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"<html>", b"[]", b"{}", b'{"type": "ADDED"}', event("ADDED", {}), event("ADDED", {"metadata": {}}),
        event("ADDED", a_slice("a", {"conditions": {}})), event("ERROR", {"code": 500}), event("ERROR", None),
        b'{"kind": "Status"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_and_changes_nothing(line: bytes) -> None:
    of = listed(a_slice("a", endpoint("10.1.0.7")))
    with pytest.raises(ValueError, match=r"."):
        of.apply(line)
    assert (weights(of), of.version) == ({("10.1.0.7", 8080): 1}, "1")


@pytest.mark.parametrize(
    "document",
    [b"", b"null", b"{}", b'{"items": []}', b'{"metadata": {}, "items": []}', a_list({"metadata": {}}), a_list(7)],
)
def test_what_is_no_list_is_refused_and_changes_nothing(document: bytes) -> None:
    of = listed(a_slice("a", endpoint("10.1.0.7")))
    with pytest.raises(ValueError, match=r"."):
        of.replace(document)
    assert (weights(of), of.version) == ({("10.1.0.7", 8080): 1}, "1")
