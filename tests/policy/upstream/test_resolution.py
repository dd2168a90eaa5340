"""Discovery: an endpoint that stays is the same object; a departed endpoint is remembered for a while."""

import gc
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tornado_gateway.errors import CircuitOpen
from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import Breaker, BreakerConfig, State
from tornado_gateway.policy.upstream.endpoint import Endpoint, Kind, LeaseRequest, Outcome
from tornado_gateway.policy.upstream.hosts import Family, usable
from tornado_gateway.policy.upstream.lease import Lease
from tornado_gateway.policy.upstream.membership import is_resolvable
from tornado_gateway.policy.upstream.resolution import KEEP_DEPARTED, Resolution, new_endpoint
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.policy.upstream.service_config import ServiceConfig

AUTO, IPV4, IPV6, ALL = Family.AUTO, Family.IPV4, Family.IPV6, Family.ALL
TWO_NAMES = [("http://a", 1), ("http://b", 5)]
A, B, C, D = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.10"


def make(url: str, weight: int = 1) -> Endpoint:
    return Endpoint(url, Breaker(BreakerConfig(jitter=0.0), random.Random(1)), weight)


def service(*urls: str | tuple[str, int], balancer: str = "round_robin", slow_start: float = 10.0) -> Service:
    several = [make(each) if isinstance(each, str) else make(*each) for each in urls]
    return Service("svc", several, BALANCERS[balancer](random.Random(1)), ServiceConfig(slow_start=slow_start))


def urls(of: Service) -> list[str]:
    return [endpoint.url for endpoint in of.endpoints]


def lease_on(of: Service, one: Endpoint, now: float = 0.0, kind: Kind = Kind.HTTP) -> Lease:
    return Lease(of, one, LeaseRequest(now, kind), is_retry=False)


def named(of: Service, address: str) -> Endpoint:
    (found,) = [each for each in of.endpoints if each.origin.address == address]
    return found


# ---- which addresses


@pytest.mark.parametrize(
    ("family", "found", "used"),
    [
        (AUTO, [], ()),
        (AUTO, [A], (A,)),
        (AUTO, ["::1", A, "fd00::1", B], (A, B)),
        (AUTO, ["fd00::2", "fd00::1"], ("fd00::1", "fd00::2")),
        (IPV4, ["fd00::1"], ()),
        (IPV4, ["fd00::1", A], (A,)),
        (IPV6, [A], ()),
        (IPV6, [A, "fd00::1"], ("fd00::1",)),
        (ALL, ["fd00::1", A], (A, "fd00::1")),
        (ALL, [D, C, D, B, C], (B, C, D)),  # by number, not by text
        (ALL, ["fd00:0:0::1", "FD00::1"], ("fd00::1",)),
        (ALL, ["fe80::1%eth0", "fe80::2", "169.254.1.1"], ("169.254.1.1",)),
        (AUTO, ["fe80::1"], ()),
    ],
)
def test_which_of_a_names_addresses_are_used(family: Family, found: list[str], used: tuple[str, ...]) -> None:
    assert usable(found, family) == used


@given(st.lists(st.ip_addresses().map(str)), st.sampled_from(Family), st.randoms())
def test_the_order_of_an_answer_does_not_matter(found: list[str], family: Family, rng: random.Random) -> None:
    used = usable(found, family)
    shuffled = [*found, *found]
    rng.shuffle(shuffled)
    assert usable(shuffled, family) == used
    assert usable(used, family) == used


@pytest.mark.parametrize(
    ("url", "resolvable"),
    [
        ("http://billing.internal:8080/base", True),
        ("https://billing", True),
        ("http://localhost.internal", True),
        ("http://billing#10.0.0.7", False),
        ("http://10.0.0.7", False),
        ("http://[fd00::7]:80", False),
        ("http://localhost:80", False),
        ("http://LOCALHOST.", False),
        ("http://app.localhost", False),
        ("unix:/run/app.sock", False),
    ],
)
def test_only_names_of_other_hosts_are_resolved(url: str, resolvable: bool) -> None:
    assert is_resolvable(parse_base_url(url)[0]) is resolvable
    assert bool(Resolution(service(url), make).names) is resolvable


# ---- which endpoints


