"""The route table against a literal model of its rules, with hostile hosts and paths.

The model is a loop over all routes. A server's reading of a path is one of many: what separates segments, whether and
when parameters are cut, whether empty segments count, and whether encoded dots are dots.
"""

import contextlib
import itertools
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzzing import fuzzing
from tornado_gateway.errors import BadRequest, NotFound
from tornado_gateway.policy.http.target import TargetRule
from tornado_gateway.policy.routing import OWN_SEGMENTS, Match, Route, RouteSpec, RouteTable

STANDARD = [Route(path=path, handler="") for path in ("/api/<service>/*", "/sse/<service>/*", "/ws/<service>/*")]
MODEL = Route(path="/*", handler="")

TARGETS_PER_TABLE = 50

HOSTS = ("a.test", "b.test", "*.test", "*.a.test", "xn--bcher-kva.test", "[::1]", "127.0.0.1")
ASKED = (
    b"", b"a.test", b"A.Test", b"a.test.", b"a.test:80", b"A.TEST.:8443", b"a.test:", b"b.test", b"c.test", b".test",
    b"..test", b"x.a.test", b"x.y.a.test", b"test", b"*.test", b"xn--bcher-kva.test", b"XN--BCHER-KVA.test:1",
    b"b%C3%BCcher.test", b"[::1]", b"[::1]:80", b"[::2]", b"127.0.0.1:8080", b"a.test..", b"a.test:80:80",
)  # fmt: skip
PREFIXES = ("", "/x", "/x/y", "/x/y/z", "/y", "/private", "/x/private", "/adminx", "/a.b")
PLACES = tuple(itertools.product(("", *HOSTS), PREFIXES))
INNER = (None, "", "/v2", "/v2/w", "/x")
PIECES = (
    b"/", b"//", b".", b"..", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"\\", b";x=1", b";", b"%3b", b"%00", b"%25", b"?",
    b"/..", b"/../", b"/..;", b"x", b"/x", b"/x/", b"/y", b"/z", b"%78", b"/private", b"/%70rivate", b"private",
    b"/admin", b"/%61dmin", b"/healthz", b"/api", b"/api/x", b"/api/svc/", b"/auth/", b"/_pressure", b"/ws/x?path=/..",
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[RouteSpec, ...], tuple[str, ...]]:
    """Routes, all different, and GATEWAY_HOSTS."""
    places = draw(
        st.lists(st.tuples(st.sampled_from(("", *HOSTS)), st.sampled_from(PREFIXES)), max_size=7, unique=True)
    )
    routes = [
        RouteSpec(host=host, path=f"{prefix}/*", service=f"s{number}", inner=draw(st.sampled_from(INNER)))
        for number, (host, prefix) in enumerate(places)
    ]
    return tuple(routes), tuple(draw(st.sets(st.sampled_from(("a.test", "c.test")))))


def _asked(seed: int) -> list[tuple[bytes, bytes]]:
    """Hosts and targets; many for each table, since a table takes longer to draw than a look-up.

    The targets are made of few different pieces, so that most ways to put these pieces together are tried.
    """
    rng = random.Random(seed)
    hosts, pieces = rng.sample(ASKED, 4), rng.sample(PIECES, 5)
    return [
        (rng.choice(hosts), b"/" + b"".join(rng.choices(pieces, k=rng.randrange(8)))) for _ in range(TARGETS_PER_TABLE)
    ]


asked = st.integers(0, 2**32).map(_asked)


# ---------------------------------------------------------------- the model


@dataclass(frozen=True)
class Literal:
    """The rules, word by word."""

    routes: tuple[RouteSpec, ...]
    gateway_hosts: tuple[str, ...]

    def host(self, asked: bytes) -> str:
        """The host of a route that an authority has; "" for none."""
        name = re.sub(r":[^:\]]*\Z", "", asked.decode("latin-1").lower()).removesuffix(".")
        given = [route.host for route in self.routes if route.host]
        if name in given:
            return name
        return next(
            (each for each in given if re.fullmatch(r"[^.]+" + re.escape(each[1:]), name) and each[0] == "*"), ""
        )

    def keeps_pages(self, asked: bytes) -> bool:
        """Whether the gateway's own paths are served on a host."""
        name = re.sub(r":[^:\]]*\Z", "", asked.decode("latin-1").lower()).removesuffix(".")
        return not self.host(asked) or name in self.gateway_hosts

    def route(self, asked: bytes, path: bytes) -> RouteSpec | None:
        """The route of a plain path."""
        if self.keeps_pages(asked) and any(_is_below(path, b"/" + segment) for segment in OWN_SEGMENTS):
            return None
        of_host = [route for route in self.routes if route.host == self.host(asked)]
        fits = [route for route in of_host if _is_below(path, route.path.removesuffix("/*").encode())]
        return max(fits, key=lambda route: len(route.path), default=None)


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) :][:1] in (b"", b"/")


SEPARATORS = [
    re.compile(b"|".join((b"/", *some)), re.IGNORECASE)
    for count in range(4)
    for some in itertools.combinations((rb"\\", b"%2f", b"%5c"), count)
]
PARAMETERS = [re.compile(each, re.IGNORECASE | re.DOTALL) for each in (rb"(?!)", rb";.*", rb"(?:;|%3b).*")]


def readings(path: bytes) -> Iterator[bytes]:
    """A path as servers read the path: with dot segments resolved, and decoded once."""
    before = {path, b"/".join(re.sub(rb"(?:;|%3b).*", b"", each, flags=re.IGNORECASE) for each in path.split(b"/"))}
    for text, separator, parameters in itertools.product(sorted(before), SEPARATORS, PARAMETERS):
        segments = [parameters.sub(b"", each) for each in separator.split(text)][1:]
        for merges, decodes_dots in itertools.product((True, False), repeat=2):
            yield b"/" + b"/".join(_resolved(segments, merges, decodes_dots))


