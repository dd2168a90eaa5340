"""The addresses of names: from the hosts file, name servers and the cache; a failure leaves the cache unchanged."""

import asyncio

import pytest

from tests.support.name_servers import NXDOMAIN, SERVFAIL, Query, resolver_config
from tests.support.sockets import eventually
from tornado_gateway.errors import NameNotResolved, NameTimeout
from tornado_gateway.policy.upstream.hosts import Family
from tornado_gateway.wire.client import resolver as module
from tornado_gateway.wire.client.resolver import Resolver

NAME = "service.test"
QUICK = "search .\noptions timeout:1 attempts:1\n"
ONE, TWO = ("127.0.0.1",), ("127.0.0.2",)


@pytest.fixture
def resolve(io_loop, tmp_path):
    """Make resolvers: `resolve(server, ttl=0)`; all are closed after the test."""
    made: list[Resolver] = []

    def make(*servers, **config) -> Resolver:
        made.append(Resolver(resolver_config(tmp_path, *servers, **{"conf": QUICK, **config})))
        return made[-1]

    yield make
    for each in made:
        each.close()


# ---- where names are found


@pytest.mark.parametrize("name", ["localhost", "localhost.", "app.localhost", "App.LocalHost."])
@pytest.mark.parametrize(
    ("family", "found"),
    [
        (Family.AUTO, ("::1", "127.0.0.1")),
        (Family.IPV4, ("127.0.0.1",)),
        (Family.IPV6, ("::1",)),
    ],
)
@pytest.mark.gen_test
async def test_localhost_is_never_asked_for(name_server, resolve, name, family, found) -> None:  # RFC 6761 §6.3
    server = await name_server({"*": ["127.6.6.6", "::666"]})
    assert await resolve(server, family=family, conf="search one.test\noptions ndots:9\n").look_up(name) == found
    assert server.asked == []


@pytest.mark.parametrize("name", [NAME, NAME.upper(), f"{NAME}."])
@pytest.mark.gen_test
async def test_the_hosts_file_comes_first(name_server, resolve, name) -> None:
    server = await name_server({"*": ["127.6.6.6"]})
    resolver = resolve(server, hosts=f"127.0.0.1 {NAME}\n127.0.0.5 app.localhost\n")
    assert await resolver.look_up(name) == ONE
    assert await resolver.look_up("app.localhost") == ("127.0.0.5",)
    assert server.asked == []


@pytest.mark.gen_test
async def test_a_hosts_file_without_the_family_that_is_wanted(name_server, resolve) -> None:
    server = await name_server({NAME: ["::1"]})
    assert await resolve(server, hosts=f"127.0.0.1 {NAME}\n", family=Family.IPV6).look_up(NAME) == ("::1",)


@pytest.mark.gen_test
async def test_both_files_are_read_anew(name_server, resolve, tmp_path) -> None:
    first, second = await name_server({NAME: list(ONE)}), await name_server({NAME: list(TWO)})
    resolver = resolve(first)
    assert await resolver.look_up(NAME) == ONE
    resolver_config(tmp_path, second, conf=QUICK)
    assert await resolver.look_up(NAME) == TWO
    resolver_config(tmp_path, second, conf=QUICK, hosts=f"127.0.0.3 {NAME}\n")
    assert await resolver.look_up(NAME) == ("127.0.0.3",)


@pytest.mark.gen_test
async def test_files_that_are_not_there(name_server, resolve, tmp_path) -> None:
    resolver = resolve(hosts="")
    for name in ("hosts", "resolv.conf"):
        (tmp_path / name).unlink()
    assert await resolver.look_up("localhost") == ("::1", "127.0.0.1")