@pytest.mark.parametrize(
    ("configured", "answers", "wanted"),
    [
        # no answer yet: all URLs as configured
        ([("http://a", 1), ("http://b", 2)], [], [("http://a", 1), ("http://b", 2)]),
        # each address, of the configured weight and path
        ([("http://a:81/x", 3)], [("a", (A, B))], [(f"http://a:81/x#{A}", 3), (f"http://a:81/x#{B}", 3)]),
        # one address is pinned, too
        ([("https://a", 1)], [("a", (A,))], [(f"https://a#{A}", 1)]),
        ([("http://a", 1)], [("a", ("fd00::1",))], [("http://a#fd00::1", 1)]),
        # one of two names has addresses; the order of the configuration
        (
            [("http://b", 1), ("unix:/s", 1), ("http://a", 1), (f"http://{C}", 1)],
            [("a", (A, B))],
            [("http://b", 1), ("unix:/s", 1), (f"http://a#{A}", 1), (f"http://a#{B}", 1), (f"http://{C}", 1)],
        ),
        # the same name twice, on other ports or below other paths
        (
            [("http://a:81", 1), ("http://a:82", 2), ("http://a:81/x", 3)],
            [("a", (A,))],
            [(f"http://a:81#{A}", 1), (f"http://a:82#{A}", 2), (f"http://a:81/x#{A}", 3)],
        ),
        # two names of one place: the first, with the larger weight
        (TWO_NAMES, [("a", (A,)), ("b", (A, B))], [(f"http://a#{A}", 5), (f"http://b#{B}", 5)]),
        (TWO_NAMES, [("b", (A, B)), ("a", (A,))], [(f"http://a#{A}", 5), (f"http://b#{B}", 5)]),
        ([("http://a", 4), ("http://b", 0)], [("a", (A,)), ("b", (A,))], [(f"http://a#{A}", 4)]),
        (
            [("http://a", 1), ("https://b:80", 5)],
            [("a", (A,)), ("b", (A,))],
            [(f"http://a#{A}", 1), (f"https://b:80#{A}", 5)],
        ),
        # a place that is also configured by its address: the URL with the address, in any order
        ([("http://a", 1), (f"http://{A}", 1)], [("a", (A, B))], [(f"http://{A}", 1), (f"http://a#{B}", 1)]),
        ([(f"http://{A}", 1), ("http://a", 7)], [("a", (A, B))], [(f"http://{A}", 7), (f"http://a#{B}", 7)]),
        ([(f"http://a#{A}", 1), ("http://a", 7)], [("a", (A, B))], [(f"http://a#{A}", 7), (f"http://a#{B}", 7)]),
        ([(f"http://a#{A}", 7), ("http://a", 1)], [("a", (A, B))], [(f"http://a#{A}", 7), (f"http://a#{B}", 1)]),
        # in A#B, address A is only a name: a#A is another place
        ([(f"http://{A}#{B}", 1), ("http://a", 7)], [("a", (A,))], [(f"http://{A}#{B}", 1), (f"http://a#{A}", 7)]),
        # the last answer counts
        ([("http://a", 1)], [("a", (A, B)), ("a", (B, C))], [(f"http://a#{B}", 1), (f"http://a#{C}", 1)]),
    ],
)  # fmt: skip
def test_the_endpoints_that_names_stand_for(
    configured: list[tuple[str, int]], answers: list[tuple[str, tuple[str, ...]]], wanted: list[tuple[str, int]]
) -> None:
    svc = service(*configured)
    resolution = Resolution(svc, make)
    for name, addresses in answers:
        assert resolution.use(name, addresses, 0.0)
    assert [(each.url, each.weight) for each in svc.endpoints] == wanted


def test_a_pinned_endpoint_differs_from_its_name_in_the_address_alone() -> None:
    svc = service("https://billing:8443/base/")
    (by_name,) = svc.endpoints
    Resolution(svc, make).use("billing", (A,), 0.0)
    (pinned,) = svc.endpoints
    assert (pinned.authority, pinned.base_path, pinned.origin.host) == (b"billing:8443", b"/base", "billing")
    assert (by_name.origin.address, pinned.origin.address) == (None, A)
    assert pinned.origin != by_name.origin


def test_an_added_endpoint_is_resolved_once() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    resolution.follow(0.0)
    before, added = svc.endpoints, make("http://a:81", 5)
    svc.add_endpoint(added, 1.0)
    assert (resolution.is_behind, resolution.names, svc.endpoints) == (True, {"a"}, (*before, added))
    resolution.follow(1.0)
    assert [each.url for each in svc.endpoints[2:]] == [f"http://a:81#{A}", f"http://a:81#{B}"]
    assert not resolution.is_behind
    present = svc.endpoints
    resolution.follow(2.0)
    assert svc.endpoints is present


