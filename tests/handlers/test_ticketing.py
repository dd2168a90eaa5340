"""The use of a ticket: once, for what it was made, and unseen by services and logs."""

import json
import time

import pytest

from tests.conftest import Running, Serve
from tests.support.credentials import API_KEYS, api_key
from tests.support.journeys import Start, ask, capture, plays, problem
from tests.support.sockets import Peer, Upstream, echo, eventually, get
from tests.support.tickets import (
    AUTH,
    EVENTS,
    OWN_PAGE,
    PAGE,
    bearer,
    made,
    request,
    stream,
    tickets_of,
    token,
    used,
)
from tests.support.websockets import HANDSHAKE, accepting
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.principal import Principal
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.tickets.ticket import TTL, Ticket, digest

TEXT = b"t" * 32  # of a ticket that a test puts into the store
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def handshaking(peer: Peer) -> None:
    """An endpoint that accepts a WebSocket, and leaves at the client's first frame."""
    await peer.send(accepting(await peer.request()))
    await peer.more()


def put(running: Running, ticket: Ticket | bytes) -> bytes:
    """Keep a ticket under TEXT."""
    said = ticket if isinstance(ticket, bytes) else ticket.to_bytes()
    assert tickets_of(running).store.put(digest(TEXT), said, TTL, running.app.gateway.now()) is None
    return TEXT


def received(up: Upstream) -> str:
    message = up.requests[-1]
    return repr((message.start, message.fields))


# ---------------------------------------------------------------- once, and unseen


@pytest.mark.parametrize("path", [b"/sse/svc/x", b"/api/svc/x", b"/own/x"])
@pytest.mark.gen_test
async def test_a_ticket_opens_one_event_stream(serve: Serve, upstream: Start, path: bytes) -> None:
    up = upstream(echo)
    routes = json.dumps([{"path": "/own/*", "service": "svc", "strip": True}])
    running = await serve({"svc": [up.url]}, **AUTH, ROUTES=routes, AUTH_CLAIM_HEADERS="sub:X-User-Id")
    lines = capture(running)
    ticket = await made(running)
    answers = [await ask(running, stream(ticket, path=path)) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 401]
    assert answers[1].get(b"www-authenticate") == b'Bearer realm="gateway", error="invalid_token"'
    assert [each.target for each in up.requests] == [b"/x?a=1"]
    assert (b"X-User-Id", b"ada") in up.requests[0].fields
    assert ticket.decode() not in received(up) and token().decode() not in received(up)
    await eventually(lambda: len(lines()) == 3)
    assert ticket.decode() not in json.dumps(lines())


@pytest.mark.parametrize("path", [b"/ws/svc/x?", b"/ws/svc?path=/x&", b"/own/x?"])
@pytest.mark.gen_test
async def test_a_ticket_opens_one_websocket(serve: Serve, upstream: Start, path: bytes) -> None:
    up = upstream(handshaking)
    running = await serve({"svc": [up.url]}, **AUTH, ROUTES=json.dumps([{"path": "/own/*", "service": "svc"}]))
    ticket = await made(running)
    heads = []
    for _ in range(2):
        client = await running.client()
        await client.send(get(path + b"a=1&ticket=" + ticket, *HANDSHAKE))
        heads.append(await client.head())
        client.close()
    assert [head.status for head in heads] == [101, 401]
    assert [each.target.endswith(b"/x?a=1") for each in up.requests] == [True]
    assert ticket.decode() not in received(up)


@pytest.mark.gen_test
async def test_a_parameter_may_have_another_name(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **{**AUTH, "AUTH_TOKEN_SOURCES": "header,ticket:once"})
    ticket = await made(running)
    assert (await ask(running, get(b"/sse/svc/x?ticket=mine&once=" + ticket, EVENTS))).status == 200
    assert up.requests[-1].target == b"/x?ticket=mine"


@pytest.mark.parametrize("wrong", [b"", b"guess", b"a" * 32, b"a" * 5000, b"%00", b"\xff"])
@pytest.mark.gen_test
async def test_a_guess_is_refused(serve: Serve, upstream: Start, wrong: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH)
    ticket = await made(running)
    problem(await used(running, wrong), 401, "unauthorized")
    problem(await ask(running, get(b"/sse/svc/x?ticket=%b&ticket=%b" % (ticket, ticket), EVENTS)), 400, "bad_request")
    assert up.accepted == 0
    assert (await used(running, ticket)).status == 200


