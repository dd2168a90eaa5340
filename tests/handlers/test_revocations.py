"""Revocations on real sockets: who is refused, which streams end, and what operators are told."""

import asyncio
import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Running, Serve
from tests.support.credentials import API_KEYS, api_key
from tests.support.endpoints import always
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.operators import ORIGIN, form, log_in
from tests.support.redis import RedisServer, StartRedis
from tests.support.reloading import Reloading
from tests.support.sockets import PATIENCE, Message, Peer, echo, eventually, get, reply
from tests.support.tickets import made as made_ticket
from tests.support.tickets import used
from tests.support.websockets import accepting
from tornado_gateway.handlers.revocations import LONGEST_VALUE, read_order
from tornado_gateway.policy import revocations as policy
from tornado_gateway.policy.revocations import DEFAULT_LIFE, LONGEST_LIFE, By

KEY = "k" * 32
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
PAGE = b"/admin/api/revocations"
PATH = b"/api/svc/x"


def token(sub: str = "ada", **claims: Any) -> bytes:
    return jwt.encode({"iss": "id", "sub": sub, **claims}, KEY).encode()


def bearer(sub: str = "ada", **claims: Any) -> bytes:
    return b"Authorization: Bearer " + token(sub, **claims)


OPERATOR = bearer("root")


async def post(running: Running, *fields: bytes, **said: object) -> Message:
    body = json.dumps(said).encode()
    return await ask(running, get(PAGE, *(fields or (OPERATOR,)), method=b"POST", body=body), b"POST")


async def revoke(running: Running, **said: object) -> dict[str, Any]:
    answer = await post(running, **said)
    assert answer.status == 201
    result: dict[str, Any] = json.loads(answer.body)
    return result


async def listed(running: Running) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((await ask(running, get(PAGE, OPERATOR))).body)
    return result


async def status(running: Running, *fields: bytes, path: bytes = PATH) -> int:
    return (await ask(running, get(path, *fields))).status


# ---------------------------------------------------------------- requests


@pytest.mark.gen_test
async def test_a_revoked_subject_is_refused_and_nobody_else(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, AUTH_TOKEN_SOURCES="header,cookie:sid,query")
    now = int(time.time())
    old = (bearer(), bearer(jti="7"), bearer(iat=now - 5), bearer(iat=now - 5, exp=now + 900))
    assert [await status(running, each) for each in old] == [200] * 4  # the verdicts are cached
    made = await revoke(running, subject="id|ada")
    assert (made["subject"], made["shared"]) == ("id|ada", False)
    assert [await status(running, each) for each in old] == [401] * 4
    assert await status(running, b"Cookie: sid=" + token()) == 401
    assert await status(running, path=PATH + b"?access_token=" + token()) == 401
    for other in (bearer("eve"), bearer("ada", iss="other"), bearer("ada "), bearer(sub="id|ada"), OPERATOR):
        assert await status(running, other) == 200
    assert await status(running, b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, KEY).encode()) == 200


@pytest.mark.gen_test
async def test_a_principal_may_come_back_with_a_newer_token(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, JWT_LEEWAY_S="30")
    made = await revoke(running, subject="id|ada")
    at = made["revokedAtMs"] // 1000
    ahead = [bearer(iat=at + seconds) for seconds in (-5, 0, 25)]
    assert [await status(running, each) for each in ahead] == [401] * 3  # clocks may differ by the leeway
    await eventually(lambda: time.time() > at + 2)
    running.app.gateway.revocations.leeway = 0.0
    assert await status(running, bearer(iat=at + 1)) == 200