@pytest.mark.parametrize(("is_added", "joined_at"), [(False, -math.inf), (True, 5.0)])
def test_the_first_addresses_of_a_name_have_slow_start_if_the_name_was_added(is_added: bool, joined_at: float) -> None:
    svc = service("http://a", "http://b")
    resolution = Resolution(svc, make)
    if is_added:
        svc.add_endpoint(make("http://c", 1), 5.0)
    resolution.use("c" if is_added else "b", (A,), 5.0)
    (pinned,) = [each for each in svc.endpoints if each.origin.address]
    assert pinned.joined_at == joined_at


def test_a_new_endpoint_has_the_breaker_of_the_configuration() -> None:
    config = ServiceConfig(breaker=BreakerConfig(failures=1))
    new = new_endpoint("http://a", 3, config, random.Random(1), 7.0)
    new.breaker.end(new.breaker.begin(7.0), 7.0, failed=True)
    assert (new.url, new.weight, new.breaker.is_open) == ("http://a", 3, True)


def test_an_unchanged_answer_changes_nothing() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    assert resolution.use("a", (A, B), 0.0)
    before = svc.endpoints
    assert not resolution.use("a", (A, B), 1.0)
    assert svc.endpoints is before


def test_the_weight_falls_back_when_the_heavier_name_leaves() -> None:
    svc = service(f"http://{A}", ("http://a", 7))
    resolution = Resolution(svc, make)
    (literal, _) = svc.endpoints
    for addresses, weight in (((A,), 7), ((B,), 1), ((A, B), 7)):
        resolution.use("a", addresses, 0.0)
        assert svc.endpoints[0] is literal
        assert literal.weight == weight


def test_an_operators_weight_stays() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    drained = named(svc, A)
    svc.set_weight(drained, 0, 1.0)
    resolution.use("a", (A, C), 1.0)
    assert (named(svc, A), drained.weight) == (drained, 0)


@pytest.mark.parametrize("balancer", BALANCERS)
def test_gateways_that_learn_in_another_order_agree_on_the_endpoints(balancer: str) -> None:
    one, other = (service("http://a", "http://b", balancer=balancer) for _ in range(2))
    for svc, answers in (
        (one, [("a", (A, B)), ("b", (C, D))]),
        (other, [("b", (C,)), ("a", (B,)), ("b", (C, D)), ("a", (A, B))]),
    ):
        resolution = Resolution(svc, make)
        for name, addresses in answers:
            resolution.use(name, addresses, 0.0)
    assert urls(one) == urls(other)


def test_a_key_stays_with_its_endpoint_when_another_one_leaves() -> None:
    svc = service("http://a", balancer="consistent_hash", slow_start=0.0)
    resolution = Resolution(svc, make)

    def owners() -> dict[bytes, str]:
        found = {}
        for key in (b"%d" % number for number in range(200)):
            lease = svc.lease(LeaseRequest(100.0, key=key))
            found[key] = lease.endpoint.url
            lease.settle(Outcome.IGNORED, 100.0)
        return found

    resolution.use("a", (A, B, C, D), 0.0)
    before = owners()
    resolution.use("a", (A, B, D), 100.0)
    after = owners()
    assert all(after[key] == url for key, url in before.items() if url != f"http://a#{C}")
    assert len(set(before.values())) == 4


# ---- endpoints stay, leave and return


def test_an_endpoint_that_stays_keeps_its_state() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    staying = named(svc, B)
    for _ in range(5):
        lease_on(svc, staying).settle(Outcome.FAILURE, 1.0)
    held = lease_on(svc, staying, 1.0, Kind.SSE)
    resolution.use("a", (B, C), 2.0)
    assert named(svc, B) is staying
    assert (staying.requests_total, staying.errors_total, staying.load) == (5, 5, 1)
    assert staying.breaker.state(2.0) is State.OPEN
    held.settle(Outcome.SUCCESS, 3.0)
    assert sum(svc.inflight.values()) == staying.load == 0


def test_a_lease_on_a_departed_endpoint_settles_as_any_other() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A,), 0.0)
    (leaving,) = svc.endpoints
    request, stream = lease_on(svc, leaving), lease_on(svc, leaving, kind=Kind.WS)
    resolution.use("a", (B,), 1.0)
    assert (leaving.load, svc.inflight[Kind.HTTP], svc.inflight[Kind.WS]) == (2, 1, 1)
    request.settle(Outcome.FAILURE, 2.0)
    stream.settle(Outcome.SUCCESS, 3.0)
    assert (leaving.load, sum(svc.inflight.values()), leaving.requests_total, leaving.errors_total) == (0, 0, 2, 1)


def test_a_departed_endpoint_is_not_chosen() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    leaving = named(svc, A)
    resolution.use("a", (B,), 1.0)
    for _ in range(5):
        lease = svc.lease(LeaseRequest(1.0, pinned=leaving))
        assert lease.endpoint.origin.address == B
        lease.settle(Outcome.SUCCESS, 1.0)