@pytest.mark.gen_test
async def test_the_environment_overrides_search_list_and_options(name_server, resolve, monkeypatch) -> None:
    server = await name_server({"billing.two.test": list(ONE)})
    monkeypatch.setenv("LOCALDOMAIN", "one.test test")
    monkeypatch.setenv("RES_OPTIONS", "ndots:2")
    assert await resolve(server).look_up("billing.two") == ONE
    assert server.names() == ["billing.two.one.test", "billing.two.test"]


# ---- memory


@pytest.mark.parametrize(("ttl", "asked"), [(30.0, 1), (0.0, 3)])
@pytest.mark.gen_test
async def test_addresses_are_kept_for_a_while(name_server, resolve, ttl, asked) -> None:
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server, ttl=ttl)
    for _ in range(3):
        assert await resolver.addresses(NAME, 1.0) == ONE
    assert len(server.names()) == asked


@pytest.mark.gen_test
async def test_look_up_asks_past_the_cache_and_renews_the_cache(name_server, resolve) -> None:
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server)
    assert await resolver.look_up(NAME) == ONE
    server.zone[NAME] = list(TWO)
    assert await resolver.look_up(NAME) == TWO
    assert await resolver.addresses(NAME, 1.0) == TWO
    assert len(server.names()) == 2


@pytest.mark.gen_test
async def test_a_forgotten_name_is_looked_up_again(name_server, resolve) -> None:
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server)
    await resolver.addresses(NAME, 1.0)
    resolver.forget("other.test")
    resolver.forget(NAME)
    server.zone[NAME] = list(TWO)
    assert await resolver.addresses(NAME, 1.0) == TWO


@pytest.mark.parametrize("failure", [{}, {NAME: SERVFAIL}, {NAME: []}, {NAME: None}], ids=str)
@pytest.mark.gen_test
async def test_known_addresses_outlive_a_look_up_that_fails(name_server, resolve, failure) -> None:
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server, ttl=0.0)
    assert await resolver.addresses(NAME, 9.0) == ONE
    server.zone = failure
    assert await resolver.addresses(NAME, 9.0) == ONE
    asked = len(server.asked)
    assert await resolver.addresses(NAME, 9.0) == ONE  # and not each connection asks again
    assert len(server.asked) == asked


@pytest.mark.gen_test
async def test_a_failure_is_looked_at_again(name_server, resolve, monkeypatch) -> None:  # RFC 8767 §5
    monkeypatch.setattr(module, "RECHECK", 0.02)
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server, ttl=0.0)
    await resolver.addresses(NAME, 1.0)
    server.zone[NAME] = SERVFAIL
    await resolver.addresses(NAME, 1.0)
    server.zone[NAME] = list(TWO)
    await asyncio.sleep(0.03)
    assert await resolver.addresses(NAME, 1.0) == TWO


@pytest.mark.gen_test
async def test_known_addresses_are_used_while_a_look_up_hangs(name_server, resolve) -> None:  # RFC 8767 §5
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server, ttl=0.0)
    await resolver.addresses(NAME, 9.0)
    server.zone[NAME] = list(TWO)
    server.gate.clear()
    for _ in range(3):
        assert await resolver.addresses(NAME, 0.05) == ONE
    assert len(server.names()) == 2  # one look-up, though three have waited for it
    server.gate.set()
    await eventually(lambda: not resolver._under_way)
    assert resolver._known[NAME].addresses == TWO  # what came of it is known, though nobody waited any more


@pytest.mark.parametrize(("zone", "error"), [({}, NameNotResolved), ({NAME: None}, NameTimeout)], ids=str)
@pytest.mark.gen_test
async def test_a_name_that_was_never_known(name_server, resolve, zone, error) -> None:
    server = await name_server(zone)
    with pytest.raises(error):
        await resolve(server).addresses(NAME, 0.05)


# ---- a single name server is asked once more


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(module, "RESEND", 0.05)


def lost(count: int, then: list[str]):
    """The first queries are lost."""
    seen = []

    def answer(query: Query) -> list[bytes]:
        seen.append(query)
        return [] if len(seen) <= count else [query.reply(*query.addresses(*then), rcode=0 if then else NXDOMAIN)]

    return answer


