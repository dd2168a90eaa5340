"""The credentials in use on real sockets: log-ins and streams, and that each can be revoked as the page names it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.credentials import API_KEYS, api_key
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, problem
from tests.support.operators import AUTH, ORIGIN, bearer, form, log_in, token
from tests.support.sockets import eventually, get

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
OPERATOR = bearer(sub="root")
PAGE = b"/admin/api/sessions"
STREAM = b"/sse/svc/x"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text(encoding="utf-8")


async def listed(running: Running, query: bytes = b"") -> dict[str, Any]:
    answer = await ask(running, get(PAGE + query, OPERATOR))
    assert answer.status == 200
    result: dict[str, Any] = json.loads(answer.body)
    return result


async def revoke(running: Running, **order: str) -> None:
    request = get(b"/admin/api/revocations", OPERATOR, method=b"POST", body=json.dumps(order).encode())
    assert (await ask(running, request, b"POST")).status == 201


async def streaming(running: Running, *fields: bytes) -> None:
    before = len(running.app.gateway.streams.open)
    await Listener.ask(running, get(STREAM, *fields))
    await eventually(lambda: len(running.app.gateway.streams.open) == before + 1)


@pytest.mark.gen_test
async def test_a_log_in_is_listed_without_its_secret_until_the_log_out(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token(jti="7", iat=100))
    secret = session.partition(b"=")[2]
    answer = await ask(running, get(PAGE, OPERATOR))
    assert secret not in answer.body and token(jti="7", iat=100).encode() not in answer.body
    (row,) = json.loads(answer.body)["credentials"]
    log_in_of = row.pop("logIn")
    assert row == {
        "principal": "id|ada", "jti": "7", "sessions": [log_in_of["session"]], "issuedAtMs": 100_000,
        "eventStreams": 0, "webSockets": 0,
    }  # fmt: skip
    assert 0 <= log_in_of["idleMs"] < log_in_of["endsInMs"] <= 1_800_000
    assert (await ask(running, form(b"/admin/logout", ORIGIN, session))).status == 303
    assert await listed(running) == {"matching": 0, "credentials": []}


@pytest.mark.gen_test
async def test_a_session_is_revoked_by_the_id_of_the_list(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    sessions = [await log_in(running, token()) for _ in range(2)]
    assert len((await listed(running))["credentials"]) == 2
    await revoke(running, session=(await listed(running))["credentials"][0]["logIn"]["session"])
    assert [(await ask(running, get(b"/admin/stats", each))).status for each in sessions] == [401, 200]
    assert (await listed(running))["matching"] == 1


@pytest.mark.gen_test
async def test_credentials_of_streams_are_listed_and_their_revocation_ends_the_streams(
    serve: Serve, upstream: Start
) -> None:
    running = await serve({"svc": [upstream(Source()).url]}, **AUTH, API_KEYS=API_KEYS)
    for fields in (bearer(jti="7"), bearer(jti="8", sid="s-1"), bearer(jti="7"), api_key()):
        await streaming(running, fields)
    rows = (await listed(running))["credentials"]
    assert [(each["principal"], each["jti"], each["sessions"], each["eventStreams"]) for each in rows] == [
        ("id|ada", "7", [], 2), ("id|ada", "8", ["s-1"], 1), ("key:ci", "", [], 1),
    ]  # fmt: skip
    assert (await listed(running, b"?text=KEY:"))["matching"] == 1
    assert len((await listed(running, b"?limit=1"))["credentials"]) == 1
    for order, left in (({"session": "s-1"}, 2), ({"subject": "key:ci"}, 1), ({"jti": "7"}, 0)):
        await revoke(running, **order)
        await eventually(lambda left=left: len({each.holder for each in running.app.gateway.streams.open}) == left)
    assert (await listed(running))["matching"] == 0


@pytest.mark.parametrize("query", [b"?limit=0", b"?limit=1001", b"?limit=x", b"?more=1", b"?text=a&text=b"])
@pytest.mark.gen_test
async def test_a_wrong_question_is_refused(serve: Serve, query: bytes) -> None:
    problem(await ask(await serve(NOWHERE, **AUTH), get(PAGE + query, OPERATOR)), 400, "bad_request")


@pytest.mark.gen_test
async def test_the_list_needs_a_credential(serve: Serve) -> None:
    problem(await ask(await serve(NOWHERE, **AUTH), get(PAGE)), 401, "unauthorized")


@pytest.mark.gen_test
async def test_the_document_shows_such_an_answer(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(Source()).url]}, **AUTH)
    issuer = "https://id.example.com"
    await log_in(running, token(iss=issuer, iat=1_700_000_000))
    for _ in range(2):
        await streaming(running, bearer(iss=issuer, jti="7c2f", sid="s-12"))
    (path,) = re.findall(r"http://127\.0\.0\.1:8080(\S+)'", block("sessions"))
    said = json.loads((await ask(running, get(path.encode(), OPERATOR))).body)
    shown = json.loads(block("in-use"))
    for each in (said["credentials"][0], shown["credentials"][0]):
        assert each.pop("sessions") == [each["logIn"]["session"]]
        assert set(each.pop("logIn")) == {"session", "idleMs", "endsInMs"}
    assert said == shown


def block(name: str) -> str:
    marked = DOCUMENT.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\n".join(marked.splitlines()[1:-1])