def test_an_endpoint_that_returns_with_streams_is_the_same_object() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    leaving = named(svc, A)
    stream = lease_on(svc, leaving, kind=Kind.WS)
    resolution.use("a", (B,), 1.0)
    resolution.forget(3600.0)
    resolution.use("a", (A, B), 3600.0)
    assert named(svc, A) is leaving
    assert (leaving.streams, resolution.departed) == (1, {})
    stream.settle(Outcome.SUCCESS, 3601.0)


@pytest.mark.parametrize(("away", "same"), [(KEEP_DEPARTED - 0.1, True), (KEEP_DEPARTED, False)])
def test_an_endpoint_that_returns_soon_is_the_same_object(away: float, same: bool) -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    leaving = named(svc, A)
    resolution.use("a", (B,), 10.0)
    resolution.forget(10.0 + away)
    resolution.use("a", (A, B), 10.0 + away)
    assert (named(svc, A) is leaving) is same


def test_a_returning_endpoint_has_the_configuration_that_its_service_has_now() -> None:
    of = service("http://a")
    resolution = Resolution(of, make)
    resolution.use("a", (A, B), 0.0)
    returning = named(of, B)
    resolution.use("a", (A,), 1.0)
    of.reconfigure(ServiceConfig(breaker=BreakerConfig(failures=1)), 2.0, random.Random(1))
    resolution.use("a", (A, B), 3.0)
    assert named(of, B) is returning
    lease_on(of, returning, 4.0).settle(Outcome.FAILURE, 4.0)
    assert returning.breaker.state(4.0) is State.OPEN


def test_a_returning_endpoint_counts_as_healthy_until_checked() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    resolution.use("a", (A, B), 0.0)
    leaving = named(svc, A)
    svc.set_health(leaving, 0.0, up=False)
    assert not leaving.is_admitted
    resolution.use("a", (B,), 1.0)
    resolution.use("a", (A, B), 2.0)
    assert named(svc, A) is leaving
    assert leaving.is_admitted


def test_the_first_addresses_have_no_slow_start_and_later_addresses_do() -> None:
    svc = service("http://a", f"http://{D}")
    resolution = Resolution(svc, make)
    resolution.use("a", (A,), 100.0)
    assert named(svc, A).share(100.0, 10.0) == 1.0
    resolution.use("a", (A, B), 200.0)
    assert named(svc, A).share(200.0, 10.0) == 1.0
    assert named(svc, B).share(205.0, 10.0) == 0.5
    resolution.use("a", (B,), 300.0)
    resolution.use("a", (A, B), 310.0)
    assert named(svc, A).share(315.0, 10.0) == 0.5


def test_nothing_is_left_of_departed_endpoints() -> None:
    svc = service("http://a")
    resolution = Resolution(svc, make)
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Endpoint)}
    for number in range(100):
        now = number * 2 * KEEP_DEPARTED
        resolution.use("a", (f"10.0.0.{number}",), now)
        svc.lease(LeaseRequest(now)).settle(Outcome.SUCCESS, now)
        resolution.forget(now)
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, Endpoint) and id(each) not in before]
    assert len(left) <= 2  # the present one and the last one


# ---- at any time

_ADDRESSES = [A, B, C, D, "fd00::1"]
_CONFIGURED = [("http://a:80/x", 2), ("http://b:80/x", 3), (f"http://{C}:80/x", 1), ("http://a:81", 1), ("unix:/s", 1)]