# ---------------------------------------------------------------- for streams alone

NO_STREAMS = {
    "a page": get(b"/api/svc/x?ticket=%b"),
    "any type": get(b"/sse/svc/x?ticket=%b", b"Accept: */*"),
    "two types": get(b"/sse/svc/x?ticket=%b", b"Accept: text/html, text/event-stream"),
    "a head": get(b"/sse/svc/x?ticket=%b", EVENTS, method=b"HEAD"),
    "a post": get(b"/api/svc/x?ticket=%b", EVENTS, method=b"POST"),
    "another upgrade": get(b"/api/svc/x?ticket=%b", b"Upgrade: h2c", b"Connection: Upgrade"),
    "figures": get(b"/admin/stats?ticket=%b"),
}


@pytest.mark.parametrize("request_", NO_STREAMS)
@pytest.mark.gen_test
async def test_a_ticket_is_for_streams_alone(serve: Serve, upstream: Start, request_: str) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH)
    ticket, sent = await made(running), NO_STREAMS[request_]
    assert (await ask(running, sent.replace(b"%b", ticket), sent.partition(b" ")[0])).status == 401
    assert up.accepted == 0
    assert (await used(running, ticket)).status == 200  # not spent


@pytest.mark.gen_test
async def test_a_request_with_a_token_does_not_show_its_ticket_to_a_service(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url], "open": {"endpoints": [up.url], "auth": "none"}}, **AUTH)
    ticket = await made(running)
    assert (await ask(running, get(b"/api/svc/x?ticket=%b&a=1" % ticket, bearer()))).status == 200
    assert (await ask(running, stream(ticket, path=b"/sse/open/x"))).status == 200
    assert [each.target for each in up.requests] == [b"/x?a=1"] * 2
    assert (await used(running, ticket)).status == 200  # neither request needed the ticket


