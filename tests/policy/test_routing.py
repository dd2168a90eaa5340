"""The route table: hosts, prefixes, methods and labels."""

import pytest

from tornado_gateway.errors import METHODS, BadRequest, NotFound
from tornado_gateway.policy.http.mount import LONGEST_REMEMBERED, Mount, standard_mount
from tornado_gateway.policy.routing import OWN_SEGMENTS, Route, RouteSpec, RouteTable, passages


def route(path: str, *methods: bytes) -> Route[str]:
    return Route(path=path, handler=path, methods=methods)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/api/<service>/*", b"/api/"), ("/ws/<service>", b"/ws/"), ("/healthz", b""), ("/", b"")],
)
def test_a_prefix_is_what_stands_before_the_service(path: str, prefix: bytes) -> None:
    assert route(path).prefix == prefix


STANDARD = [route("/api/<service>/*"), route("/ws/<service>"), route("/ws/<service>/*")]
OWN = [
    RouteSpec(path="/notebooks/*", service="jupyter"),
    RouteSpec(path="/notebooks/lab/*", service="lab", inner=""),
    RouteSpec(host="chat.example.com", path="/*", service="chat", inner="/v2"),
    RouteSpec(host="*.example.com", path="/a/*", service="any"),
    RouteSpec(host="both.example.com", path="/*", service="both"),
]


def table(*own: RouteSpec, gateway_hosts: tuple[str, ...] = ()) -> RouteTable[str]:
    return RouteTable(STANDARD, route("/*"), own, gateway_hosts)


def found(of: RouteTable[str], target: bytes, host: bytes = b"gateway") -> tuple[str, bytes, bytes] | None:
    """Label, service, and the target behind an endpoint's base path."""
    match = of.match(target, host)
    return match and (match.route.path, match.service, match.mount.inner_target(match.rest))


@pytest.mark.parametrize("own", [(), tuple(OWN)], ids=["standard", "own"])
@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (b"/api/billing/a?b", ("/api/<service>/*", b"billing", b"/a?b")),
        (b"/ws/chat?path=/a", ("/ws/<service>/*", b"chat", b"/?path=/a")),  # the last of two routes with a prefix
        (b"/api", None),
        (b"/healthz", None),
        (b"/", None),
        (b"*", None),
    ],
)
def test_standard_routes_name_the_service(own: tuple[RouteSpec, ...], target: bytes, wanted: object) -> None:
    assert found(table(*own), target) == wanted


@pytest.mark.parametrize(
    ("host", "target", "wanted"),
    [
        (b"any", b"/notebooks", ("/notebooks/*", b"jupyter", b"/notebooks")),
        (b"any", b"/notebooks?a", ("/notebooks/*", b"jupyter", b"/notebooks?a")),
        (b"any", b"/notebooks/a//b", ("/notebooks/*", b"jupyter", b"/notebooks/a//b")),
        (b"any", b"/notebooks/lab/a", ("/notebooks/lab/*", b"lab", b"/a")),
        (b"any", b"/notebooks/lab", ("/notebooks/lab/*", b"lab", b"/")),
        (b"any", b"/notebooks/laboratory", ("/notebooks/*", b"jupyter", b"/notebooks/laboratory")),
        (b"any", b"/notebook", None),
        (b"", b"/notebooks/", ("/notebooks/*", b"jupyter", b"/notebooks/")),
        (b"CHAT.Example.com.:8443", b"/a?b", ("chat.example.com/*", b"chat", b"/v2/a?b")),
        (b"chat.example.com", b"/healthz", ("chat.example.com/*", b"chat", b"/v2/healthz")),
        (b"chat.example.com", b"/api/billing/", ("chat.example.com/*", b"chat", b"/v2/api/billing/")),
        (b"x.example.com", b"/a", ("*.example.com/a/*", b"any", b"/a")),
        (b"x.y.example.com", b"/a", None),
        (b"example.com", b"/a", None),
        (b".example.com", b"/a", None),  # no label is not one label
        (b"x..example.com", b"/a", None),
        (b"chat..example.com", b"/notebooks", ("/notebooks/*", b"jupyter", b"/notebooks")),
        (b"chat.example.com..", b"/healthz", None),
    ],
)
def test_the_longest_prefix_of_the_host_wins(host: bytes, target: bytes, wanted: object) -> None:
    assert found(table(*OWN), target, host) == wanted


ALL, TEAM = RouteSpec(path="/*", service="s"), RouteSpec(path="/team/*", service="s")
ON_HOST = RouteSpec(host="a.example.com", path="/*", service="s")
STRIPPED = RouteSpec(path="/open/*", service="s", inner="")
INTO_TEAM = RouteSpec(path="/open/team/*", service="s", inner="/team")
ADMIN = RouteSpec(host="b.example.com", path="/admin/*", service="s")
TEA, OTHERS = RouteSpec(path="/tea/*", service="s"), RouteSpec(path="/open/others/*", service="other")


NEAR = [ALL, TEAM, ON_HOST, STRIPPED, ADMIN, TEA, OTHERS]


@pytest.mark.parametrize(
    ("route", "other", "path"),
    [
        (STRIPPED, TEAM, b"/open/team"),
        (STRIPPED, ON_HOST, b"/open"),
        (STRIPPED, ADMIN, b"/open/admin"),
        (STRIPPED, OTHERS, None),  # of another service
        (ON_HOST, TEAM, b"/team"),
        (ON_HOST, ALL, b"/"),
        (ALL, ON_HOST, b"/"),
        (ALL, TEAM, None),  # /team/* has the path
        (ALL, ADMIN, None),  # /admin is the gateway's own
        (TEAM, ALL, None),  # the route is narrower
        (TEA, TEAM, None),
    ],
)
def test_a_route_may_lead_to_what_another_route_is_for(route: RouteSpec, other: RouteSpec, path: bytes | None) -> None:
    found = list(passages(NEAR, lambda *pair: pair == (route, other)))
    assert found == ([(route, other, path)] if path else [])


def test_a_route_with_several_passages_is_named_once() -> None:
    assert [route for route, *_ in passages(NEAR, lambda *_: True)] == [ALL, ON_HOST, STRIPPED]


def test_a_longer_route_or_the_gateway_may_close_a_passage() -> None:
    def found(*routes: RouteSpec, kept: tuple[str, ...] = ()) -> list[tuple[RouteSpec, RouteSpec, bytes]]:
        return list(passages(routes, lambda one, other: (one, other) == routes[:2], kept))

    assert found(STRIPPED, TEAM) == [(STRIPPED, TEAM, b"/open/team")]
    assert found(STRIPPED, TEAM, INTO_TEAM) == []
    assert found(ON_HOST, ADMIN) == [(ON_HOST, ADMIN, b"/admin")]
    assert found(ON_HOST, ADMIN, kept=("*.example.com",)) == []


def test_a_host_that_is_longer_than_any_name_has_no_route() -> None:
    of = table(*OWN)
    assert found(of, b"/a", b"a" * 320 + b".example.com") is None
    assert found(of, b"/notebooks", b"a" * 320 + b".example.com") == ("/notebooks/*", b"jupyter", b"/notebooks")


def test_a_host_with_routes_serves_nothing_else() -> None:
    with pytest.raises(NotFound):
        table(*OWN).match(b"/healthz", b"x.example.com")


def test_a_gateway_host_keeps_the_gateways_own_paths() -> None:
    of = table(*OWN, gateway_hosts=("both.example.com",))
    assert found(of, b"/healthz", b"both.example.com") is None
    assert found(of, b"/api/billing/", b"both.example.com") == ("/api/<service>/*", b"billing", b"/")
    assert found(of, b"/health", b"both.example.com") == ("both.example.com/*", b"both", b"/health")


@pytest.mark.parametrize("segment", sorted(OWN_SEGMENTS))
def test_the_gateways_own_paths_cannot_be_shadowed(segment: bytes) -> None:
    of = table(RouteSpec(path="/*", service="app"))
    for target in (b"/%b" % segment, b"/%b?a" % segment):
        assert found(of, target) is None
    with pytest.raises(BadRequest):
        of.match(b"/%%%02x%b" % (segment[0], segment[1:]), b"gateway")


@pytest.mark.parametrize("kept", ["a.example.com", "*.example.com"])
@pytest.mark.parametrize("host", ["a.example.com", "*.example.com"])
def test_a_host_of_the_gateway_may_stand_for_any_label(kept: str, host: str) -> None:
    of = table(RouteSpec(host=host, path="/*", service="app"), gateway_hosts=(kept,))
    assert found(of, b"/metrics", b"a.example.com") is None
    assert found(of, b"/api/other/x", b"A.Example.com.:80") == ("/api/<service>/*", b"other", b"/x")
    match = of.match(b"/x", b"a.example.com")
    assert match and (match.service, match.mount.is_alone) == (b"app", False)


def test_a_host_beside_a_host_of_the_gateway_is_the_routes_own() -> None:
    of = table(RouteSpec(host="*.example.com", path="/*", service="app"), gateway_hosts=("a.example.com",))
    assert found(of, b"/metrics", b"b.example.com") == ("*.example.com/*", b"app", b"/metrics")


@pytest.mark.parametrize(
    "target",
    [
        b"/x/../private/a", b"/%70rivate/a", b"//private/a", b"/./private", b"/private;a=1/b", rb"/x\..\private",
        b"/x/%2e%2E/private", b"/x%2f..%2fprivate", b"/.;/private", b"/private/../x",
        b"/x/a%2Fb/../../private",  # two steps up for a server to which an encoded slash separates nothing
        b"/private;a%2Fb/c", b"/private%3Ba/b",  # parameters cut before slashes are decoded, and after
        b"/x/../private/%2e%2e/y",  # a server that resolves dots before it decodes
        b"/x//../private", b"/x/;a/../private",  # empty segments that count, or do not
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_leads_past_its_route(target: bytes) -> None:
    of = table(RouteSpec(path="/*", service="app"), RouteSpec(path="/private/*", service="app"))
    with pytest.raises(BadRequest):
        of.match(target, b"gateway")


def test_spellings_within_one_route_pass_as_they_are() -> None:
    of = table(RouteSpec(path="/*", service="app"), RouteSpec(path="/private/*", service="app"))
    for target in (b"/private/a%2Fb/c;x=1//d", b"/a;b/%7Euser//./x", b"/private/a/../b%20c"):
        match = of.match(target, b"gateway")
        assert match and match.mount.inner_target(match.rest) == target


def test_a_service_is_alone_on_a_host_whose_routes_all_lead_there() -> None:
    of = table(
        RouteSpec(host="one", path="/*", service="a"), RouteSpec(host="one", path="/x/*", service="a"),
        RouteSpec(host="two", path="/*", service="a"), RouteSpec(host="two", path="/x/*", service="b"),
        RouteSpec(path="/*", service="a"),
    )  # fmt: skip
    alone = {host: of.match(b"/x", host).mount.is_alone for host in (b"one", b"two", b"other")}
    assert alone == {b"one": True, b"two": False, b"other": False}


def test_methods_are_told_as_documents_and_allow_fields_have_them() -> None:
    few, all_ = route("/a", b"GET", b"HEAD"), route("/b")
    assert (few.methods_text, few.allowed) == ("GET, HEAD", ("GET", "HEAD"))
    assert (all_.methods_text, all_.allowed) == ("ANY", METHODS)


def test_a_name_that_a_client_makes_long_takes_no_memory() -> None:
    of, before = table(), standard_mount.cache_info().currsize
    name = b"a" * (LONGEST_REMEMBERED + 1)
    match = of.match(b"/api/%b/x" % name, b"gateway")
    assert match and (match.service, match.mount, match.rest) == (name, Mount(b"/api/" + name), b"/x")
    assert standard_mount.cache_info().currsize == before