class Changing(RuleBasedStateMachine):
    """Answers in any order, with leases taken and settled in between."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.service = service(*_CONFIGURED)
        self.made: list[Endpoint] = []
        self.resolution = Resolution(self.service, self.make)
        self.leases: list[Lease] = []
        self.answers: dict[str, tuple[str, ...]] = {}

    def make(self, url: str, weight: int) -> Endpoint:
        self.made.append(make(url, weight))
        return self.made[-1]

    @rule(name=st.sampled_from("ab"), found=st.lists(st.sampled_from(_ADDRESSES), min_size=1))
    def answer(self, name: str, found: Sequence[str]) -> None:
        addresses, before = usable(found, ALL), self.service.endpoints
        remembered = {each.url: each for each in (*before, *self.resolution.departed)}
        is_news = self.answers.get(name) != addresses
        assert self.resolution.use(name, addresses, self.now) is is_news
        self.answers[name] = addresses
        assert all(remembered.get(each.url, each) is each for each in self.service.endpoints)
        assert is_news or self.service.endpoints is before

    @rule(kind=st.sampled_from(Kind))
    def begin(self, kind: Kind) -> None:
        self.leases.append(self.service.lease(LeaseRequest(self.now, kind)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.sampled_from([Outcome.SUCCESS, Outcome.IGNORED]))
    def end(self, data: st.DataObject, outcome: Outcome) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        lease.settle(outcome, self.now)

    @rule(seconds=st.sampled_from([0.5, 30.0, KEEP_DEPARTED]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.resolution.forget(self.now)
        assert all(each.load or self.now - since < KEEP_DEPARTED for each, since in self.resolution.departed.items())

    @invariant()
    def each_place_is_there_once(self) -> None:
        places = [
            (each.origin.scheme, each.origin.address or each.origin.host, each.origin.port, each.base_path)
            for each in self.service.endpoints
            if not each.origin.socket
        ]
        assert len(places) == len(set(places))
        assert len(set(urls(self.service))) == len(self.service.endpoints)

    @invariant()
    def every_answer_is_there(self) -> None:
        addresses = {each.origin.address or each.origin.host for each in self.service.endpoints}
        for name in "ab":
            assert set(self.answers.get(name, (name,))) <= addresses
        assert addresses <= {C, "localhost"}.union(*(self.answers.get(name, (name,)) for name in "ab"))

    @invariant()
    def leases_in_flight_are_counted(self) -> None:
        remembered = {*self.service.endpoints, *self.resolution.departed}
        assert sum(each.load for each in remembered) == len(self.leases) == sum(self.service.inflight.values())
        assert not set(self.service.endpoints) & self.resolution.departed.keys()

    @invariant()
    def weights_are_the_configured_ones(self) -> None:
        assert all(1 <= each.weight <= 3 for each in self.service.endpoints)

    def teardown(self) -> None:
        for lease in self.leases:
            lease.settle(Outcome.IGNORED, self.now)
        self.now += KEEP_DEPARTED
        for name in "ab":
            self.resolution.use(name, (A,), self.now)
        self.resolution.forget(self.now + KEEP_DEPARTED)
        assert self.resolution.departed == {}
        assert sum(each.load for each in {*self.service.endpoints, *self.made}) == 0


Changing.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestChanging = pytest.mark.untraced(Changing.TestCase)


# ---- endpoints of sources

SOURCE = "k8s+http://billing.shop"


def test_a_change_of_weights_alone_is_followed() -> None:
    of = service("http://10.0.0.1", "http://10.0.0.2")
    resolution = Resolution(of, make)
    before = of.endpoints
    of.membership.configure({"http://10.0.0.1": 0, "http://10.0.0.2": 3})
    resolution.follow(0.0)
    assert (of.endpoints, [each.weight for each in before]) == (before, [0, 3])


def test_a_service_that_gets_a_source_keeps_its_endpoints_until_the_source_has_told_endpoints() -> None:
    of = service("http://10.0.0.1")
    resolution = Resolution(of, make)
    of.membership.configure({SOURCE: 1})
    resolution.follow(0.0)
    assert urls(of) == ["http://10.0.0.1"]
    of.membership.receive(SOURCE, {"http://10.0.0.2": 1})
    resolution.follow(1.0)
    assert urls(of) == ["http://10.0.0.2"]


@pytest.mark.parametrize("balancer", BALANCERS)
def test_a_service_without_endpoints_refuses_and_serves_as_soon_as_a_source_tells_endpoints(balancer: str) -> None:
    of = service(balancer=balancer)
    of.membership.configure({SOURCE: 1})
    resolution = Resolution(of, make)
    resolution.follow(0.0)
    with pytest.raises(CircuitOpen):
        of.lease(LeaseRequest(0.0, Kind.HTTP))
    of.membership.receive(SOURCE, {"http://billing.shop.svc:80#10.1.0.7": 1})
    resolution.follow(1.0)
    assert of.lease(LeaseRequest(1.0, Kind.HTTP)).endpoint.url.endswith("#10.1.0.7")


def test_an_endpoint_that_stays_configured_keeps_all_state() -> None:
    one, two, three = (f"http://10.0.0.{number}" for number in (1, 2, 3))
    of = service(one, two)
    stays = of.endpoints[1]
    stays.requests_total = 7
    of.configure({two: 1, one: 1}, make, 0.0)
    assert urls(of) == [two, one]
    of.configure({two: 4, three: 1}, make, 1.0)
    assert (urls(of), stays.weight, of.endpoints[0] is stays) == ([two, three], 4, True)
    before = of.endpoints
    of.configure({two: 4, three: 1}, make, 2.0)
    assert of.endpoints is before
