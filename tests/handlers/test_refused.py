"""Requests that the route table refuses: what they get, and that they count."""

import json

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import ask, capture, only_line, problem
from tests.support.redis import StartRedis
from tests.support.sockets import get

ROUTES = json.dumps(
    [
        {"path": "/a/*", "service": "svc"},
        {"path": "/b/*", "service": "svc"},
        {"host": "own.example.com", "path": "/only/*", "service": "svc"},
    ]
)
MISLEADING = get(b"/a/../b/x")
ELSEWHERE = get(b"/x", host=b"own.example.com")


async def serving(serve: Serve, **variables: str) -> Running:
    return await serve({"svc": ["http://127.0.0.1:1"]}, ROUTES=ROUTES, **variables)


@pytest.mark.gen_test
async def test_a_refused_request_is_answered_and_the_connection_stays(serve: Serve) -> None:
    running = await serving(serve)
    client = await running.client()
    problem(await client.ask(MISLEADING), 400, "bad_request")
    problem(await client.ask(ELSEWHERE), 404, "not_found")
    problem(await client.ask(get(b"/x", method=b"POST", body=b"ab", host=b"own.example.com")), 404, "not_found")


@pytest.mark.gen_test
async def test_a_refused_request_is_logged_with_its_client(serve: Serve) -> None:
    running = await serving(serve, TRUSTED_PROXIES="127.0.0.1")
    lines = capture(running)
    await ask(running, get(b"/a/../b/x", b"X-Forwarded-For: 192.0.2.7"))
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["client"]) == (400, "bad_request", "192.0.2.7")


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.gen_test
async def test_refused_requests_count_as_any_other(serve: Serve, redis_server: StartRedis, store: str) -> None:
    url = redis_server().url if store == "redis" else "memory://"
    running = await serving(serve, RATE_LIMIT_MAX="2", RATE_LIMIT_STORE=url)
    client = await running.client()
    answers = [await client.ask(each) for each in (MISLEADING, ELSEWHERE, MISLEADING, get(b"/a/x"))]
    assert [each.status for each in answers] == [400, 404, 429, 429]
    assert [each.get(b"x-ratelimit-remaining") for each in answers[:2]] == [b"1", b"0"]
