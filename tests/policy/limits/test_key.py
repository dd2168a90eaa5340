"""Keys: who is counted together."""

import pytest

from tornado_gateway.policy.http.address import NO_ADDRESS, parse
from tornado_gateway.policy.limits.key import LONGEST, Asker, key_of
from tornado_gateway.policy.limits.quota import LimitKey


def key(
    text: str, address: bytes = b"192.0.2.7", principal: str = "", route: str = "/api a", *fields: tuple[bytes, bytes]
) -> str:
    return key_of(LimitKey.parse(text), Asker(parse(address) or NO_ADDRESS, principal, route, lambda: fields))


def test_an_address_is_an_ipv4_address_or_an_ipv6_network() -> None:  # R3
    assert key("ip") == key("ip", b"::ffff:192.0.2.7") == "192.0.2.7"
    assert key("ip", b"2001:db8:1:2::1") == key("ip", b"2001:db8:1:2:ffff::9")
    assert key("ip", b"2001:db8:1:2::1") != key("ip", b"2001:db8:1:3::1")


def test_a_principal_is_counted_wherever_it_is() -> None:
    assert key("principal", principal="iss|ada") == key("principal", b"198.51.100.1", "iss|ada")
    assert key("principal", principal="iss|ada") != key("principal", principal="iss|bob")


def test_without_a_principal_or_the_field_the_address_counts() -> None:
    assert key("principal") == key("header:x-tenant") == key("ip")
    assert key("header:x-tenant", b"192.0.2.7", "", "", (b"X-Tenant", b"")) == key("ip")


def test_a_field_counts_by_its_whole_value() -> None:
    one = key("header:x-tenant", b"192.0.2.7", "", "", (b"x-TENANT", b"a"), (b"Other", b"b"))
    assert one == key("header:X-Tenant", b"198.51.100.1", "", "", (b"X-Tenant", b"a"))
    assert one != key("header:x-tenant", b"192.0.2.7", "", "", (b"X-Tenant", b"a"), (b"X-Tenant", b"b"))


def test_a_route_counts_all_its_clients_together() -> None:
    assert key("route") == key("route", b"198.51.100.1", "iss|ada")
    assert key("route") != key("route", route="/api b")


def test_the_limits_of_a_route_count_together_whatever_the_door() -> None:
    askers = [Asker(NO_ADDRESS, "", route, lambda: ()) for route in ("/api/<service>/* a", "/own/* a")]
    assert len({key_of(LimitKey("route"), each, "/own/*") for each in askers}) == 1
    assert len({key_of(LimitKey("route"), each) for each in askers}) == 2


@pytest.mark.parametrize("same", ["192.0.2.7", "p192.0.2.7", "a"])
def test_no_client_can_make_up_the_key_of_another_source(same: str) -> None:
    keys = [
        key("ip"),
        key("principal", principal=same),
        key("header:a", b"192.0.2.7", "", "", (b"a", same.encode())),
        key("route", route=same),
    ]
    assert len(set(keys)) == 4


def test_a_long_key_is_hashed() -> None:
    long = key("principal", principal="x" * LONGEST)
    assert len(long) <= LONGEST
    assert long != key("principal", principal="x" * (LONGEST + 1))
    assert key("principal", principal=long[1:]) != long
    assert len(key("principal", principal="\ud800" * 99)) <= LONGEST
