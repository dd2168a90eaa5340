"""Tickets with a real redis-server: shared, good once, and never accepted while Redis is away."""

import asyncio
import logging

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, capture, plays, problem
from tests.support.redis import RedisServer, StartRedis
from tests.support.sockets import Upstream, echo, eventually, get
from tests.support.tickets import AUTH, EVENTS, PAGE, bearer, made, request, stream, tickets_of, used
from tornado_gateway.adapters.redis_connection import RedisConnection
from tornado_gateway.adapters.redis_tickets import PREFIX, RedisTickets
from tornado_gateway.errors import TicketsUnavailable
from tornado_gateway.policy.tickets.ticket import TTL, digest


def patient(running: Running) -> Running:
    """A gateway that waits for a slow machine."""
    for connection in running.app.gateway.redis.values():
        connection.timeout = 30.0
    return running


async def two_gateways(serve: Serve, server: RedisServer, up: Upstream, **variables: str) -> tuple[Running, Running]:
    env = {**AUTH, "REDIS_URL": server.url, **variables}
    return patient(await serve({"svc": [up.url]}, **env)), patient(await serve({"svc": [up.url]}, **env))


@pytest.mark.gen_test
async def test_a_ticket_of_one_gateway_is_good_once_at_another(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    up, server = upstream(echo), redis_server()
    one, other = await two_gateways(serve, server, up, AUTH_CLAIM_HEADERS="sub:X-User-Id")
    for first, second in ((one, other), (other, one)):
        ticket = await made(first, bearer(), PAGE)
        answers = [await used(each, ticket, PAGE) for each in (second, second, first)]
        assert [answer.status for answer in answers] == [200, 401, 401]
        assert (b"X-User-Id", b"ada") in up.requests[-1].fields
    assert len(up.requests) == 2
    ticket = await made(one, bearer(), PAGE)
    assert (await used(other, ticket)).status == 401  # of another page; spent
    assert (await used(one, ticket, PAGE)).status == 401


@pytest.mark.gen_test
async def test_a_revocation_at_one_gateway_ends_what_a_ticket_has_opened_at_another(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    one, other = await two_gateways(serve, redis_server(), upstream(plays(head)))
    first, second = [await made(one, bearer(jti="7")) for _ in range(2)]
    client = await other.client()
    await client.send(stream(first))
    assert (await client.head()).status == 200
    said = get(b"/admin/api/revocations", bearer(sub="root"), method=b"POST", body=b'{"jti": "7"}')
    assert (await ask(one, said)).status == 201
    await client.until(b"event: gateway-close\ndata: token_revoked\n\n")
    assert (await used(other, second)).status == 401
    client.close()


@pytest.mark.gen_test
async def test_of_a_hundred_uses_at_once_one_wins(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    up = upstream(echo)
    gateways = await two_gateways(serve, redis_server(), up)
    for _ in range(3):
        ticket, before = await made(gateways[0]), len(up.requests)
        clients = [await each.client() for each in gateways * 50]
        answers = await asyncio.gather(*[client.ask(stream(ticket)) for client in clients])
        assert sorted(answer.status for answer in answers) == [200] + [401] * 99
        assert len(up.requests) == before + 1
        for client in clients:
            client.close()


@pytest.mark.gen_test
async def test_redis_has_digests_for_half_a_minute(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    server = redis_server()
    one, _ = await two_gateways(serve, server, upstream(echo))
    ticket = await made(one)
    name = f"{PREFIX}{digest(ticket)}"
    assert server.command("KEYS", "*ticket*") == name
    assert 0 < int(server.command("PTTL", name)) <= TTL * 1000
    assert ticket.decode() not in server.command("GET", name)
    assert (await used(one, ticket)).status == 200
    assert server.command("KEYS", "*ticket*") == ""


@pytest.mark.gen_test
async def test_redis_is_not_asked_for_what_no_ticket_can_be(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    one, _ = await two_gateways(serve, server, upstream(echo))
    for guess in (b"", b"a" * 31, b"a" * 33, b"a" * 5000, b"a" * 31 + b"*", b"a" * 31 + b"%0a"):
        assert (await used(one, guess)).status == 401
    assert "getdel" not in server.command("INFO", "commandstats")
    assert (await used(one, b"a" * 32)).status == 401
    assert "cmdstat_getdel:calls=1," in server.command("INFO", "commandstats")


@pytest.mark.gen_test
async def test_while_redis_is_away_no_ticket_is_made_and_none_is_accepted(
    serve: Serve, upstream: Start, redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    up, server = upstream(echo), redis_server()
    one, other = await two_gateways(serve, server, up, SSE_UNAVAILABLE="status")
    ticket = await made(one)
    server.stop()
    for _ in range(3):
        problem(await ask(one, request(bearer())), 503, "overloaded")
        problem(await used(other, ticket), 503, "overloaded")
    assert up.accepted == 0
    assert "no one-time ticket is made or accepted" in caplog.text
    server.start()
    for running in (one, other):
        (connection,) = running.app.gateway.redis.values()
        await eventually(lambda connection=connection: connection.is_up, 30)
    assert (await used(other, ticket)).status == 401  # Redis has no memory of the ticket
    assert (await used(other, await made(one))).status == 200
    assert ticket.decode() not in caplog.text


@pytest.mark.gen_test
async def test_a_redis_that_hangs_accepts_nothing(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    up, server = upstream(echo), redis_server()
    one, other = await two_gateways(serve, server, up, SSE_UNAVAILABLE="status")
    ticket = await made(one)
    server.freeze()
    (connection,) = other.app.gateway.redis.values()
    connection.timeout = 0.05
    problem(await used(other, ticket), 503, "overloaded")
    assert up.accepted == 0
    server.thaw()


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_redis_hangs_leaves_nothing_behind(
    serve: Serve, upstream: Start, redis_server: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    up, server = upstream(echo), redis_server()
    one, _ = await two_gateways(serve, server, up)
    ticket, lines, store = await made(one), capture(one), tickets_of(one).store
    assert isinstance(store, RedisTickets)
    server.freeze()
    clients = [await one.client() for _ in range(2)]
    for client, sent in zip(clients, (request(bearer()), stream(ticket)), strict=True):
        await client.send(sent)
    await eventually(lambda: store._waiting == 2)
    for client in clients:
        client.reset()
    await eventually(lambda: len(lines()) == 2)
    assert {(line["status"], line["reason"]) for line in lines()} == {(499, "client_gone")}
    server.thaw()
    await eventually(lambda: store._waiting == 0)
    assert (await used(one, ticket)).status == 401  # spent
    assert (await used(one, await made(one))).status == 200
    assert (len(up.requests), caplog.text) == (1, "")


@pytest.mark.gen_test
async def test_an_event_source_comes_back_while_redis_is_away(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    one, _ = await two_gateways(serve, server, upstream(echo))
    ticket = await made(one)
    server.stop()
    answer = await used(one, ticket)
    assert (answer.status, answer.get(b"content-type")) == (200, EVENTS.partition(b" ")[2])
    assert answer.body.startswith(b"retry:")


@pytest.mark.gen_test
async def test_a_flood_of_guesses_does_not_keep_redis_from_others(redis_server: StartRedis) -> None:
    connection = RedisConnection(redis_server().url)
    connection.timeout = 30.0
    store = RedisTickets(connection, most_waiting=5)
    await store.put("a", b"ada", TTL, 0.0)
    taken = await asyncio.gather(*[store.take("b", 0.0) for _ in range(20)], return_exceptions=True)
    assert [each is None for each in taken].count(True) == 5
    assert [type(each) for each in taken].count(TicketsUnavailable) == 15
    assert connection.is_up
    assert await store.take("a", 0.0) == b"ada"
    await connection.close()
