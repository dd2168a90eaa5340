"""The admission of requests: the order of the steps, and steps that wait."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable
from typing import Any

import jwt
import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import Client, Upstream, echo, eventually, get
from tests.support.websockets import HANDSHAKE
from tornado_gateway.errors import NotFound, Unauthorized
from tornado_gateway.handlers.admission import Admitted, admit
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.handlers.router import PAGES, PROXIED
from tornado_gateway.policy.access import ANY, Kind
from tornado_gateway.policy.http.credentials import Asked, Presented, TokenSources
from tornado_gateway.policy.principal import ANYBODY, Principal
from tornado_gateway.policy.revocations import By

SECRET = "s" * 32
TOKEN = b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, SECRET).encode()
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": SECRET}
ADA = Principal.of({"sub": "ada"})


# ---------------------------------------------------------------- the order


# Each request is wrong in all that follows the step that refuses it.
ORDER = {
    "method": (get(b"/sse/none/..", method=b"POST"), 405),
    "refused method": (get(b"/api/none/..", method=b"TRACE"), 405),
    "authentication": (get(b"/api/none/..", method=b"POST"), 401),
    "service": (get(b"/api/none/..", TOKEN), 404),
    "target": (get(b"/ws/svc/..", TOKEN, b"Via: 1.1 edge", *HANDSHAKE, b"Origin: https://evil.example"), 400),
    "origin": (get(b"/ws/svc/x", TOKEN, b"Via: 1.1 edge", *HANDSHAKE, b"Origin: https://evil.example"), 403),
    "loop": (get(b"/sse/svc/x", TOKEN, b"Via: 1.1 edge"), 508),
    "stream limit": (get(b"/sse/svc/x", TOKEN), 503),
    "page: method": (get(b"/admin/stats", method=b"POST"), 405),
    "page: authentication": (get(b"/admin/stats"), 401),
    "page: unknown": (get(b"/nothing"), 404),
}


@pytest.mark.parametrize("step", ORDER)
@pytest.mark.gen_test
async def test_the_first_step_that_refuses_answers(serve: Serve, step: str) -> None:
    request, status = ORDER[step]
    running = await serve(
        {"svc": ["http://127.0.0.1:1"]},
        **AUTH, MAX_STREAMS="1", SSE_UNAVAILABLE="status", VIA_NAME="edge", WS_ALLOWED_ORIGINS="https://good.example",
    )  # fmt: skip
    running.app.gateway.streams.counts.total = 1
    lines = capture(running)
    answer = await ask(running, request)
    assert answer.status == status
    line = await only_line(lines)
    assert (line["status"], line["service"]) == (status, "svc" if b"/svc" in request and status != 405 else "")
    assert running.app.gateway.streams.counts.total == 1


@pytest.mark.parametrize("route", [b"/api/", b"/sse/", b"/ws/"])
@pytest.mark.gen_test
async def test_without_a_token_known_and_unknown_services_answer_alike(serve: Serve, route: bytes) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    client = await running.client()
    answers = [await client.ask(get(route + name, b"x-request-id: same")) for name in (b"svc/x", b"none/x", b"")]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    problem(await ask(running, get(route + b"none/x", TOKEN)), 404, "unknown_service")


@pytest.mark.gen_test
async def test_where_no_token_is_needed_the_principal_is_anybody(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    journal = await held(running)
    public = next(route for route in PAGES if not route.needs_token)
    results: list[Admitted[None]] = []
    assert next(admit(running.app.gateway, public, journal, None, results.append), None) is None
    (admitted,) = results
    assert (admitted.found, admitted.principal) == (None, ANYBODY)
    assert journal.client is admitted.origination.client


@pytest.mark.gen_test
async def test_a_page_that_does_not_exist_is_told_last(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    journal = await held(running)
    with pytest.raises(Unauthorized):
        next(admit(running.app.gateway, PROXIED[0], journal, NotFound, pytest.fail))


async def held(running: Running) -> Journal:
    """A journal for a request for a page that has not come whole."""
    client = await running.client()
    await client.send(get(b"/healthz", b"Content-Length: 1"))
    await eventually(lambda: [each for each in running.app.server.connections if each._exchange])
    (connection,) = running.app.server.connections
    assert connection._exchange
    return Journal(running.app.gateway, connection._exchange, "/healthz")


# ---------------------------------------------------------------- repeated field lines


@pytest.mark.gen_test
async def test_repeated_lines_are_admitted_by_what_asks_for_the_credential(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    services = {
        "svc": [url],
        "keys": {"endpoints": [url], "auth": "key"},
        "scoped": {"endpoints": [url], "auth": "jwt", "scopes": ["write"]},
        "open": {"endpoints": [url], "auth": "none"},
    }
    running = await serve(services, API_KEYS=f"ci:{hashlib.sha256(b'key').hexdigest()}", **AUTH)
    client = await running.client()
    expected = {b"/api/svc/x": 200, b"/api/keys/x": 401, b"/api/scoped/x": 403, b"/api/open/x": 200, b"/admin/x": 404}
    for target, status in [*expected.items(), *reversed(expected.items())]:
        for _ in range(2):
            assert await status_of(client, get(target, TOKEN)) == status
    authenticator, (connection,) = running.app.gateway.authenticator, running.app.server.connections
    assert authenticator and authenticator.accepted == 12  # of svc, scoped and /admin
    assert connection._last_fields and connection._last_fields.note  # of svc, the last that has noted


@pytest.mark.gen_test
async def test_each_request_of_repeated_lines_is_verified(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    client, request, gateway = await running.client(), get(b"/api/svc/x", TOKEN), running.app.gateway
    assert [await status_of(client, request) for _ in range(3)] == [200] * 3
    assert await status_of(client, request.replace(TOKEN, TOKEN + b"A")) == 401
    assert [await status_of(client, request) for _ in range(2)] == [200] * 2
    statement = gateway.revocations.revoke(By.SUBJECT, "|ada", time.time(), 60.0)
    gateway.revocations.take(statement)
    assert await status_of(client, request) == 401
    gateway.revocations.take(gateway.revocations.lift(statement, time.time()))
    assert [await status_of(client, request) for _ in range(2)] == [200] * 2
    verifier = gateway.authenticator._verifier  # type: ignore[union-attr]
    verifier._own = ()
    verifier.use(())  # the key is not used any more
    assert await status_of(client, request) == 401


@pytest.mark.gen_test
async def test_a_token_in_the_query_is_read_beside_repeated_lines(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, AUTH_TOKEN_SOURCES="header,query", **AUTH)
    client = await running.client()
    for target, status in {b"/api/svc/x": 200, b"/api/svc/x?a": 200, b"/api/svc/x?access_token=other": 401}.items():
        assert await status_of(client, get(target, TOKEN)) == status


@pytest.mark.gen_test
async def test_an_origin_is_judged_beside_a_repeated_cookie(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, AUTH_TOKEN_SOURCES="cookie:sid", **AUTH)
    client, cookie = await running.client(), b"Cookie: sid=" + TOKEN.rpartition(b" ")[2]
    for method, status in {b"GET": 200, b"POST": 403}.items():
        assert await status_of(client, get(b"/api/svc/x", cookie, method=method)) == status


async def status_of(client: Client, request: bytes) -> int:
    await client.send(request)
    return (await client.response()).status


# ---------------------------------------------------------------- a step that waits


class Anywhere(TokenSources):
    """Finds a token in every request."""

    def find(self, asked: Asked, accepted: frozenset[Kind]) -> Presented:
        return Presented(Kind.JWT, b"token")


class Later:
    """An authenticator that answers later.

    Attributes:
        asked: futures with its answers.
    """

    default, claim_fields, accepted, edits_requests = ANY, None, 0, True

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Principal]] = []
        self.sources = Anywhere()

    def recall(self, token: bytes) -> None:
        return None

    def check(self, presented: Presented) -> Awaitable[Principal]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self._answer(self.asked[-1])

    async def _answer(self, future: asyncio.Future[Principal]) -> Principal:
        async with asyncio.timeout(5):  # which works in a task only, as clients of Redis do
            return await future


async def waiting(serve: Serve, upstream: Start, request: bytes) -> tuple[Running, Later, Client, Upstream]:
    """A gateway whose authenticator has been asked."""
    up, later = upstream(echo), Later()
    running = await serve({"svc": [up.url]}, **AUTH)
    object.__setattr__(running.app.gateway, "authenticator", later)
    client = await running.client()
    await client.send(request)
    await eventually(lambda: later.asked)
    return running, later, client, up


PATHS = [b"/api/svc/x", b"/admin/stats"]


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.gen_test
async def test_a_request_waits_for_its_admission(serve: Serve, upstream: Start, target: bytes) -> None:
    running, later, client, up = await waiting(serve, upstream, get(target) + get(target))
    assert (await ask(running, get(b"/healthz"))).status == 200  # what came before has been done
    assert (client.buffer, up.accepted, len(later.asked)) == (b"", 0, 1)
    for number in (0, 1):
        await eventually(lambda number=number: len(later.asked) > number)
        later.asked[number].set_result(ADA)
        assert (await client.response()).status == 200
    assert running.inflight == 0


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.gen_test
async def test_a_refusal_may_come_late(serve: Serve, upstream: Start, target: bytes) -> None:
    running, later, client, up = await waiting(serve, upstream, get(target))
    lines = capture(running)
    later.asked[0].set_exception(Unauthorized())
    problem(await client.response(), 401, "unauthorized")
    assert (await only_line(lines))["reason"] == "unauthorized"
    assert up.accepted == 0
    await client.send(get(b"/healthz"))
    assert (await client.response()).status == 200


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.gen_test
async def test_a_step_that_breaks_late_is_an_error_of_the_gateway(
    serve: Serve, upstream: Start, caplog: pytest.LogCaptureFixture, target: bytes
) -> None:
    running, later, client, up = await waiting(serve, upstream, get(target + b"?secret"))
    lines = capture(running)
    later.asked[0].set_exception(ConnectionError("the store is down"))
    problem(await client.response(), 500, "internal_error")
    assert (await only_line(lines))["status"] == 500
    assert "the store is down" in caplog.text
    assert "secret" not in caplog.text
    assert up.accepted == 0


@pytest.mark.parametrize("size", [3, 200_000])
@pytest.mark.gen_test
async def test_a_body_waits_with_its_head(serve: Serve, upstream: Start, size: int) -> None:
    body = b"a" * size
    _, later, client, up = await waiting(serve, upstream, get(b"/api/svc/x", method=b"POST", body=body[:3]))
    later.asked[0].set_result(ADA)
    assert (await client.response()).status == 200
    assert up.requests[0].body == body[:3]
    sending = asyncio.ensure_future(client.send(get(b"/api/svc/y", method=b"POST", body=body)))
    await eventually(lambda: len(later.asked) == 2)
    later.asked[1].set_result(ADA)
    await sending
    assert (await client.response()).status == 200
    assert up.requests[1].body == body


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.gen_test
async def test_a_client_that_leaves_meanwhile_is_not_forwarded(serve: Serve, upstream: Start, method: bytes) -> None:
    request = get(b"/api/svc/x", method=method, body=b"abc" if method == b"POST" else b"")
    running, later, client, up = await waiting(serve, upstream, request)
    lines = capture(running)
    client.reset()
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["attempts"]) == (499, "client_gone", 0)
    later.asked[0].set_result(ADA)
    assert (await ask(running, get(b"/healthz"))).status == 200  # what came before has been done
    assert (up.accepted, running.inflight, len(lines())) == (0, 0, 1)


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_page_is_recorded_so(serve: Serve, upstream: Start) -> None:
    running, later, client, _ = await waiting(serve, upstream, get(b"/admin/stats"))
    lines = capture(running)
    client.reset()
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (499, "client_gone")
    later.asked[0].set_result(ADA)
    assert (await ask(running, get(b"/healthz"))).status == 200  # what came before has been done
    assert len(lines()) == 1


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_a_late_refusal_gets_none(serve: Serve, upstream: Start) -> None:
    running, later, client, up = await waiting(serve, upstream, get(b"/api/svc/x"))
    lines = capture(running)
    client.reset()
    await only_line(lines)
    later.asked[0].set_exception(Unauthorized())
    assert (await ask(running, get(b"/healthz"))).status == 200  # what came before has been done
    assert (up.accepted, len(lines())) == (0, 1)


@pytest.mark.gen_test
async def test_a_gateway_that_stops_meanwhile_is_not_laid_to_the_client(serve: Serve, upstream: Start) -> None:
    running, later, _, up = await waiting(serve, upstream, get(b"/api/svc/x"))
    lines = capture(running)
    await running.app.close()
    line = await only_line(lines)
    assert (line["status"], line["reason"]) == (503, "draining")
    later.asked[0].set_result(ADA)
    await asyncio.sleep(0.01)
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_a_request_that_waits_for_nothing_makes_no_task(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    client = await running.client()
    assert (await client.ask(get(b"/api/svc/x", TOKEN))).status == 200  # the endpoint's connection is kept
    loop, tasks = asyncio.get_running_loop(), list[object]()

    def note(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> "asyncio.Task[Any]":
        tasks.append(coro)
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(note)
    try:
        for method in (b"GET", b"POST"):
            assert (await client.ask(get(b"/api/svc/x", TOKEN, method=method, body=b"abc"))).status == 200
        assert tasks == []
        assert (await client.ask(get(b"/admin/stats", TOKEN))).status == 200
        assert len(tasks) == 1  # Tornado's own, of every handler
    finally:
        loop.set_task_factory(None)
