"""The route table: prefixes, methods and labels."""

import pytest

from tornado_gateway.errors import METHODS
from tornado_gateway.policy.routing import Route, by_prefix


def route(path: str, *methods: bytes) -> Route[str]:
    return Route(path=path, handler=path, methods=methods)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/api/<service>/*", b"/api/"), ("/ws/<service>", b"/ws/"), ("/healthz", b""), ("/", b"")],
)
def test_a_prefix_is_what_stands_before_the_service(path: str, prefix: bytes) -> None:
    assert route(path).prefix == prefix


def test_the_last_of_several_routes_stands_for_a_prefix() -> None:
    table = by_prefix([route("/api/<service>/*"), route("/ws/<service>"), route("/ws/<service>/*")])
    assert {prefix: each.path for prefix, each in table.items()} == {
        b"/api/": "/api/<service>/*",
        b"/ws/": "/ws/<service>/*",
    }


def test_methods_are_told_as_documents_and_allow_fields_have_them() -> None:
    few, all_ = route("/a", b"GET", b"HEAD"), route("/b")
    assert (few.methods_text, few.allowed) == ("GET, HEAD", ("GET", "HEAD"))
    assert (all_.methods_text, all_.allowed) == ("ANY", METHODS)
