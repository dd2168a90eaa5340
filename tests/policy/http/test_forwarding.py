"""The client's address behind trusted and untrusted proxies."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.http.forwarding import (
    KEEP,
    MAX_HOPS,
    PREFIX,
    REPLACE,
    ForwardingConfig,
    client_address,
    originate,
    request_id,
)

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "claims", "client", "forwarded_for"),
    [
        (b"1.1.1.1", [b"2.2.2.2"], b"1.1.1.1", b"1.1.1.1"),
        (b"10.0.0.1", [], b"10.0.0.1", b"10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2"], b"2.2.2.2", b"2.2.2.2, 10.0.0.1"),
        (b"10.0.0.1", [b"6.6.6.6, 2.2.2.2, 10.9.9.9"], b"2.2.2.2", b"6.6.6.6, 2.2.2.2, 10.9.9.9, 10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2", b"3.3.3.3"], b"3.3.3.3", b"2.2.2.2, 3.3.3.3, 10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2, nonsense, 10.2.2.2"], b"10.2.2.2", b"10.2.2.2, 10.0.0.1"),
        (b"10.0.0.1", [b"unknown"], b"10.0.0.1", b"10.0.0.1"),
        (b"::ffff:10.0.0.1", [b"2.2.2.2"], b"2.2.2.2", b"2.2.2.2, 10.0.0.1"),
        (b"10.0.0.1", [b"::ffff:10.9.9.9"], b"10.9.9.9", b"10.9.9.9, 10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2, [::ffff:10.9.9.9]:443"], b"2.2.2.2", b"2.2.2.2, 10.9.9.9, 10.0.0.1"),
        (b"10.0.0.1", [b'"', b"2.2.2.2"], b"2.2.2.2", b"2.2.2.2, 10.0.0.1"),  # a quote hides nothing
        (b"10.0.0.1", [b"203.0.113.7:50000"], b"203.0.113.7", b"203.0.113.7, 10.0.0.1"),
        (b"10.0.0.1", [b"[2001:DB8:0::1]:443"], b"2001:db8::1", b"2001:db8::1, 10.0.0.1"),
        (b"10.0.0.1", [b"fe80::1%eth0"], b"fe80::1", b"fe80::1, 10.0.0.1"),
        (b"fd00::1%eth0", [b"2.2.2.2"], b"2.2.2.2", b"2.2.2.2, fd00::1"),
        (b"10.0.0.1", [b'2.2.2.2, fe80::1%"'], b"10.0.0.1", b"10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2, 010.9.9.9"], b"10.0.0.1", b"10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2, _hidden, 10.9.9.9"], b"10.9.9.9", b"10.9.9.9, 10.0.0.1"),
        (b"10.0.0.1", [b", ,2.2.2.2,", b"", b"\t,"], b"2.2.2.2", b"2.2.2.2, 10.0.0.1"),
        (b"10.0.0.1", [b"2.2.2.2", b"unknown", b"10.9.9.9"], b"10.9.9.9", b"10.9.9.9, 10.0.0.1"),
        (b"10.0.0.1", [b"10.1.1.1, 10.2.2.2"], b"10.1.1.1", b"10.1.1.1, 10.2.2.2, 10.0.0.1"),
        (b"fd00::1", [b"2001:db8::7"], b"2001:db8::7", b"2001:db8::7, fd00::1"),
        (b"", [b"2.2.2.2"], b"", b""),
    ],
)
def test_the_client_is_the_first_hop_from_the_right_that_is_not_trusted(
    peer: bytes, claims: list[bytes], client: bytes, forwarded_for: bytes
) -> None:
    origination = originate({b"x-forwarded-for": claims}, of_peer(peer.decode()), b"http", b"h", TRUSTED)
    assert (origination.client, origination.forwarded_for) == (of_peer(client.decode()), forwarded_for)
    assert client_address({b"x-forwarded-for": claims}, of_peer(peer.decode()), TRUSTED) == origination.client


CLAIMS = {b"x-forwarded-proto": [b"https"], b"x-forwarded-host": [b"public.example"], b"x-forwarded-port": [b"8443"]}


@pytest.mark.parametrize(
    ("peer", "claims", "expected"),
    [
        (b"1.1.1.1", CLAIMS, (b"http", b"h:81", b"81")),
        (b"10.0.0.1", CLAIMS, (b"https", b"public.example", b"8443")),
        (b"10.0.0.1", {b"x-forwarded-proto": [b"https"]}, (b"https", b"h:81", b"81")),
        (b"10.0.0.1", {b"x-forwarded-proto": [b"gopher"], b"x-forwarded-host": [b"a b"]}, (b"http", b"h:81", b"81")),
        (b"10.0.0.1", {b"x-forwarded-proto": [b"HTTPS"], b"x-forwarded-host": [b"A"]}, (b"https", b"A", b"443")),
        (b"10.0.0.1", {b"x-forwarded-host": [b"[2001:db8::1]:8443"]}, (b"http", b"[2001:db8::1]:8443", b"8443")),
        *(
            (b"10.0.0.1", {b"x-forwarded-host": [host]}, (b"http", b"h:81", b"81"))
            for host in (b"a:b", b"a:99999", b":80", b"[::", b"[x]", b"]", b"a, b", b"a/b", b"a@b", b"", b"\xe9")
        ),
        *(
            (b"10.0.0.1", {b"x-forwarded-port": [port]}, (b"http", b"h:81", b"81"))
            for port in (b"0", b"65536", b"-1", b"x", b"", b"8 0", b"000000")
        ),
        (b"10.0.0.1", {b"x-forwarded-port": [b"00443"]}, (b"http", b"h:81", b"443")),
        (b"10.0.0.1", {b"x-forwarded-host": [b"a", b"b"]}, (b"http", b"h:81", b"81")),
    ],
)
def test_scheme_host_and_port_are_believed_from_trusted_proxies_only(
    peer: bytes, claims: dict[bytes, list[bytes]], expected: tuple[bytes, bytes, bytes]
) -> None:
    origination = originate(claims, of_peer(peer.decode()), b"http", b"h:81", TRUSTED)
    assert (origination.proto, origination.host, origination.port) == expected


@pytest.mark.parametrize(
    ("proto", "host", "port"),
    [(b"http", b"a", b"80"), (b"https", b"a", b"443"), (b"http", b"a:81", b"81"), (b"http", b"[::1]", b"80"),
     (b"http", b"[::1]:82", b"82"), (b"http", b"a:", b"80")],
)  # fmt: skip
def test_the_port_is_the_hosts_or_the_schemes(proto: bytes, host: bytes, port: bytes) -> None:
    assert originate({}, of_peer("1.1.1.1"), proto, host, ()).port == port


def test_an_upstream_is_told_in_four_fields_and_the_claims_of_trusted_proxies() -> None:
    named = {b"x-forwarded-for": [b"203.0.113.7:50000"], b"forwarded": [b"for=203.0.113.7"], b"x-real-ip": [b"a", b"b"]}
    assert originate(named, of_peer("10.0.0.1"), b"http", b"h:81", TRUSTED).lines == (
        b"X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h:81\r\n"
        b"X-Forwarded-Port: 81\r\nforwarded: for=203.0.113.7\r\nx-real-ip: a\r\nx-real-ip: b\r\n"
    )


def test_a_mapped_peer_is_the_client_without_trusted_proxies() -> None:
    origination = originate({b"x-forwarded-for": [b"1.1.1.1"]}, of_peer("::ffff:203.0.113.7"), b"http", b"h", ())
    assert (origination.client.text, origination.forwarded_for) == ("203.0.113.7", b"203.0.113.7")


def test_a_list_without_end_is_read_from_the_right_only() -> None:
    far = b",".join([b"10.9.9.9"] * 5000)
    origination = originate({b"x-forwarded-for": [b"6.6.6.6," + far]}, of_peer("10.0.0.1"), b"http", b"h", TRUSTED)
    assert origination.client.text == "10.9.9.9"
    assert origination.forwarded_for.count(b",") == MAX_HOPS
    crowded = b"6.6.6.6" + b"," * 10_000 + b"2.2.2.2"
    origination = originate({b"x-forwarded-for": [crowded]}, of_peer("10.0.0.1"), b"http", b"h", TRUSTED)
    assert origination.forwarded_for == b"2.2.2.2, 10.0.0.1"


ANY_MEMBER = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"", b" ", b"unknown", b"_x", b"10.1.1.1", b"[::ffff:10.1.1.1]:9", b'fe80::1%"', b"fd00::7"]),
    st.ip_addresses().map(lambda address: str(address).encode()),
)


@settings(deadline=None)
@given(st.lists(ANY_MEMBER, max_size=8), st.lists(ANY_MEMBER, max_size=3), st.ip_addresses())
def test_members_left_of_an_untrusted_hop_are_ignored(
    claimed: list[bytes], garbage: list[bytes], seen: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    """A trusted proxy appends its peer's address; that peer is the client, whatever the peer claimed."""
    fields = [b",".join(claimed), b",".join([*garbage, str(seen).encode()])]
    client = client_address({b"x-forwarded-for": fields}, of_peer("10.0.0.1"), TRUSTED)
    if not of_peer(str(seen)).is_in(TRUSTED):
        assert client == of_peer(str(seen))
    origination = originate({b"x-forwarded-for": fields}, of_peer("10.0.0.1"), b"http", b"h", TRUSTED)
    assert origination.client == client
    assert originate({b"x-forwarded-for": fields}, of_peer("1.1.1.1"), b"http", b"h", TRUSTED).client.text == "1.1.1.1"