@pytest.mark.gen_test
async def test_the_answer_does_not_say_that_a_token_is_revoked(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    await revoke(running, jti="7")
    lines = capture(running)
    revoked = await ask(running, get(PATH, bearer(jti="7")))
    assert (await only_line(lines))["reason"] == "token_revoked"
    wrong = await ask(running, get(PATH, bearer(exp=1)))
    assert problem(revoked, 401, "unauthorized")["message"] == problem(wrong, 401, "unauthorized")["message"]
    assert revoked.get(b"www-authenticate") == wrong.get(b"www-authenticate")


@pytest.mark.gen_test
async def test_a_revoked_jti_is_refused_however_the_token_is_spelled(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    spaced = jwt.api_jws.encode(b'{ "jti" : "\\u0061\\u0062" , "sub":"x" }', KEY).encode()
    spelled = [bearer(jti="ab"), bearer("eve", jti="ab"), b"Authorization:  bearer   " + spaced]
    assert [await status(running, each) for each in spelled] == [200] * 3
    await revoke(running, jti="ab")
    assert [await status(running, each) for each in spelled] == [401] * 3
    padded = b"Authorization: Bearer " + token(jti="ab") + b"="
    assert await status(running, padded) == 401
    others = [bearer(jti=each) for each in ("ab ", "AB", "a", "abc", "a\u0301b")]
    assert [await status(running, each) for each in [*others, bearer()]] == [200] * 6


@pytest.mark.gen_test
async def test_a_revoked_key_is_refused_like_an_unknown_key(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, API_KEYS=API_KEYS)
    assert await status(running, api_key()) == 200
    await revoke(running, subject="key:ci")
    revoked, unknown = [await ask(running, get(PATH, each)) for each in (api_key(), api_key("x" * 30))]
    assert (revoked.status, unknown.status) == (401, 401)
    assert revoked.all(b"www-authenticate") == unknown.all(b"www-authenticate")
    messages = {problem(each, 401, "unauthorized")["message"] for each in (revoked, unknown)}
    assert len(messages) == 1
    for name in ("|ci", "id|key:ci", "id|ci"):
        issuer, _, sub = name.rpartition("|")
        assert await status(running, bearer(sub, iss=issuer)) == 200


@pytest.mark.parametrize("said", [{"subject": "id|ada"}, {"jti": "7"}])
@pytest.mark.gen_test
async def test_the_tickets_of_a_revoked_token_are_revoked(serve: Serve, upstream: Start, said: dict[str, str]) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, AUTH_TOKEN_SOURCES="header,ticket")
    mine, other = [await made_ticket(running, bearer(sub, jti=jti)) for sub, jti in (("ada", "7"), ("eve", "8"))]
    await revoke(running, **said)
    assert [(await used(running, each)).status for each in (mine, other)] == [401, 200]


@pytest.mark.gen_test
async def test_a_revocation_ends_by_itself_or_is_lifted(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    made = await revoke(running, jti="7", expiresInMs=300_000)
    assert made["expiresAtMs"] - made["revokedAtMs"] == 300_000
    target = PAGE + b"/" + made["id"].encode()
    assert await status(running, bearer(jti="7")) == 401
    lifted = await ask(running, get(target, OPERATOR, method=b"DELETE"), b"DELETE")
    assert (lifted.status, json.loads(lifted.body)["jti"]) == (200, "7")
    assert await status(running, bearer(jti="7")) == 200
    problem(await ask(running, get(target, OPERATOR, method=b"DELETE"), b"DELETE"), 404, "not_found")
    await revoke(running, jti="7", expiresInMs=1)
    while await status(running, bearer(jti="7")) != 200:
        await asyncio.sleep(0.01)
    await eventually(lambda: running.app.gateway.revocations.count == 0)  # a sweep forgets


# ---------------------------------------------------------------- the page


@pytest.mark.gen_test
async def test_the_list_has_the_latest_first(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    assert await listed(running) == {"total": 0, "revocations": []}
    made = [await revoke(running, subject=name) for name in ("id|ada", "id|eve")]
    for each in made:
        del each["shared"]
    assert await listed(running) == {"total": 2, "revocations": made[::-1]}


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
@pytest.mark.gen_test
async def test_the_pages_need_a_valid_token(serve: Serve, method: bytes) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    path = PAGE + (b"/0" if method == b"DELETE" else b"")
    body = b'{"jti": "7"}' if method == b"POST" else b""
    for fields in ((), (bearer(exp=1),)):
        problem(await ask(running, get(path, *fields, method=method, body=body), method), 401, "unauthorized")
    await revoke(running, subject="id|ada")
    problem(await ask(running, get(path, bearer(), method=method, body=body), method), 401, "unauthorized")
    assert (await listed(running))["total"] == 1


@pytest.mark.gen_test
async def test_who_may_act_is_who_has_the_scope_of_operators(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH, ADMIN_SCOPE="admin")
    made = json.loads((await post(running, bearer("root", scope="admin"), jti="7")).body)
    problem(await post(running, OPERATOR, jti="8"), 403, "forbidden")
    target = PAGE + b"/" + made["id"].encode()
    problem(await ask(running, get(target, OPERATOR, method=b"DELETE"), b"DELETE"), 403, "forbidden")
    problem(
        await post(running, bearer("root", scope="admin"), b"Origin: http://evil.example", jti="8"), 403, "forbidden"
    )
    assert [each.value for each in running.app.gateway.revocations] == ["7"]


@pytest.mark.gen_test
async def test_the_session_of_a_revoked_operator_is_over(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    sessions = [await log_in(running, token(name).decode()) for name in ("ada", "eve")]
    await revoke(running, subject="id|ada")
    assert [await status(running, each, path=PAGE) for each in sessions] == [401, 200]
    again = await ask(running, form(b"/admin/login", ORIGIN, credential=token("ada").decode()), b"POST")
    assert (again.status, again.get(b"set-cookie")) == (401, None)


@pytest.mark.gen_test
async def test_one_session_of_an_operator_is_revoked_and_no_other(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    sessions = [await log_in(running, token("ada").decode()) for _ in range(2)]
    first, _ = running.app.gateway.operators.sessions._by_digest.values()
    await revoke(running, session=first.id)
    assert [await status(running, each, path=PAGE) for each in sessions] == [401, 200]
    assert await status(running, bearer("ada"), path=PAGE) == 200


@pytest.mark.gen_test
async def test_the_tokens_of_a_session_at_the_issuer_are_revoked_together(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    tokens = [bearer("ada", sid="s-1", jti="1"), bearer("ada", sid="s-1", jti="2"), bearer("ada", sid="s-2")]
    assert [await status(running, each) for each in tokens] == [200, 200, 200]
    await revoke(running, session="s-1")
    assert [await status(running, each) for each in tokens] == [401, 401, 200]
    assert await status(running, bearer("ada", sid="s-1", iat=4_000_000_000)) == 401


@pytest.mark.gen_test
async def test_each_act_has_a_line_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    with caplog.at_level(logging.INFO, "tornado_gateway.audit"):
        made = await revoke(running, subject="id|ada\n\u202e")
        target = PAGE + b"/" + made["id"].encode()
        await ask(running, get(target, OPERATOR, method=b"DELETE"), b"DELETE")
        await post(running, jti=7)
    lines = [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"]
    deed = 'subject "id|ada\\n\\u202e" until 20'
    by = 'by "id|root" from 127.0.0.1:'
    assert lines[0].startswith(f"POST /admin/api/revocations {by} 201 (revoked {deed}")
    assert lines[1].startswith(f"DELETE {target.decode()} {by} 200 (lifted the revocation of {deed}")
    assert lines[2] == f"POST /admin/api/revocations {by} 400"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"), (b"[" * 9000, "JSON"), (b"[]", "object"), (b'"jti"', "object"), (b"{}", "jti and session"),
        (b'{"jti": "a", "subject": "b"}', "jti and session"), (b'{"jti": "a", "sub": "b"}', '"sub"'),
        (b'{"jti": 7}', "jti"), (b'{"jti": ""}', "jti"), (b'{"subject": " id|a"}', "subject"),
        (b'{"jti": null}', "jti"),
        (b'{"subject": "\\u00a0"}', "subject"), (b'{"jti": "%b"}' % (b"a" * (LONGEST_VALUE + 1)), "jti"),
        *(
            (b'{"jti": "a", "expiresInMs": %b}' % each, "expiresInMs")
            for each in (b"0", b"-1", b'"9"', b"null", b"true", b"1e400", b"NaN", b"[]", b"31622400001")
        ),
    ],
    ids=range(22),
)  # fmt: skip
@pytest.mark.gen_test
async def test_an_order_that_is_wrong_is_a_400_that_names_the_member(serve: Serve, body: bytes, said: str) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    answer = await ask(running, get(PAGE, OPERATOR, method=b"POST", body=body), b"POST")
    assert said in problem(answer, 400, "bad_request")["message"]
    assert not running.app.gateway.revocations.count


@pytest.mark.parametrize(
    ("body", "order"),
    [
        (b'{"jti": "a"}', (By.JTI, "a", DEFAULT_LIFE)),
        (b'{"subject": "id|a b", "expiresInMs": 1}', (By.SUBJECT, "id|a b", 0.001)),
        (b'{"subject": "a", "expiresInMs": 31622400000}', (By.SUBJECT, "a", LONGEST_LIFE)),
        (b'{"jti": "%b", "expiresInMs": 1.5}' % (b"a" * LONGEST_VALUE), (By.JTI, "a" * LONGEST_VALUE, 0.0015)),
    ],
    ids=range(4),
)
def test_an_order_says_what_is_revoked_and_for_how_long(body: bytes, order: tuple[By, str, float]) -> None:
    assert read_order(body) == order


@pytest.mark.gen_test
async def test_more_revocations_than_may_be_are_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MOST", 1)
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    await revoke(running, jti="7")
    problem(await post(running, jti="8"), 503, "overloaded")


# ---------------------------------------------------------------- streams


async def handshaking(peer: Peer) -> None:
    """An endpoint that accepts a WebSocket, says nothing, and leaves at the first frame."""
    await peer.send(accepting(await peer.request()))
    await peer.exactly(1)


async def opened(running: Running, *fields: bytes) -> Any:
    headers = [tuple(each.decode().split(": ", 1)) for each in fields]
    return await websockets.connect(f"ws://127.0.0.1:{running.port}/ws/ws/x", additional_headers=headers, proxy=None)


async def closed(socket: Any) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as ended:
        await socket.recv()
    close = ended.value.rcvd
    assert close
    return close.code, close.reason


@pytest.mark.parametrize("said", [{"subject": "id|ada"}, {"jti": "7"}])
@pytest.mark.gen_test
async def test_the_streams_of_what_is_revoked_end_and_no_others(
    serve: Serve, upstream: Start, said: dict[str, str]
) -> None:
    source = Source()
    running = await serve({"svc": [upstream(source).url], "ws": [upstream(handshaking).url]}, **AUTH)
    mine, other = bearer(jti="7"), bearer("eve", jti="8")
    listeners = [
        await Listener.ask(running, get(path, each)) for path in (b"/sse/svc/x", PATH) for each in (mine, other)
    ]
    sockets = [await opened(running, each) for each in (mine, other)]
    await eventually(lambda: len(running.app.gateway.streams.open) == 6)
    await revoke(running, **said)
    for ended in listeners[::2]:
        await ended.all()
        assert ended.body == b"event: gateway-close\ndata: token_revoked\n\n"
    assert await closed(sockets[0]) == (4401, "token revoked")
    await eventually(lambda: len(running.app.gateway.streams.open) == 3)
    for listener, peer in zip(listeners[1::2], source.peers[1::2], strict=True):
        await peer.send(b"4\r\n: a\n\r\n")
        await listener.hear(b": a\n")
    await sockets[1].close()
    with pytest.raises(InvalidStatus):
        await opened(running, mine)


class Slow:
    """A script: answers when a test wants that."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[Message] = []
        self.answer, self.goes_on = answer, asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        request = await peer.request()
        self.requests.append(request)
        await self.goes_on.wait()
        await peer.send(self.answer or accepting(request))
        await peer.ended()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(("path", "answer"), [(b"/sse/svc/x", STREAM), (PATH, STREAM), (b"/ws/svc/x", b"")])
@pytest.mark.gen_test
async def test_a_stream_does_not_begin_if_its_token_was_revoked_meanwhile(
    serve: Serve, upstream: Start, path: bytes, answer: bytes
) -> None:
    slow = Slow(answer)
    running = await serve({"svc": [upstream(slow).url]}, **AUTH)
    client = await running.client()
    handshake = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
                 b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]  # fmt: skip
    await client.send(get(path, bearer(), *([] if answer else handshake)))
    await eventually(lambda: slow.requests)
    await revoke(running, subject="id|ada")
    slow.goes_on.set()
    problem(await client.response(), 401, "unauthorized")
    await eventually(lambda: not running.inflight)
    assert not running.app.gateway.streams.open


@pytest.mark.gen_test
async def test_a_request_in_progress_is_finished(serve: Serve, upstream: Start) -> None:
    slow = Slow(reply(body=b"whole"))
    running = await serve({"svc": [upstream(slow).url]}, **AUTH)
    client = await running.client()
    await client.send(get(PATH, bearer()))
    await eventually(lambda: slow.requests)
    await revoke(running, subject="id|ada")
    slow.goes_on.set()
    assert (await client.response()).body == b"whole"


# ---------------------------------------------------------------- two gateways


async def shared_by(serve: Serve, upstream: Start, url: str) -> tuple[list[Running], list[Source]]:
    sources = [Source(), Source()]
    running = [
        await serve({"svc": [upstream(source).url], "plain": [upstream(always(reply())).url]}, **AUTH, REDIS_URL=url)
        for source in sources
    ]
    for each in running:
        for connection in each.app.gateway.redis.values():
            connection.timeout = PATIENCE
    return running, sources


async def listening(serve: Serve, upstream: Start, server: RedisServer) -> tuple[Running, Running, Listener]:
    """Two gateways that hear each other through Redis, and a listener at the second."""
    (one, other), _ = await shared_by(serve, upstream, server.url)
    await eventually(lambda: server.command("PUBSUB", "NUMSUB", "gateway:revocations").endswith("2"))
    listener = await Listener.ask(other, get(b"/sse/svc/x", bearer()))
    await eventually(lambda: other.app.gateway.streams.open)
    return one, other, listener


@pytest.mark.gen_test
async def test_a_revocation_at_one_gateway_ends_streams_at_another(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    one, other, listener = await listening(serve, upstream, server)
    assert (await revoke(one, subject="id|ada"))["shared"] is True
    await listener.all()
    assert listener.body == b"event: gateway-close\ndata: token_revoked\n\n"
    assert [await status(each, bearer(), path=b"/api/plain/") for each in (one, other)] == [401, 401]
    assert [await status(each, bearer("eve"), path=b"/api/plain/") for each in (one, other)] == [200, 200]


@pytest.mark.gen_test
async def test_a_revocation_while_redis_is_away_is_sent_later(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    one, other, listener = await listening(serve, upstream, server)
    server.stop()
    assert (await revoke(one, subject="id|ada"))["shared"] is False
    assert [await status(each, bearer(), path=b"/api/plain/") for each in (one, other)] == [401, 200]
    server.start()
    await listener.all()
    assert await status(other, bearer(), path=b"/api/plain/") == 401


# ---------------------------------------------------------------- Redis is away, and nobody knows


CLOSED = {"REVOCATION_ON_ERROR": "closed", "API_KEYS": API_KEYS, "AUTH_TOKEN_SOURCES": "header,cookie:session,ticket"}


@pytest.mark.gen_test
async def test_no_credential_opens_a_service_while_redis_is_away(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, source = redis_server(), Source()
    plain = [upstream(always(reply())).url]
    services = {"svc": [upstream(source).url], "ws": [upstream(handshaking).url], "plain": plain,
                "keys": {"endpoints": plain, "auth": "key"}, "open": {"endpoints": plain, "auth": "none"}}  # fmt: skip
    running = await serve(services, **AUTH, **CLOSED, REDIS_URL=server.url)
    lines = capture(running)
    kept, path = await running.client(), b"/api/plain/"
    assert [(await kept.ask(get(path, bearer()))).status for _ in range(2)] == [200, 200]
    listener, socket = await Listener.ask(running, get(b"/sse/svc/x", bearer())), await opened(running, bearer())
    server.stop()
    await eventually(lambda: running.app.gateway.revocations.are_in_doubt)
    for answer in (
        await kept.ask(get(path, bearer())),  # field lines that were admitted before
        await ask(running, get(path, bearer("eve"))),
        await ask(running, get(path, b"Cookie: session=" + token())),
        await ask(running, get(b"/api/keys/", api_key())),
        await ask(running, get(b"/api/unknown/", bearer())),
        await ask(running, get(b"/sse/svc/x", bearer())),
    ):
        said = problem(answer, 503, "overloaded")
        assert said["message"] == "Whether the credential is revoked cannot be checked now."
        assert answer.get(b"retry-after") == b"1"
    with pytest.raises(InvalidStatus) as refused:
        await opened(running, bearer())
    assert refused.value.response.status_code == 503
    await eventually(lambda: len(lines()) == 9)
    assert [each["reason"] for each in lines()[2:]] == ["revocations_unavailable"] * 7
    # What is not valid is told as before, and what needs no credential passes.
    assert [await status(running, *fields, path=path) for fields in ((), (b"Authorization: Bearer x",))] == [401, 401]
    for each in (b"/api/open/", b"/healthz", b"/readyz", b"/metrics", b"/_pressure"):
        assert await status(running, path=each) == 200, each
    # Operators act, streams go on, and what is revoked here counts here.
    await (await source.peer()).send(b"4\r\n: a\n\r\n")
    await listener.hear(b": a\n")
    assert (await revoke(running, subject="id|ada"))["shared"] is False
    await listener.all()
    assert await closed(socket) == (4401, "token revoked")
    assert await status(running, bearer(), path=path) == 401
    server.start()
    await eventually(lambda: not running.app.gateway.revocations.are_in_doubt)
    assert [await status(running, bearer(name), path=path) for name in ("ada", "eve")] == [401, 200]


@pytest.mark.gen_test
async def test_a_gateway_that_starts_without_redis_is_as_closed(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server = redis_server()
    server.stop()
    running = await serve({"svc": [upstream(echo).url]}, **AUTH, REVOCATION_ON_ERROR="closed", REDIS_URL=server.url)
    assert await status(running, bearer()) == 503
    server.start()
    await eventually(lambda: not running.app.gateway.revocations.are_in_doubt)
    assert await status(running, bearer()) == 200


@pytest.mark.gen_test
async def test_a_gateway_knows_what_is_revoked_before_the_first_request(
    serve: Serve, upstream: Start, redis_server: StartRedis
) -> None:
    server, services = redis_server(), {"svc": [upstream(echo).url]}
    one = await serve(services, **AUTH, REDIS_URL=server.url)
    assert (await revoke(one, subject="id|ada"))["shared"] is True
    late = await serve(services, **AUTH, REDIS_URL=server.url, REVOCATION_ON_ERROR="closed")
    assert [await status(late, bearer(name)) for name in ("ada", "eve")] == [401, 200]


@pytest.mark.gen_test
async def test_a_reload_opens_and_closes(
    serve: Serve, upstream: Start, redis_server: StartRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, services = redis_server(), {"svc": [upstream(echo).url]}
    lines = AUTH | {"REDIS_URL": server.url}
    reloading = await Reloading.start(serve, tmp_path / ".env", services, **lines)
    reloading.write(services, **lines, REVOCATION_ON_ERROR="closed")
    await reloading.reload(OPERATOR)
    assert await status(reloading.running, bearer()) == 200
    server.stop()
    await eventually(lambda: not reloading.running.app.gateway.revocations.is_heard)
    assert "until Redis answers: no credential opens a service" in caplog.text
    assert await status(reloading.running, bearer()) == 503
    reloading.write(services, **lines)
    await reloading.reload(OPERATOR)
    assert await status(reloading.running, bearer()) == 200


# ---------------------------------------------------------------- the document

DOCUMENT = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text(encoding="utf-8")
ORDER = re.compile(r"""curl -H "Authorization: Bearer \$TOKEN" http://127\.0\.0\.1:8080(/\S+) \\\n +-d '([^']+)'""")


def block(name: str) -> str:
    """The text of the block of code between the marks of a name."""
    marked = DOCUMENT.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\n".join(marked.splitlines()[1:-1])


@pytest.mark.gen_test
async def test_the_command_of_the_page_revokes(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **AUTH)
    ada = bearer(iss="https://id.example.com")
    assert await status(running, ada) == 200
    ((path, body),) = ORDER.findall(block("revoke"))
    answer = await ask(running, get(path.encode(), OPERATOR, method=b"POST", body=body.encode()), b"POST")
    said, shown = json.loads(answer.body), json.loads(block("revoked"))
    assert answer.status == 201
    assert said["expiresAtMs"] - said["revokedAtMs"] == shown["expiresAtMs"] - shown["revokedAtMs"]
    for each in (said, shown):
        del each["expiresAtMs"], each["revokedAtMs"]
    assert said == shown
    assert await status(running, ada) == 401
