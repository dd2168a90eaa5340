"""Which stored responses a request finds, and that what is remembered of a request finds none for another."""

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, ask, frozen, status_of
from tests.support.endpoints import REFUSING
from tests.support.journeys import Start
from tests.support.sockets import Message, get, reply

KEY = "k" * 32


@pytest.mark.parametrize("source", ["header:X-Token", "query:token", "cookie:token"])
@pytest.mark.gen_test
async def test_a_token_is_a_credential_wherever_it_stands(serve: Serve, upstream: Start, source: str) -> None:
    running = await frozen(
        serve,
        {"svc": {"endpoints": [upstream(Origin(FRESH)).url], "auth": "none"}, "other": [REFUSING]},
        AUTH_REQUIRED="true", JWT_SECRET=KEY, AUTH_TOKEN_SOURCES=source, **ON,
    )  # fmt: skip
    lines = {"header:X-Token": [b"X-Token: abc"], "cookie:token": [b"Cookie: token=abc"]}.get(source, [])
    path = PATH + b"?token=abc" if source.startswith("query") else PATH
    bodies = [(await ask(running, *lines, path=path)).body for _ in range(2)]
    assert bodies == [b"answer 1", b"answer 2"]


@pytest.mark.parametrize(
    "request_",
    [
        get(PATH, body=b"fat"),
        get(PATH, b"X-HTTP-Method-Override: DELETE"),
        get(PATH, b'If-Match: "1"'),
        get(PATH, b"Accept: text/event-stream"),
        get(PATH, method=b"OPTIONS"),
    ],
    ids=["body", "override", "if-match", "event stream", "OPTIONS"],
)
@pytest.mark.gen_test
async def test_requests_that_only_an_endpoint_can_answer_do_not_look(
    serve: Serve, upstream: Start, request_: bytes
) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    await ask(running)
    answer = await (await running.client()).ask(request_)
    assert (answer.body, answer.get(b"cache-status")) == (b"answer 2", None)


@pytest.mark.gen_test
async def test_what_an_endpoint_sees_of_the_origin_keeps_answers_apart(serve: Serve, upstream: Start) -> None:
    up = upstream(Each(lambda request, _: reply(fields=(FRESH,), body=request.get(b"x-forwarded-host") or b"")))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    for host in (b"good.example", b"evil.example", b"good.example"):
        assert (await ask(running, host=host)).body == host
    for claim in (b"X-Forwarded-Host: evil.example", b"X-Original-URL: /evil", b"X-Forwarded-Proto: https"):
        assert (await ask(running, claim, host=b"good.example")).body == b"good.example"
    assert len(up.requests) == 2


@pytest.mark.gen_test
async def test_hosts_share_answers_if_the_service_says_so(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": {"endpoints": [upstream(Origin(FRESH)).url], "cacheIgnoreHost": True}}, **ON)
    assert [(await ask(running, host=each)).body for each in (b"a", b"b")] == [b"answer 1", b"answer 1"]


@pytest.mark.gen_test
async def test_the_query_and_the_fields_of_the_key_are_the_services(serve: Serve, upstream: Start) -> None:
    own = {"cacheIgnoreQuery": "utm", "cacheSortQuery": True, "cacheKeyHeaders": ["X-Tenant"]}
    running = await frozen(serve, {"svc": {"endpoints": [upstream(Origin(FRESH)).url], **own}}, **ON)
    targets = [b"?a=1&b=2", b"?b=2&a=1", b"?utm=9&b=2&a=1", b"?a=1"]
    bodies = [(await ask(running, path=PATH + each)).body for each in targets]
    assert bodies == [b"answer 1", b"answer 1", b"answer 1", b"answer 2"]
    assert (await ask(running, b"X-Tenant: t", path=PATH + b"?a=1")).body == b"answer 3"


@pytest.mark.gen_test
async def test_equal_fields_on_one_connection_keep_hosts_and_services_apart(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, _: int) -> bytes:
        return reply(fields=(FRESH,), body=request.target + b" " + (request.get(b"x-forwarded-host") or b""))

    up, other = upstream(Each(answer)), upstream(Each(lambda *_: reply(fields=(FRESH,), body=b"other")))
    running = await frozen(serve, {"svc": [up.url], "other": [other.url]}, **ON)
    client = await running.client()
    for status in (b"fwd=uri-miss; stored", b"hit; ttl=60"):
        for target, body in (
            (b"/api/svc/x", b"/x localhost"),
            (b"http://evil.example/api/svc/x", b"/x evil.example"),
            (b"/api/other/x", b"other"),
            (b"/api/svc/y", b"/y localhost"),
        ):
            got = await client.ask(get(target, host=b"localhost"))
            assert (got.status, got.body, status_of(got)) == (200, body, status)


@pytest.mark.gen_test
async def test_equal_fields_on_one_connection_tell_a_credential_in_the_target(serve: Serve, upstream: Start) -> None:
    running = await frozen(
        serve, {"svc": {"endpoints": [upstream(Origin(FRESH)).url], "auth": "none"}, "other": [REFUSING]},
        AUTH_REQUIRED="true", JWT_SECRET=KEY, AUTH_TOKEN_SOURCES="query:token", **ON,
    )  # fmt: skip
    client = await running.client()
    said = [status_of(await client.ask(get(PATH + each))) for each in (b"?a", b"?token=abc", b"?token=abc", b"?a")]
    assert said == [b"fwd=uri-miss; stored", b"fwd=uri-miss", b"fwd=uri-miss", b"hit; ttl=60"]


@pytest.mark.gen_test
async def test_equal_fields_on_one_connection_select_by_the_vary_of_each_answer(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, number: int) -> bytes:
        vary = request.target.rpartition(b"/")[2]
        return reply(fields=(FRESH, b"Vary: " + vary), body=request.get(vary) or b"")

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    client = await running.client()
    for status in (b"fwd=uri-miss; stored", b"hit; ttl=60"):
        for vary in (b"accept-language", b"x-own"):
            got = await client.ask(get(b"/api/svc/" + vary, b"Accept-Language: de", b"X-Own: a"))
            assert (got.body, status_of(got)) == ({b"x-own": b"a"}.get(vary, b"de"), status)
    for own in (b"b", b"a"):
        got = await client.ask(get(b"/api/svc/x-own", b"Accept-Language: de", b"X-Own: " + own))
        assert got.body == own