@settings(deadline=None)
@given(st.lists(ANY_MEMBER, max_size=8))
def test_upstreams_receive_a_list_of_canonical_addresses(claimed: list[bytes]) -> None:
    peer = of_peer("10.0.0.1")
    sent = originate({b"x-forwarded-for": [b",".join(claimed)]}, peer, b"http", b"h", TRUSTED).forwarded_for
    members = sent.decode("ascii").split(", ")
    assert members[-1] == "10.0.0.1"
    assert members == [of_peer(each).text for each in members]
    again = originate({b"x-forwarded-for": [sent]}, peer, b"http", b"h", TRUSTED).forwarded_for
    assert again == sent + b", 10.0.0.1"


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b"a"], True), ([b"!~" + b"a" * 126], True), ([b"a" * 129], False), ([b""], False), ([b"a b"], False),
        ([b"\xc3\xa9"], False), ([b"a\x7f"], False), ([b"a", b"b"], False), ([], False),
    ],
)  # fmt: skip
def test_a_request_id_of_visible_ascii_is_kept(values: list[bytes], kept: bool) -> None:
    found = request_id({b"x-request-id": values}, of_peer("1.1.1.1"), ForwardingConfig(), lambda: b"new")
    assert found == (values[0] if kept else b"new")


@pytest.mark.parametrize(
    ("rule", "peer", "given", "found"),
    [
        (KEEP, "1.1.1.1", b"a", b"a"),
        (PREFIX, "1.1.1.1", b"a", b"new-a"),
        (PREFIX, "1.1.1.1", b"a" * 124, b"new-" + b"a" * 124),
        (PREFIX, "1.1.1.1", b"a" * 125, b"new"),
        (PREFIX, "1.1.1.1", b"a b", b"new"),
        (REPLACE, "1.1.1.1", b"a", b"new"),
        (PREFIX, "10.0.0.1", b"a", b"a"),
        (REPLACE, "10.0.0.1", b"a", b"a"),
        (REPLACE, "10.0.0.1", b"a b", b"new"),
    ],
)
def test_a_request_id_of_anybody_is_treated_as_wanted(rule: str, peer: str, given: bytes, found: bytes) -> None:
    config = ForwardingConfig(trusted=TRUSTED, others_ids=rule)
    assert request_id({b"x-request-id": [given]}, of_peer(peer), config, lambda: b"new") == found