@pytest.mark.gen_test
async def test_a_ticket_beside_a_token_is_refused_and_stays(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ticket = await made(running)
    problem(await used(running, ticket, bearer()), 401, "unauthorized")
    assert (await used(running, ticket)).status == 200


# ---------------------------------------------------------------- for what it was made


@pytest.mark.parametrize(
    ("made_by", "used_by", "status"),
    [
        (None, None, 200), (PAGE, PAGE, 200), (OWN_PAGE, OWN_PAGE, 200), (OWN_PAGE, None, 200),
        (None, PAGE, 401), (PAGE, None, 401), (PAGE, OWN_PAGE, 401), (PAGE, b"Origin: null", 401),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_ticket_is_for_the_page_that_made_it(
    serve: Serve, upstream: Start, made_by: bytes | None, used_by: bytes | None, status: int
) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ticket = await made(running, bearer(), *([made_by] if made_by else []))
    assert (await used(running, ticket, *([used_by] if used_by else []))).status == status
    assert (await used(running, ticket, *([made_by] if made_by else []))).status == 401  # spent in either case


@pytest.mark.gen_test
async def test_a_ticket_is_for_one_service(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url], "other": [up.url]}, **AUTH)
    for path in (b"/sse/other/x", b"/sse/none/x", b"/admin/stats"):
        ticket = await made(running)
        problem(await ask(running, stream(ticket, path=path)), 401, "unauthorized")
        problem(await used(running, ticket), 401, "unauthorized")
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_a_ticket_permits_what_its_token_permits(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": {"endpoints": [upstream(echo).url], "scopes": "read"}}, **AUTH)
    problem(await used(running, await made(running)), 403, "forbidden")
    assert (await used(running, await made(running, bearer(scope="read")))).status == 200


@pytest.mark.parametrize(
    ("rule", "kind", "status"),
    [("jwt", Kind.JWT, 200), ("key", Kind.KEY, 200), ("any", Kind.BASIC, 200), ("jwt", Kind.KEY, 401),
     ("key", Kind.JWT, 401), ("any", Kind.NOTHING, 401)],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_ticket_counts_as_the_kind_of_its_credential(
    serve: Serve, upstream: Start, rule: str, kind: Kind, status: int
) -> None:
    running = await serve({"svc": {"endpoints": [upstream(echo).url], "auth": rule}}, **AUTH, API_KEYS=API_KEYS)
    ticket = put(running, Ticket(Principal.of({"sub": "ada"}), kind, "svc"))
    assert (await used(running, ticket)).status == status


@pytest.mark.gen_test
async def test_a_key_is_exchanged_for_a_ticket_that_counts_as_a_key(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    services = {"svc": [up.url], "tokens": {"endpoints": [up.url], "auth": "jwt"}}
    variables = {**AUTH, "AUTH_TOKEN_SOURCES": "ticket", "API_KEYS": API_KEYS, "AUTH_CLAIM_HEADERS": "sub:X-User-Id"}
    running = await serve(services, **variables)
    assert (await used(running, await made(running, api_key()))).status == 200
    assert (b"X-User-Id", b"key:ci") in up.requests[0].fields
    ticket = await made(running, api_key(), service="tokens")
    assert (await ask(running, stream(ticket, path=b"/sse/tokens/x"))).status == 401
    problem(await used(running, await made(running, api_key()), api_key()), 401, "unauthorized")


# ---------------------------------------------------------------- in time


@pytest.mark.parametrize(("seconds", "status"), [(TTL - 5, 200), (TTL + 0.1, 401)])
@pytest.mark.gen_test
async def test_a_ticket_is_good_for_half_a_minute(serve: Serve, upstream: Start, seconds: float, status: int) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ticket = await made(running)
    object.__setattr__(running.app.gateway, "now", lambda: time.monotonic() + seconds)
    assert (await used(running, ticket)).status == status


@pytest.mark.gen_test
async def test_a_ticket_is_refused_once_its_token_has_expired(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, JWT_LEEWAY_S="600")
    ticket = put(running, Ticket(Principal.of({"sub": "ada", "exp": time.time() - 1}), Kind.JWT, "svc"))
    problem(await used(running, ticket), 401, "unauthorized")


@pytest.mark.gen_test
async def test_what_the_store_has_may_be_wrong(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    problem(await used(running, put(running, b'{"of": "another version"}')), 401, "unauthorized")


@pytest.mark.gen_test
async def test_an_event_stream_ends_with_the_token_of_its_ticket(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(plays(EVENT_STREAM)).url]}, **AUTH)
    ticket = await made(running, bearer(exp=int(time.time()) + 2))
    answer = await used(running, ticket)
    assert answer.body.endswith(b"event: gateway-close\ndata: token_expired\n\n")
    await eventually(lambda: not running.inflight)


@pytest.mark.gen_test
async def test_a_websocket_ends_with_the_token_of_its_ticket(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(handshaking).url]}, **AUTH)
    ticket = await made(running, bearer(exp=int(time.time()) + 2))
    client = await running.client()
    await client.send(get(b"/ws/svc/?ticket=" + ticket, *HANDSHAKE))
    assert (await client.head()).status == 101
    end = await client.until(b"token expired")
    assert end == b"\x88\x0f" + (4401).to_bytes(2, "big") + b"token expired"
    client.close()
    await eventually(lambda: not running.inflight)


# ---------------------------------------------------------------- a flood


@pytest.mark.gen_test
async def test_tickets_nobody_uses_are_forgotten(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    tickets = tickets_of(running)
    assert isinstance(tickets.memory, MemoryTickets)
    kept = [tickets.allowance, tickets.memory]
    for _ in range(10):
        await made(running)
    assert [len(each) for each in kept] == [10, 10]
    for sweeper in running.app.heartbeat._sweepers:
        if sweeper in kept:
            sweeper.sweep(time.monotonic() + TTL + 1)
    assert [len(each) for each in kept] == [0, 0]


@pytest.mark.gen_test
async def test_guesses_take_no_room_and_keep_nobody_out(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH)
    tickets, ticket, client = tickets_of(running), await made(running), await running.client()
    for number in range(20):
        guesses = [stream(b"%032d" % (50 * number + guess)) for guess in range(50)]
        logins = [request(b"Authorization: Bearer a.%d.c" % guess) for guess in range(50)]
        await client.send(b"".join([*guesses, *logins]))
        assert {(await client.response()).status for _ in range(100)} == {401}
    assert isinstance(tickets.memory, MemoryTickets)
    assert (len(tickets.allowance), len(tickets.memory), up.accepted) == (1, 1, 0)
    assert (await used(running, ticket)).status == 200


@pytest.mark.gen_test
async def test_guesses_count_under_the_limits_by_address(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, RATE_LIMITS="5/h")
    statuses = [(await used(running, b"a" * 31 + b"%d" % number)).status for number in range(8)]
    assert statuses == [401] * 5 + [429] * 3
