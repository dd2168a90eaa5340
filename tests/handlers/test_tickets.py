"""POST /auth/ticket: who gets a ticket, and how many."""

import json
import time
from dataclasses import replace

import jwt
import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import echo, eventually, get
from tests.support.tickets import AUTH, KEY, OWN_PAGE, PAGE, bearer, made, request, tickets_of, token, used
from tornado_gateway.policy.tickets.allowance import Allowance
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.tickets.ticket import MAX_REQUEST

NOWHERE = ["http://127.0.0.1:1"]


@pytest.mark.gen_test
async def test_a_client_with_a_token_gets_a_ticket(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    lines = capture(running)
    answer = await ask(running, request(bearer()))
    said = json.loads(answer.body)
    assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
    assert answer.get(b"cache-control") == b"no-store"
    assert set(said) == {"ticket", "expiresInMs"}
    assert (len(said["ticket"]), said["expiresInMs"]) == (32, 30_000)
    line = await only_line(lines)
    assert (line["method"], line["path"], line["service"], line["status"]) == ("POST", "/auth/ticket", "svc", 200)
    assert said["ticket"] not in json.dumps(line)
    assert len({await made(running) for _ in range(10)} | {said["ticket"].encode()}) == 11


@pytest.mark.parametrize("required", ["true", "false"])
@pytest.mark.gen_test
async def test_without_a_token_no_client_learns_what_exists(serve: Serve, required: str) -> None:
    services = {"svc": NOWHERE, "guarded": {"endpoints": NOWHERE, "auth": "jwt"}}
    running = await serve(services, **{**AUTH, "AUTH_REQUIRED": required})
    same = b"x-request-id: same"
    answers = [await ask(running, request(same, service=name)) for name in ("svc", "guarded", "none", "")]
    answers += [await ask(running, get(b"/auth/ticket", same, method=b"POST", body=b"wrong"))]
    answers += [await ask(running, request(same, b"Authorization: Bearer wrong"))]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers[:-1]}) == 1
    for name in ("none", "", "é", "\ud800", "svc/x", "x" * 900):
        problem(await ask(running, request(bearer(), service=name)), 404, "unknown_service")


@pytest.mark.parametrize("body", [b"", b"service=svc", b'{"service":"svc","scope":"all"}', b" " * (MAX_REQUEST + 1)])
@pytest.mark.gen_test
async def test_a_wrong_body_is_told(serve: Serve, body: bytes) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    answer = await ask(running, get(b"/auth/ticket", bearer(), method=b"POST", body=body))
    assert "the body must be JSON such as" in problem(answer, 400, "bad_request")["message"]
    assert len(tickets_of(running).allowance) == 0


