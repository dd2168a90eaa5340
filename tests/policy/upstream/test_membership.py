"""Membership: configuration, name servers and operator, merged into the endpoints of a service."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.target import parse_base_url
from tornado_gateway.policy.upstream.membership import Membership, is_resolvable

BILLING, MAIL = "http://billing:8080", "http://mail"
ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def test_a_configured_url_is_an_endpoint_until_the_name_resolves() -> None:
    membership = Membership({BILLING: 2, f"http://{THREE}": 1})
    assert membership.wanted() == {BILLING: 2, f"http://{THREE}": 1}
    assert membership.addresses("billing") is None
    membership.discover("billing", (ONE, TWO))
    assert membership.addresses("billing") == (ONE, TWO)
    assert membership.wanted() == {f"{BILLING}#{ONE}": 2, f"{BILLING}#{TWO}": 2, f"http://{THREE}": 1}


def test_a_drain_survives_the_next_answer_of_a_name_server() -> None:
    membership = Membership({BILLING: 2})
    membership.discover("billing", (ONE, TWO))
    membership.set_weight(f"{BILLING}#{ONE}", 0)
    for addresses in ((ONE, TWO, THREE), (TWO,), (ONE, TWO)):
        membership.discover("billing", addresses)
    assert membership.wanted() == {f"{BILLING}#{ONE}": 0, f"{BILLING}#{TWO}": 2}


def test_an_addition_survives_the_next_answer_and_another_configuration() -> None:
    membership = Membership({BILLING: 1})
    membership.add(f"http://{THREE}", 5)
    membership.discover("billing", (ONE,))
    assert membership.wanted() == {f"{BILLING}#{ONE}": 1, f"http://{THREE}": 5}
    membership.configure({MAIL: 1})
    assert membership.wanted() == {MAIL: 1, f"http://{THREE}": 5}
    assert membership.names == {"mail"}


def test_a_released_url_is_as_configured() -> None:
    membership = Membership({BILLING: 2})
    membership.set_weight(BILLING, 0)
    membership.add(MAIL, 1)
    assert (membership.wanted(), membership.names) == ({BILLING: 0, MAIL: 1}, {"billing", "mail"})
    for url in (BILLING, MAIL):
        membership.release(url)
    assert (membership.wanted(), membership.names) == ({BILLING: 2}, {"billing"})


def test_names_and_version_follow_the_base_urls() -> None:
    membership = Membership({BILLING: 2})
    seen = [(membership.version, membership.names)]
    for change in (
        lambda: membership.add(MAIL, 1),
        lambda: membership.release(MAIL),
        lambda: membership.configure({MAIL: 1}),
        lambda: membership.discover("mail", (ONE,)),
        lambda: membership.set_weight(MAIL, 3),
    ):
        change()
        seen.append((membership.version, membership.names))
    assert seen == [(0, {"billing"}), (1, {"billing", "mail"}), (2, {"billing"}), *[(3, {"mail"})] * 3]
    assert (membership.is_configured("mail"), membership.is_configured("billing")) == (True, False)


def test_an_added_url_that_is_configured_too_has_the_operators_weight() -> None:
    membership = Membership({BILLING: 2})
    membership.add(BILLING, 7)
    assert membership.wanted() == {BILLING: 7}


def test_two_urls_that_lead_to_one_place_are_one_endpoint() -> None:
    membership = Membership({BILLING: 2, f"http://{ONE}:8080": 3})
    membership.discover("billing", (ONE, TWO))
    assert membership.wanted() == {f"http://{ONE}:8080": 3, f"{BILLING}#{TWO}": 2}


Event = tuple[str, Callable[[Membership], None]]


def discovered(name: str, addresses: tuple[str, ...]) -> Event:
    return f"name {name}", lambda membership: membership.discover(name, addresses)


def weighed(url: str, weight: int) -> Event:
    return f"operator {url}", lambda membership: membership.set_weight(url, weight)


def added(url: str, weight: int) -> Event:
    return f"addition {url}", lambda membership: membership.add(url, weight)


def configured(weights: dict[str, int]) -> Event:
    return "configuration", lambda membership: membership.configure(weights)


ADDRESSES = st.lists(st.sampled_from([ONE, TWO, THREE]), min_size=1, unique=True).map(
    lambda found: tuple(sorted(found))
)
URLS = st.sampled_from([BILLING, MAIL, f"{BILLING}#{ONE}", f"{BILLING}#{TWO}", f"{MAIL}#{ONE}", f"http://{ONE}"])
BASES = st.sampled_from([BILLING, MAIL, f"http://{ONE}", f"http://{ONE}:8080", "http://localhost:1"])
EVENTS = st.one_of(
    st.builds(discovered, st.sampled_from(["billing", "mail"]), ADDRESSES),
    st.builds(weighed, URLS, st.integers(0, 5)),
    st.builds(added, BASES, st.integers(0, 5)),
    st.builds(configured, st.dictionaries(BASES, st.integers(0, 5), min_size=1)),
)


def told(events: list[Event]) -> dict[str, int]:
    membership = Membership({BILLING: 1, f"http://{ONE}": 2})
    for _, happens in events:
        happens(membership)
    return membership.wanted()


@given(st.lists(EVENTS, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_different_sources_does_not_matter(events: list[Event], rng: object) -> None:
    by_source: dict[str, list[Event]] = {}
    for event in events:
        by_source.setdefault(event[0], []).append(event)
    expected = told(events)
    waiting = [*by_source.values()]
    shuffled: list[Event] = []
    left = [list(each) for each in waiting]
    while any(left):
        several = [each for each in left if each]
        shuffled.append(rng.choice(several).pop(0))  # type: ignore[attr-defined]
    assert told(shuffled) == expected
    assert list(told(shuffled)) == list(expected), "nor for the order of the endpoints"


@pytest.mark.parametrize(
    ("url", "resolvable"),
    [
        ("http://billing", True),
        ("http://localhost", False),
        ("http://10.0.0.1", False),
        ("http://[::1]:80", False),
        ("unix:/run/app.sock", False),
    ],
)
def test_a_name_may_change_its_addresses_but_not_an_address_a_socket_or_this_host(url: str, resolvable: bool) -> None:
    assert is_resolvable(parse_base_url(url)[0]) is resolvable


# ---- sources


SOURCE = "k8s+http://billing.shop"


def test_what_a_source_tells_stands_in_its_place() -> None:
    membership = Membership({"http://first": 1, SOURCE: 2, "http://last": 1})
    assert membership.sources == (SOURCE,)
    assert membership.wanted() == {"http://first": 1, "http://last": 1}
    told = {"http://billing.shop.svc:80#10.1.0.7": 1, "http://one.internal:81": 3}
    assert membership.receive(SOURCE, told)
    assert not membership.receive(SOURCE, told)
    assert membership.wanted() == {
        "http://first": 1, "http://billing.shop.svc:80#10.1.0.7": 2, "http://one.internal:81": 6, "http://last": 1,
    }  # fmt: skip


def test_names_that_a_source_tells_are_looked_up() -> None:
    membership = Membership({SOURCE: 1})
    before = membership.version
    membership.receive(SOURCE, {"http://one.internal:81": 1, "http://billing.shop.svc:80#10.1.0.7": 1})
    assert (membership.names, membership.version) == (frozenset({"one.internal"}), before + 1)
    assert membership.is_configured("one.internal")
    membership.discover("one.internal", ("10.0.0.7", "10.0.0.8"))
    assert set(membership.wanted()) == {
        "http://one.internal:81#10.0.0.7", "http://one.internal:81#10.0.0.8", "http://billing.shop.svc:80#10.1.0.7",
    }  # fmt: skip
    membership.receive(SOURCE, {})
    assert membership.names == frozenset()


def test_an_operators_drain_survives_what_a_source_tells() -> None:
    url = "http://billing.shop.svc:80#10.1.0.7"
    membership = Membership({SOURCE: 1})
    membership.receive(SOURCE, {url: 1})
    membership.set_weight(url, 0)
    for told in ({}, {url: 1}):
        membership.receive(SOURCE, told)
    assert membership.wanted() == {url: 0}
    membership.release(url)
    assert membership.wanted() == {url: 1}


def test_a_source_that_is_no_longer_configured_is_left_out() -> None:
    membership = Membership({SOURCE: 1})
    membership.receive(SOURCE, {"http://a": 1})
    membership.configure({"http://b": 1})
    assert (membership.sources, membership.wanted()) == ((), {"http://b": 1})


def test_only_another_order_weight_or_url_is_a_change() -> None:
    membership = Membership({BILLING: 1, MAIL: 2})
    changes = ({BILLING: 1, MAIL: 2}, {MAIL: 2, BILLING: 1}, {MAIL: 2, BILLING: 3}, {MAIL: 2, BILLING: 3})
    assert [membership.configure(each) for each in changes] == [False, True, True, False]
