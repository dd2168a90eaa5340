"""Unsafe requests: which methods and statuses invalidate, and which targets."""

import pytest

from tornado_gateway.policy.http.caching.invalidation import invalidates, targets
from tornado_gateway.policy.http.rewriting import Place

PLACE = Place(b"http", b"10.0.0.7:8080", b"/base")


@pytest.mark.parametrize(
    ("method", "status", "does"),
    [
        (b"POST", 200, True), (b"PUT", 204, True), (b"DELETE", 399, True), (b"UNKNOWN", 200, True),
        (b"POST", 400, False), (b"PUT", 500, False), (b"POST", 101, False),
        (b"GET", 200, False), (b"HEAD", 200, False), (b"OPTIONS", 200, False), (b"TRACE", 200, False),
    ],
)  # fmt: skip
def test_a_success_of_an_unsafe_method_invalidates(method: bytes, status: int, does: bool) -> None:
    assert invalidates(method, status) == does


@pytest.mark.parametrize(
    ("location", "also"),
    [
        (b"/base/b?x#y", [b"/b?x"]),
        (b"http://10.0.0.7:8080/base/b#y", [b"/b"]),
        (b"HTTP://10.0.0.7:8080/base/b", [b"/b"]),
        (b"https://10.0.0.7:8080/base/b", []),
        (b"http://10.0.0.8:8080/base/b", []),
        (b"http://10.0.0.7/base/b", []),
        (b"http://10.0.0.7:8080", []),
        (b"http://a b/base/b", []),
        (b"/other/b", []),
        (b"/bases", []),
        (b"/base", []),
        (b"b", []),
        (b"//10.0.0.7:8080/base/b", []),
        (b"", []),
    ],
)
def test_paths_of_the_same_host_below_the_base_path_are_invalidated_too(location: bytes, also: list[bytes]) -> None:
    for name in (b"location", b"content-location"):
        assert list(targets(b"/a", {name: [location]}, PLACE)) == [b"/a", *also]


def test_without_a_base_path_every_path_of_the_host_is_below() -> None:
    place = PLACE._replace(base_path=b"")
    fields = {b"location": [b"/b"], b"content-location": [b"http://10.0.0.7:8080/", b"//evil/x"]}
    assert list(targets(b"/a", fields, place)) == [b"/a", b"/b", b"/"]