@pytest.mark.gen_test
async def test_a_datagram_that_is_lost_costs_no_long_wait(name_server, resolve, soon) -> None:
    server = await name_server({NAME: lost(2, list(ONE))})
    assert await resolve(server, conf="search .\n").look_up(NAME) == ONE
    assert server.names() == [NAME, NAME]


@pytest.mark.gen_test
async def test_a_name_that_is_found_not_to_exist_only_then(name_server, resolve, soon) -> None:
    server = await name_server({NAME: lost(2, [])})
    with pytest.raises(NameNotResolved):
        await resolve(server, conf="search .\n").look_up(NAME)


@pytest.mark.gen_test
async def test_a_slow_answer_updates_the_cache(name_server, resolve, soon) -> None:
    late = asyncio.Event()
    server = await name_server({NAME: list(ONE)})
    answers = server._answers

    async def slow(query: Query) -> list[bytes]:
        is_first = query.type not in {each.type for each in server.asked}
        found = await answers(query)
        await late.wait()
        return found if is_first else []

    server._answers = slow
    asking = asyncio.create_task(resolve(server, conf="search .\n").look_up(NAME))
    await eventually(lambda: len(server.asked) == 4)  # asked again, for A and AAAA
    late.set()
    assert await asking == ONE


@pytest.mark.gen_test
async def test_an_unanswered_second_look_up_ends_with_the_first(name_server, resolve, soon) -> None:
    server = await name_server({NAME: None})
    with pytest.raises(NameTimeout):
        await resolve(server, conf="search .\n", timeout=0.3).look_up(NAME)
    assert len(server.names()) == 2


@pytest.mark.parametrize("conf", ["options timeout:1 attempts:1\n", None], ids=["its own timeout", "several"])
@pytest.mark.gen_test
async def test_with_several_servers_no_second_look_up_begins(name_server, resolve, soon, conf) -> None:
    servers = [await name_server({NAME: None}) for _ in range(1 if conf else 2)]
    with pytest.raises(NameTimeout):
        await resolve(*servers, conf=f"search .\n{conf or ''}", timeout=0.3).look_up(NAME)
    assert [name for server in servers for name in server.names()] == [NAME]


# ---- at once


@pytest.mark.gen_test
async def test_concurrent_callers_share_a_look_up(name_server, resolve) -> None:
    server = await name_server({NAME: list(ONE)})
    resolver = resolve(server)
    server.gate.clear()
    waiting = [asyncio.create_task(resolver.look_up(NAME)) for _ in range(5)]
    waiting += [asyncio.create_task(resolver.addresses(NAME, 1.0)) for _ in range(5)]
    await eventually(lambda: server.asked)
    waiting.pop().cancel()
    await asyncio.sleep(0)
    server.gate.set()
    assert await asyncio.gather(*waiting) == [ONE] * 9
    assert len(server.names()) == 1


@pytest.mark.gen_test
async def test_a_hundred_names_that_hang_hold_up_no_other(name_server, resolve) -> None:
    server = await name_server({"*": None, NAME: list(ONE)})
    resolver = resolve(server, conf="search .\n")
    waiting = [asyncio.create_task(resolver.look_up(f"name{number}.test")) for number in range(100)]
    await eventually(lambda: len(server.names()) == 100)
    assert await resolver.look_up(NAME) == ONE
    assert not any(task.done() for task in waiting)
    resolver.close()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NameNotResolved)


@pytest.mark.gen_test
async def test_closing_ends_look_ups_without_callers(name_server, resolve) -> None:
    server = await name_server({"*": None})
    resolver = resolve(server)
    task = asyncio.create_task(resolver.look_up(NAME))
    await eventually(lambda: server.asked)
    task.cancel()
    resolver.close()
    await eventually(lambda: not resolver._under_way)
    resolver.close()
