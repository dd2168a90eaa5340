"""Look-ups against name servers that answer, fail, are silent or lie; no look-up leaves anything behind."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.name_servers import AAAA, CNAME, REFUSED, SERVFAIL, A, NameServer, Query, record, wire_name
from tests.support.sockets import eventually
from tornado_gateway.errors import ConnectFailed, NameNotResolved, NameTimeout
from tornado_gateway.policy.http.target import is_address
from tornado_gateway.policy.upstream.resolv_conf import ResolvConf, parse_resolv_conf
from tornado_gateway.policy.upstream.srv_records import Record
from tornado_gateway.wire.client.look_up import Answer, LookUp, RecordLookUp

QUICK = "options timeout:1 attempts:1\n"
NAME = "service.test"


def conf_of(*servers: NameServer, conf: str = "") -> ResolvConf:
    return parse_resolv_conf("".join(server.line for server in servers) + "search .\n" + conf)


def begin(name: str, conf: ResolvConf, family: int = socket.AF_UNSPEC, seconds: float = 5.0) -> LookUp:
    return LookUp(asyncio.get_running_loop(), name, family, conf, seconds)


async def look_up(name: str, conf: ResolvConf, family: int = socket.AF_UNSPEC, seconds: float = 5.0) -> Answer:
    lookup = begin(name, conf, family, seconds)
    await asyncio.wait([lookup.answer])
    return lookup.answer.result()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    await asyncio.sleep(0)
    before = descriptors()
    yield
    await eventually(lambda: descriptors() <= before)


# ---- answers


@pytest.mark.parametrize(
    ("family", "found", "asked"),
    [
        (socket.AF_UNSPEC, {"127.0.0.1", "::1"}, {A, AAAA}),
        (socket.AF_INET, {"127.0.0.1"}, {A}),
        (socket.AF_INET6, {"::1"}, {AAAA}),
    ],
)
@pytest.mark.gen_test
async def test_a_names_addresses_of_the_families_that_are_wanted(name_server, family, found, asked) -> None:
    server = await name_server({NAME: ["127.0.0.1", "::1"]})
    async with nothing_left_behind():
        assert set(await look_up(NAME, conf_of(server), family)) == found
    assert {query.type for query in server.asked} == asked


@pytest.mark.gen_test
async def test_addresses_come_in_the_order_of_rfc_6724(name_server) -> None:
    # Rule 1: no address of 2001:db8::/32 can be reached from here; rule 6: ::1 before IPv4.
    server = await name_server({NAME: ["127.0.0.1", "2001:db8::7", "::1"]})
    assert await look_up(NAME, conf_of(server)) == ("::1", "127.0.0.1", "2001:db8::7")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.gen_test
async def test_a_name_of_one_family_only(name_server, address) -> None:
    server = await name_server({NAME: [address]})
    assert await look_up(NAME, conf_of(server)) == (address,)


@pytest.mark.gen_test
async def test_a_name_server_at_an_ipv6_address(name_server) -> None:
    server = await name_server({NAME: ["127.0.0.1"]}, "::1")
    assert await look_up(NAME, conf_of(server)) == ("127.0.0.1",)


def through_aliases(*names: str):
    """The name is an alias of the next, and so on; the last has an address."""

    def answer(query: Query) -> list[bytes]:
        aliases = [record(one, CNAME, wire_name(other)) for one, other in pairwise(names)]
        return [query.reply(*aliases, *query.addresses("127.0.0.1", of=names[-1]))]

    return answer


@pytest.mark.gen_test
async def test_aliases_lead_to_addresses(name_server) -> None:
    server = await name_server({NAME: through_aliases(NAME, "alias.test", "host.test")})
    assert await look_up(NAME, conf_of(server)) == ("127.0.0.1",)


THOUSAND = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]


def truncated_over_udp(query: Query) -> list[bytes]:
    return [query.reply(*query.addresses(*THOUSAND)) if query.over_tcp else query.reply(truncated=True)]


@pytest.mark.gen_test
async def test_a_truncated_answer_is_asked_for_again_over_tcp(name_server) -> None:  # RFC 7766 §5
    server = await name_server({NAME: truncated_over_udp})
    async with nothing_left_behind():
        found = await look_up(NAME, conf_of(server))
    assert sorted(found) == sorted(THOUSAND)
    assert [query.over_tcp for query in server.asked if query.type == A] == [False, True]


@pytest.mark.gen_test
async def test_tcp_from_the_start(name_server) -> None:
    server = await name_server({NAME: ["127.0.0.1"]})
    assert await look_up(NAME, conf_of(server, conf="options use-vc\n")) == ("127.0.0.1",)
    assert all(query.over_tcp for query in server.asked)


# ---- names


@pytest.mark.parametrize(
    ("name", "options", "asked"),
    [
        ("billing", "search one.test two.test\n", ["billing.one.test", "billing.two.test"]),
        (
            "billing.two",
            "search test\n",
            ["billing.two", "billing.two.test"],
        ),  # ndots:1: as given first
        ("billing.two", "search one.test test\noptions ndots:2\n", ["billing.two.one.test", "billing.two.test"]),
        ("billing.two.test.", "search one.test\noptions ndots:5\n", ["billing.two.test"]),  # absolute
        ("billing.two.test", "", ["billing.two.test"]),
        ("BILLING.two.test", "", ["BILLING.two.test"]),
    ],
)
@pytest.mark.gen_test
async def test_search_list_and_ndots(name_server, name, options, asked) -> None:
    server = await name_server({"billing.two.test": ["127.0.0.1"]})
    assert await look_up(name, conf_of(server, conf=options)) == ("127.0.0.1",)
    assert server.names() == asked


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("two..dots.test", id="an empty label"),
        pytest.param("x" * 64 + ".test", id="a label of 64 bytes"),
        pytest.param("x." * 130 + "test", id="more than 255 bytes"),
        pytest.param("b\u00fccher..test", id="not ASCII, and an empty label"),
    ],
)
@pytest.mark.gen_test
async def test_an_impossible_name_is_not_sent_to_any_server(name_server, name) -> None:
    server = await name_server({"*": ["127.0.0.1"]})
    async with nothing_left_behind():
        with pytest.raises(NameNotResolved):
            await look_up(name, conf_of(server))
    assert server.asked == []


# ---- failures


def in_circles(query: Query) -> list[bytes]:
    return [query.reply(record(NAME, CNAME, wire_name("alias.test")), record("alias.test", CNAME, wire_name(NAME)))]


@pytest.mark.parametrize(
    ("zone", "says"),
    [
        pytest.param({}, "not found", id="NXDOMAIN"),
        pytest.param({NAME: []}, "no data", id="no addresses"),
        pytest.param({NAME: SERVFAIL}, "could not contact|general failure", id="SERVFAIL"),
        pytest.param({NAME: REFUSED}, "could not contact|refused", id="REFUSED"),
        pytest.param({NAME: in_circles}, "no data", id="aliases that go round"),
    ],
)
@pytest.mark.gen_test
async def test_a_name_without_addresses(name_server, zone, says) -> None:
    server = await name_server(zone)
    async with nothing_left_behind():
        with pytest.raises(NameNotResolved, match=f"(?i){says}"):
            await look_up(NAME, conf_of(server, conf=QUICK))


@pytest.mark.gen_test
async def test_no_name_server_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with nothing_left_behind():
        with pytest.raises(ConnectFailed):
            await look_up(NAME, ResolvConf((f"127.0.0.1:{port}",), search=(), timeout=1, attempts=1))


@pytest.mark.gen_test
async def test_a_silent_name_server(name_server) -> None:
    server = await name_server({NAME: None})
    async with nothing_left_behind():
        with pytest.raises(NameTimeout):
            await look_up(NAME, conf_of(server, conf=QUICK), seconds=10.0)
    assert server.names() == [NAME]


@pytest.mark.gen_test
async def test_a_look_up_takes_no_longer_than_it_may(name_server) -> None:
    server = await name_server({NAME: None})
    async with nothing_left_behind():
        with pytest.raises(NameTimeout):
            await look_up(NAME, conf_of(server), seconds=0.1)


@pytest.mark.parametrize("first", [None, SERVFAIL, REFUSED], ids=["silent", "SERVFAIL", "REFUSED"])
@pytest.mark.gen_test
async def test_the_second_name_server_is_asked_when_the_first_fails(name_server, first) -> None:
    servers = [await name_server({NAME: first}), await name_server({NAME: ["127.0.0.1"]})]
    async with nothing_left_behind():
        assert await look_up(NAME, conf_of(*servers, conf=QUICK), seconds=10.0) == ("127.0.0.1",)
    assert servers[0].names() == servers[1].names() == [NAME]


def only_ipv4(query: Query) -> list[bytes]:
    return [query.reply(*query.addresses("127.0.0.1"))] if query.type == A else []


@pytest.mark.gen_test
async def test_one_family_that_is_never_answered_costs_one_timeout(name_server) -> None:
    server = await name_server(
        {NAME: lambda query: [query.reply(*query.addresses("127.0.0.1"))] if query.type == A else []}
    )
    assert await look_up(NAME, conf_of(server, conf=QUICK), seconds=10.0) == ("127.0.0.1",)


# ---- lies


def other_id(query: Query) -> bytes:
    return query.reply(*query.addresses("127.6.6.6"), id=bytes(each ^ 0xFF for each in query.id))


def other_name(query: Query) -> bytes:
    question = wire_name("other.test") + query.question[-4:]
    return query.reply(*query.addresses("127.6.6.6", of="other.test"), question=question)


def other_type(query: Query) -> bytes:
    return query.reply(record(NAME, A, b"\x7f\6\6\6"), question=query.question[:-4] + b"\0\x10\0\1")


def garbage(query: Query) -> bytes:
    return query.id + b"\x81\x80" + b"\xc0\x0c" * 40


def cut(query: Query) -> bytes:
    return query.reply(*query.addresses("127.6.6.6", "::666"))[:-3]


def pointer_to_itself(query: Query) -> bytes:
    return query.reply(b"\xc0" + bytes((12 + len(query.question),)) + b"\0\1\0\1\0\0\0\5\0\4\x7f\6\6\6")


LIES = [other_id, other_name, other_type, garbage, cut, pointer_to_itself]


@pytest.mark.parametrize("lie", LIES, ids=lambda each: each.__name__)
@pytest.mark.gen_test
async def test_a_lie_is_no_answer(name_server, lie) -> None:
    server = await name_server({NAME: lambda query: [lie(query)]})
    async with nothing_left_behind():
        with pytest.raises((NameNotResolved, NameTimeout)):
            await look_up(NAME, conf_of(server, conf=QUICK), seconds=10.0)


@pytest.mark.parametrize("lie", [other_id, other_name, other_type], ids=lambda each: each.__name__)
@pytest.mark.gen_test
async def test_a_forged_answer_does_not_keep_the_true_one_out(name_server, lie) -> None:  # RFC 5452 §9.1
    server = await name_server({NAME: lambda query: [lie(query), query.reply(*query.addresses("127.0.0.1"))]})
    assert await look_up(NAME, conf_of(server, conf=QUICK), seconds=10.0) == ("127.0.0.1",)


@pytest.mark.gen_test(timeout=50)
async def test_whatever_a_name_server_sends_a_look_up_ends(name_server) -> None:
    """400 answers with bytes that are changed, missing, added or repeated: each look-up ends in one of three ways."""
    rng = random.Random(9)

    def mutated(query: Query) -> list[bytes]:
        aliases = [record(query.name, CNAME, wire_name("alias.test"))]
        answer = bytearray(query.reply(*aliases, *query.addresses(*THOUSAND[:5], "::1", of="alias.test")))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(2, len(answer))
            change = [rng.randbytes(rng.randint(0, 3)), b"\xc0\x0c", b"\xff\xff", bytes(answer[place:])]
            answer[place : place + rng.randint(0, 3)] = rng.choice(change)
        return [bytes(answer)]

    server = await name_server({"*": mutated})
    conf = conf_of(server, conf=QUICK)
    async with nothing_left_behind():
        for start in range(0, 400, 50):
            lookups = [begin(f"name{start + number}.test", conf, seconds=0.5) for number in range(50)]
            await asyncio.wait([lookup.answer for lookup in lookups])
            for lookup in lookups:
                error = lookup.answer.exception()
                assert isinstance(error, NameNotResolved | NameTimeout) or all(map(is_address, lookup.answer.result()))


@pytest.mark.gen_test
async def test_queries_cannot_be_guessed(name_server) -> None:  # RFC 5452 §9.2: id and port at random
    server = await name_server({NAME: ["127.0.0.1"]})
    for _ in range(4):
        await look_up(NAME, conf_of(server))
    assert len({query.id for query in server.asked}) == len(server.asked)


# ---- what becomes of it


@pytest.mark.gen_test
async def test_a_look_up_that_is_given_up_leaves_nothing(name_server) -> None:
    server = await name_server({"*": None})
    before = descriptors()
    lookups = [begin(f"name{number}.test", conf_of(server)) for number in range(20)]
    await eventually(lambda: len(server.asked) == 40)
    assert descriptors() > before
    for lookup in lookups:
        lookup.close()
        lookup.close()
    assert descriptors() == before  # at once
    assert all(isinstance(lookup.answer.exception(), NameNotResolved) for lookup in lookups)


@pytest.mark.gen_test
async def test_a_look_up_over_tcp_that_is_given_up_leaves_nothing(name_server) -> None:
    server = await name_server({"*": lambda query: [] if query.over_tcp else [query.reply(truncated=True)]})
    lookup = begin(NAME, conf_of(server))
    await eventually(lambda: any(query.over_tcp for query in server.asked))
    lookup.close()
    assert not lookup._reading
    assert not lookup._writing
    await asyncio.wait([lookup.answer])


@pytest.mark.gen_test
async def test_an_answer_is_not_kept(name_server) -> None:
    server = await name_server({NAME: ["127.0.0.1"]})
    assert await look_up(NAME, conf_of(server)) == ("127.0.0.1",)
    server.zone[NAME] = ["127.0.0.2"]  # long before the TTL of an hour is over
    assert await look_up(NAME, conf_of(server)) == ("127.0.0.2",)


@pytest.mark.gen_test
async def test_a_hundred_look_ups_that_hang_hold_up_no_other(name_server) -> None:
    server = await name_server({"*": None, NAME: ["127.0.0.1"]})
    hanging = [begin(f"name{number}.test", conf_of(server), seconds=30.0) for number in range(100)]
    assert await look_up(NAME, conf_of(server)) == ("127.0.0.1",)
    assert not any(lookup.answer.done() for lookup in hanging)
    for lookup in hanging:
        lookup.close()


@pytest.mark.gen_test
async def test_every_channel_asks_the_servers_it_was_given(name_server) -> None:
    """Many at once: options read from freed memory would send some queries elsewhere."""
    server = await name_server({"*": ["127.0.0.1"]})
    lookups = [begin(f"name{number}.test", conf_of(server)) for number in range(50)]
    await asyncio.wait([lookup.answer for lookup in lookups])
    assert {lookup.answer.result() for lookup in lookups} == {("127.0.0.1",)}


# ---- records of type SRV

SRV = 33


def srv(query: Query, *records: tuple[int, int, int, str]) -> bytes:
    data = [b"".join(each.to_bytes(2, "big") for each in of[:3]) + wire_name(of[3]) for of in records]
    return query.reply(*[record(query.name, SRV, each) for each in data])


async def look_up_records(name: str, conf: ResolvConf) -> tuple[Record, ...]:
    lookup = RecordLookUp(asyncio.get_running_loop(), name, socket.AF_UNSPEC, conf, 5.0)
    await asyncio.wait([lookup.answer])
    lookup.answer.result()
    return lookup.records


@pytest.mark.gen_test
async def test_records_are_looked_up_with_the_search_list(name_server) -> None:
    several = (10, 3, 8080, "one.test"), (20, 0, 81, "two.test")
    server = await name_server({"_http._tcp.billing.test": lambda query: [srv(query, *several)]})
    async with nothing_left_behind():
        conf = parse_resolv_conf(f"{server.line}search test\n{QUICK}")
        assert sorted(await look_up_records("_http._tcp.billing", conf)) == [Record(*each) for each in several]


@pytest.mark.parametrize("answer", [REFUSED, SERVFAIL, lambda query: [srv(query)], ["127.0.0.1"]])
@pytest.mark.gen_test
async def test_an_answer_without_records_is_a_failure(name_server, answer) -> None:
    server = await name_server({NAME: answer})
    async with nothing_left_behind():
        with pytest.raises(NameNotResolved):
            await look_up_records(NAME, conf_of(server, conf=QUICK))