def _resolved(segments: list[bytes], merges: bool, decodes_dots: bool) -> list[bytes]:
    kept: list[bytes] = []
    for segment in segments:
        plain = segment.lower().replace(b"%2e", b".") if decodes_dots else segment
        if plain == b"..":
            del kept[-1:]
        elif plain != b"." and (plain or not merges):
            kept.append(unquote_to_bytes(segment))
    return kept


def matched(table: RouteTable[str], target: bytes, host: bytes) -> Match[str] | str | None:
    """The match; the name of an error."""
    try:
        return table.match(target, host)
    except (BadRequest, NotFound) as error:
        return type(error).__name__


# ---------------------------------------------------------------- the properties

Table = tuple[tuple[RouteSpec, ...], tuple[str, ...]]
Asked = list[tuple[bytes, bytes]]


@fuzzing(150)
@given(tables(), asked)
def test_the_table_agrees_with_its_rules(routes: Table, requests: Asked) -> None:
    table, model = RouteTable(STANDARD, MODEL, *routes), Literal(*routes)
    for host, target in requests:
        found = matched(table, target, host)
        standard = re.match(rb"(/(?:api|sse|ws)/)([^/?]*)", target) if model.keeps_pages(host) else None
        if standard:
            assert isinstance(found, Match)
            assert (found.route.prefix, found.service) == standard.groups()
        elif found == "BadRequest":  # for paths alone that some server could read as the path of another route
            assert re.search(rb"[%;\\]|//|/\.", target.partition(b"?")[0])
        elif wanted := model.route(host, target.partition(b"?")[0]):
            assert isinstance(found, Match)
            assert (found.route.path, found.service) == (wanted.host + wanted.path, wanted.service.encode())
            assert found.mount.public + found.rest == target
        else:
            assert found == (None if model.keeps_pages(host) else "NotFound")


def misread(routes: Table, requests: Asked) -> Iterator[tuple[bytes, ...]]:
    """Host, target and reading of each path that some server reads as the path of another route."""
    table, model = RouteTable(STANDARD, MODEL, *routes), Literal(*routes)
    for host, target in requests:
        found = matched(table, target, host)
        if isinstance(found, Match) and not found.route.prefix:
            for reading in set(readings(target.partition(b"?")[0])):
                read = model.route(host, reading)
                if read is None or read.host + read.path != found.route.path:
                    yield host, target, reading


def climbing(routes: Table, requests: Asked) -> Iterator[tuple[bytes, ...]]:
    """Host, target and reading of each path that some endpoint reads as a path above the place of its route."""
    table, rule = RouteTable(STANDARD, MODEL, *routes), TargetRule("forward")
    for (host, below), prefix in itertools.product(requests, (b"", b"/api/svc")):
        found = matched(table, prefix + below, host)
        with contextlib.suppress(BadRequest):
            if isinstance(found, Match):
                sent = b"/base" + found.mount.inner_target(rule.admit(found.rest))
                for reading in set(readings(sent.partition(b"?")[0])):
                    if not _is_below(reading, b"/base" + found.mount.inner):
                        yield host, prefix + below, reading


@fuzzing(150)
@given(tables(), asked)
def test_no_server_reads_a_path_as_a_path_of_another_route(routes: Table, requests: Asked) -> None:
    assert not list(misread(routes, requests))


@fuzzing(80)
@given(tables(), asked)
def test_no_endpoint_reads_a_target_as_a_path_above_the_place_of_its_route(routes: Table, requests: Asked) -> None:
    assert not list(climbing(routes, requests))


# What the properties find if a part of the table, or of the rule for targets, is missing.
NESTED = (*(RouteSpec(path=f"{prefix}/*", service="s") for prefix in PREFIXES),), ()
MISSING = {
    "other readings": ("routing._AMBIGUOUS", misread),
    "steps up among odd bytes": ("routing._STEP_UP", misread),
    "parameters cut first": ("routing._PARAMETERS", misread),
    "parameters of steps up": ("http.target._PARAMETERS", climbing),
    "separators of some": ("http.target._SEPARATOR_OF_SOME", climbing),
}


@pytest.mark.parametrize("part", MISSING)
def test_the_properties_find_what_is_missing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, violations = MISSING[part]
    monkeypatch.setattr(f"tornado_gateway.policy.{name}", re.compile(b"(?!)"))
    assert any(any(violations(NESTED, _asked(seed))) for seed in range(2000))


# ---------------------------------------------------------------- the costs


def test_a_thousand_routes_cost_no_more_calls_than_three() -> None:
    few = [("", "/x/*"), ("", "/x/y/*"), ("a.test", "/x/*")]
    more = [("", f"/p{number}/q/*") for number in range(500)] + [(f"h{number}.test", "/x/*") for number in range(497)]
    costs = [
        _calls(RouteTable(STANDARD, MODEL, [RouteSpec(host=host, path=path, service="s") for host, path in places]))
        for places in (few, few + more)
    ]
    assert costs[0] == costs[1] > 0


def _calls(table: RouteTable[str]) -> int:
    """The number of calls, of functions in Python and in C, that some look-ups take."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before, requests = (
        sys.getprofile(),
        list(itertools.product((b"/x/y/z", b"/x/%20", b"/api/svc/x"), (b"a.test", b"o"))),
    )
    for _ in range(2):  # first fills the caches
        calls = 0
        sys.setprofile(count)
        try:
            for target, host in requests:
                matched(table, target, host)
        finally:
            sys.setprofile(before)
    return calls
