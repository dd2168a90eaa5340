"""ROUTES: what is read, and how mistakes are told."""

import json
from dataclasses import replace

import pytest

from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.policy.access import Access
from tornado_gateway.policy.http.mount import MountConfig, Rewriting
from tornado_gateway.policy.limits.rules import LimitConfig
from tornado_gateway.policy.routing import RouteSpec

SERVICES = {"app": ["http://127.0.0.1:1"], "chat": {"endpoints": ["http://127.0.0.1:2"], "rewriteLocation": "all"}}


def read(routes: object, **variables: str) -> tuple[RouteSpec, ...]:
    text = routes if isinstance(routes, str) else json.dumps(routes)
    return load_settings({"UPSTREAMS": json.dumps(SERVICES), "ROUTES": text, **variables}).routes


def problems(routes: object, **variables: str) -> list[str]:
    with pytest.raises(ConfigurationError) as failed:
        read(routes, **variables)
    return [str(each) for each in failed.value.problems]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"path": "/a/*", "service": "app"}, RouteSpec(path="/a/*", service="app")),
        ({"path": "/*", "service": "app", "strip": False}, RouteSpec(path="/*", service="app")),
        ({"path": "/a/b/*", "service": "app", "strip": True}, RouteSpec(path="/a/b/*", service="app", inner="")),
        ({"path": "/a/*", "service": "app", "rewrite": "/v2/*"}, RouteSpec(path="/a/*", service="app", inner="/v2")),
        ({"path": "/a/*", "service": "app", "rewrite": "/*"}, RouteSpec(path="/a/*", service="app", inner="")),
        (
            {"host": "Chat.Example.com.", "path": "/*", "service": "chat"},
            RouteSpec(host="chat.example.com", path="/*", service="chat"),
        ),
        ({"host": "*.bücher.de", "path": "/*", "service": "chat"},
         RouteSpec(host="*.xn--bcher-kva.de", path="/*", service="chat")),
        ({"host": "[::1]", "path": "/api/*", "service": "chat"},
         RouteSpec(host="[::1]", path="/api/*", service="chat")),
    ],
)  # fmt: skip
def test_a_route_is_read(given: dict[str, object], wanted: RouteSpec) -> None:
    (route,) = read([given])
    assert replace(route, access=None, limits=None) == wanted
    assert (route.access, route.limits) == (Access(), LimitConfig())  # of the service


def test_values_of_a_route_precede_those_of_its_service() -> None:
    own = {"preserveHost": True, "wsOrigin": "rewrite", "rewriteCookiePath": True}
    (route,) = read([{"path": "/a/*", "service": "chat", **own}], REWRITE_LOCATION="off")
    assert route.config == MountConfig(True, True, Rewriting.ALL, True)
    assert route.given == own


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        (4, 'ROUTES[0]=4: is not an object; allowed: path, service'),
        ({"path": "/a", "service": "app"}, 'ROUTES[0].path="/a": is not a prefix; allowed: a path that ends with /*'),
        ({"path": "/a/../*", "service": "app"}, 'ROUTES[0].path="/a/../*": is not a prefix'),
        ({"path": "//*", "service": "app"}, 'ROUTES[0].path="//*": is not a prefix'),
        ({"path": "/a%20/*", "service": "app"}, 'ROUTES[0].path="/a%20/*": is not a prefix'),
        ({"path": 1, "service": "app"}, 'ROUTES[0].path=1: is not a prefix'),
        ({"service": "app"}, 'ROUTES[0].path="": is not a prefix'),
        ({"path": "/a/*"}, 'ROUTES[0].service="": is not the name of a service'),
        ({"path": "/a/*", "service": "ap"}, 'ROUTES[0].service="ap": is not a service; allowed: app, chat'),
        ({"path": "/admin/*", "service": "app"}, 'ROUTES[0].path="/admin/*": is a path of the gateway\'s own'),
        ({"path": "/a/*", "service": "app", "host": "a:1"}, 'ROUTES[0].host="a:1": is not a host'),
        ({"path": "/a/*", "service": "app", "host": "a..b"}, 'ROUTES[0].host="a..b": is not a host'),
        ({"path": "/a/*", "service": "app", "host": "ü" * 70}, "ROUTES[0].host="),
        ({"path": "/a/*", "service": "app", "host": 1}, 'ROUTES[0].host=1: is not a string'),
        ({"path": "/a/*", "service": "app", "strip": 1}, 'ROUTES[0].strip=1: is neither true nor false'),
        ({"path": "/a/*", "service": "app", "rewrite": "b"}, 'ROUTES[0].rewrite="b": is not a prefix'),
        ({"path": "/a/*", "service": "app", "preserveHosts": 1}, "ROUTES[0].preserveHosts"),
        ({"path": "/a/*", "service": "app", "rewriteLocation": "x"}, 'ROUTES[0].rewriteLocation="x": is unknown'),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(route: object, problem: str) -> None:
    (told,) = problems([route])
    assert told.startswith(problem)


def test_all_mistakes_are_told_at_once() -> None:
    both = {"path": "/a/*", "service": "app", "strip": True, "rewrite": "/b/*"}
    assert [each.partition(";")[0] for each in problems([both, {"path": "/a/*", "service": "app"}])] == [
        "ROUTES[0].strip=true: is set, and so is rewrite",
        'ROUTES[1]="/a/*": is the same route as [0]',
    ]


@pytest.mark.parametrize("text", ["{", "{}", '"a"'])
def test_only_an_array_is_read(text: str) -> None:
    (told,) = problems(text)
    assert told.startswith("ROUTES=") and "a JSON array of routes" in told


@pytest.mark.parametrize("kept", ["A.b.", "*.b"])
def test_a_host_of_the_gateway_keeps_the_gateways_paths(kept: str) -> None:
    (told,) = problems([{"host": "a.b", "path": "/sse/*", "service": "app"}], GATEWAY_HOSTS=f"x, {kept}")
    assert told.startswith('ROUTES[0].path="/sse/*": is a path of the gateway\'s own, which a.b keeps by GATEWAY_HOSTS')
    assert read([{"host": "a.b", "path": "/sse/*", "service": "app"}], GATEWAY_HOSTS="x")
    (told,) = problems([], GATEWAY_HOSTS="a:1")
    assert told.startswith('GATEWAY_HOSTS="a:1": is not a host')


def test_routes_are_shown_as_they_are_read() -> None:
    given = [
        {"host": "a.b", "path": "/*", "service": "app", "rewrite": "/v2/*", "preserveHost": True},
        {"path": "/a/*", "service": "chat", "strip": True},
        {"path": "/b/*", "service": "chat"},
    ]
    settings = load_settings({"UPSTREAMS": json.dumps(SERVICES), "ROUTES": json.dumps(given)})
    (variable,) = (each for each in VARIABLES if each.name == "ROUTES")
    assert json.loads(variable.text(settings)) == given


def test_a_route_may_have_a_cache_of_its_own() -> None:
    cache = {"enabled": True, "ttlMs": 60000}
    one, other = read([{"path": "/a/*", "service": "app", "cache": cache}, {"path": "/b/*", "service": "app"}])
    assert one.cache and (one.cache.is_on, one.cache.default_ttl) == (True, 60.0)
    assert other.cache is None  # as the service
    assert one.given == {"cacheEnabled": True, "cacheDefaultTtlMs": 60000}
    for key in ("ignoreQuery", "sortQuery"):  # a target has one name for purges, whatever the route
        (told,) = problems([{"path": "/a/*", "service": "app", "cache": {key: "true"}}])
        assert told.startswith(f"ROUTES[0].cache.{key}") and "is unknown" in told