@pytest.mark.gen_test
async def test_without_tickets_there_is_no_page(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    assert (await ask(running, request())).status == 401
    problem(await ask(running, request(bearer())), 404, "not_found")
    running = await serve({"svc": NOWHERE})
    problem(await ask(running, request()), 404, "not_found")


@pytest.mark.gen_test
async def test_the_page_has_one_method(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    for method in (b"GET", b"HEAD", b"PUT"):
        answer = await ask(running, get(b"/auth/ticket", bearer(), method=method), method)
        assert (answer.status, answer.get(b"allow")) == (405, b"POST, OPTIONS")
    assert (await ask(running, get(b"/auth/ticket", method=b"OPTIONS"))).status == 204


@pytest.mark.gen_test
async def test_a_ticket_does_not_outlive_its_token(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH, JWT_LEEWAY_S="600")
    now = int(time.time())
    answer = await ask(running, request(bearer(exp=now + 20)))
    assert 0 < json.loads(answer.body)["expiresInMs"] <= 20_000
    problem(await ask(running, request(bearer(exp=now - 5))), 401, "unauthorized")
    assert (await ask(running, get(b"/admin/stats", bearer(exp=now - 5)))).status == 200  # by the leeway


@pytest.mark.gen_test
async def test_claims_beyond_the_size_of_a_ticket_are_told(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    claims = json.dumps({"a": "é" * 2800}, ensure_ascii=False)  # 2 bytes each in the token, 6 in a ticket
    large = jwt.PyJWS().encode(claims.encode(), KEY, "HS256")
    answer = await ask(running, request(b"Authorization: Bearer " + large.encode()))
    assert "too large" in problem(answer, 400, "bad_request")["message"]


@pytest.mark.gen_test
async def test_a_principal_gets_so_many_tickets_and_others_get_theirs(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    tickets = replace(tickets_of(running), allowance=Allowance(of_principal=3))
    object.__setattr__(running.app.gateway, "tickets", tickets)
    lines = capture(running)
    statuses = [(await ask(running, request(bearer(jti=str(number))))).status for number in range(4)]
    assert statuses == [200, 200, 200, 429]
    answer = await ask(running, request(bearer()))
    problem(answer, 429, "rate_limited")
    assert answer.get(b"retry-after") == b"5"
    assert (await ask(running, request(bearer(sub="eve")))).status == 200
    await eventually(lambda: len(lines()) == 6)
    assert [line["reason"] for line in lines() if line["status"] == 429] == ["ticket_limit"] * 2


@pytest.mark.gen_test
async def test_a_full_store_makes_no_ticket(serve: Serve) -> None:
    running = await serve({"svc": NOWHERE}, **AUTH)
    tickets = replace(tickets_of(running), store=MemoryTickets(max_tickets=1))
    object.__setattr__(running.app.gateway, "tickets", tickets)
    await made(running)
    answer = await ask(running, request(bearer()))
    problem(answer, 503, "overloaded")
    assert answer.get(b"retry-after") == b"30"


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 403), (b"Origin: https://evil.example", 403), (b"Origin: null", 403), (OWN_PAGE, 200), (PAGE, 200)],
)
@pytest.mark.gen_test
async def test_a_page_with_the_tokens_cookie_must_be_known(serve: Serve, origin: bytes | None, status: int) -> None:
    variables = {**AUTH, "AUTH_TOKEN_SOURCES": "cookie:sid,ticket", "WS_ALLOWED_ORIGINS": "https://app.example"}
    running = await serve({"svc": NOWHERE}, **variables)
    fields = [b"Cookie: sid=" + token(), *([origin] if origin else [])]
    assert (await ask(running, request(*fields))).status == status


@pytest.mark.gen_test
async def test_no_ticket_gets_another_ticket(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ticket = await made(running)
    for lines in ((), (b"Accept: text/event-stream",)):
        answer = await ask(running, request(*lines, target=b"/auth/ticket?ticket=" + ticket))
        problem(answer, 401, "unauthorized")
    assert (await used(running, ticket)).status == 200


@pytest.mark.gen_test
async def test_a_host_with_routes_of_its_own_may_keep_the_page(serve: Serve) -> None:
    routes = json.dumps([{"host": host, "path": "/*", "service": "svc"} for host in ("a.test", "b.test")])
    running = await serve({"svc": NOWHERE}, **AUTH, ROUTES=routes, GATEWAY_HOSTS="a.test")
    assert (await ask(running, request(bearer(), host=b"a.test"))).status == 200
    assert (await ask(running, request(bearer(), host=b"b.test"))).status == 502  # the service's own path


@pytest.mark.gen_test
async def test_requests_for_tickets_count_under_the_limits_of_the_service(serve: Serve) -> None:
    services = {"svc": {"endpoints": NOWHERE, "rateLimits": "2/h"}, "free": NOWHERE}
    running = await serve(services, **AUTH)
    statuses = [(await ask(running, request(bearer()))).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert [(await ask(running, request(service="svc"))).status for _ in range(2)] == [429, 429]  # guesses, too
    assert (await ask(running, request(bearer(), service="free"))).status == 200
