"""Pages that change something: who may, from where, and what the log says."""

import logging
from collections.abc import Callable

import jwt
import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import ask, problem
from tests.support.operators import AUTH, ORIGIN, bearer, log_in, token
from tests.support.sockets import Message, get
from tornado_gateway.handlers import router
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.policy.routing import Route

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
SCOPE = {"ADMIN_SCOPE": "admin"}
PRODUCTION = {"GATEWAY_ENV": "production", "JWT_SECRET": AUTH["JWT_SECRET"]}
PATH = b"/admin/lamp"

Lines = Callable[[], list[str]]


class Lamp(ActingHandler):
    """A page that changes something."""

    lit: list[str]

    def get(self) -> None:
        self.send_json(self.lit)

    def post(self) -> None:
        self.lit.append(self.who)
        self.deed = "lit the lamp"
        self.send_json(self.lit, 201)

    delete = post


@pytest.fixture(autouse=True)
def lamp(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A gateway has the page; the names of those who have acted."""
    Lamp.lit = []
    monkeypatch.setattr(router, "PAGES", (*router.PAGES, Route(path=PATH.decode(), handler=Lamp)))
    return Lamp.lit


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO, "tornado_gateway.audit")
    return lambda: [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"]


async def act(running: Running, *lines: bytes, host: bytes = b"gateway.example", method: bytes = b"POST") -> Message:
    return await ask(running, get(PATH, *lines, method=method, host=host))


@pytest.mark.parametrize("method", [b"POST", b"DELETE"])
@pytest.mark.gen_test
async def test_a_token_with_the_scope_acts(serve: Serve, audit: Lines, method: bytes) -> None:
    running = await serve(NOWHERE, **PRODUCTION, **SCOPE)
    assert (await act(running, bearer(scope="admin read"), method=method)).status == 201
    assert audit() == [f'{method.decode()} /admin/lamp by "id|ada" from 127.0.0.1: 201 (lit the lamp)']


@pytest.mark.gen_test
async def test_a_token_without_the_scope_reads(serve: Serve, audit: Lines, lamp: list[str]) -> None:
    running = await serve(NOWHERE, **PRODUCTION, **SCOPE)
    assert (await ask(running, get(PATH, bearer()))).status == 200
    refused = await act(running, bearer(scope="read"))
    problem(refused, 403, "forbidden")
    assert b'error="insufficient_scope", scope="admin"' in (refused.get(b"www-authenticate") or b"")
    assert (lamp, audit()) == ([], ['POST /admin/lamp by "id|ada" from 127.0.0.1: 403'])


@pytest.mark.gen_test
async def test_without_admin_scope_nobody_acts_in_production(serve: Serve, audit: Lines) -> None:
    running = await serve(NOWHERE, **PRODUCTION)
    assert (await ask(running, get(PATH, bearer(scope="admin")))).status == 200
    problem(await act(running, bearer(scope="admin")), 403, "forbidden")
    assert audit() == ['POST /admin/lamp by "id|ada" from 127.0.0.1: 403']


@pytest.mark.parametrize("environment", ["development", "test"])
@pytest.mark.gen_test
async def test_without_admin_scope_every_credential_acts_elsewhere(serve: Serve, environment: str) -> None:
    running = await serve(NOWHERE, **AUTH, GATEWAY_ENV=environment)
    assert (await act(running, bearer())).status == 201


@pytest.mark.gen_test
async def test_admin_scope_asks_for_a_credential(serve: Serve, audit: Lines) -> None:
    running = await serve(NOWHERE, **SCOPE, JWT_SECRET=AUTH["JWT_SECRET"])
    problem(await act(running, host=b"localhost"), 401, "unauthorized")
    assert audit() == ['POST /admin/lamp by "nobody" from 127.0.0.1: 401']


EVIL = [
    (b"Origin: https://evil.example",), (b"Origin: null",), (ORIGIN, b"Sec-Fetch-Site: cross-site"),
    (b"Sec-Fetch-Site: same-site",),
]  # fmt: skip


@pytest.mark.parametrize("lines", EVIL, ids=["other", "null", "cross-site", "same-site"])
@pytest.mark.gen_test
async def test_no_page_of_another_origin_causes_an_act(serve: Serve, lamp: list[str], lines: tuple[bytes, ...]) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    for credential in (session, bearer()):
        problem(await act(running, credential, *lines), 403, "forbidden")
    assert lamp == []


@pytest.mark.gen_test
async def test_a_session_must_prove_its_origin_and_a_token_need_not(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    problem(await act(running, session), 403, "forbidden")
    assert (await act(running, session, ORIGIN)).status == 201
    assert (await act(running, session, b"Sec-Fetch-Site: same-origin")).status == 201
    assert (await act(running, bearer())).status == 201


@pytest.mark.parametrize("host", [b"localhost:8080", b"127.0.0.1", b"[::1]:8080"])
@pytest.mark.gen_test
async def test_without_authentication_a_client_on_this_machine_acts(serve: Serve, audit: Lines, host: bytes) -> None:
    running = await serve(NOWHERE)
    assert (await act(running, host=host)).status == 201
    assert (await act(running, b"Origin: http://" + host, host=host)).status == 201
    assert audit()[0] == 'POST /admin/lamp by "anybody" from 127.0.0.1: 201 (lit the lamp)'


@pytest.mark.gen_test
async def test_without_authentication_no_page_of_a_rebound_name_acts(serve: Serve, lamp: list[str]) -> None:
    running = await serve(NOWHERE)
    rebound = b"evil.example:8080"
    problem(await act(running, b"Origin: http://" + rebound, host=rebound), 403, "forbidden")
    problem(await act(running, b"Origin: http://evil.example", host=b"localhost"), 403, "forbidden")
    problem(await act(running, b"X-Forwarded-For: 203.0.113.7", host=b"localhost"), 403, "forbidden")
    problem(await act(running, b"Via: 1.1 edge", host=b"localhost"), 403, "forbidden")
    assert lamp == []


@pytest.mark.gen_test
async def test_without_authentication_nobody_acts_in_production(serve: Serve, lamp: list[str]) -> None:
    running = await serve(NOWHERE, GATEWAY_ENV="production", AUTH_REQUIRED="false")
    problem(await act(running, host=b"localhost"), 403, "forbidden")
    assert lamp == []


@pytest.mark.gen_test
async def test_reading_is_no_act(serve: Serve, audit: Lines) -> None:
    running = await serve(NOWHERE, **PRODUCTION)
    assert (await ask(running, get(PATH, bearer(), b"Origin: https://evil.example"))).status == 200
    assert audit() == []


@pytest.mark.gen_test
async def test_a_name_cannot_forge_a_line_of_the_log(serve: Serve, audit: Lines) -> None:
    running = await serve(NOWHERE, **AUTH)
    await act(running, bearer(sub='x" from 1.2.3.4: 201\nPOST'))
    await act(running, b"Authorization: Bearer " + jwt.encode({}, AUTH["JWT_SECRET"]).encode())
    one, other = audit()
    assert other == 'POST /admin/lamp by "unnamed" from 127.0.0.1: 201 (lit the lamp)'
    assert one == r'POST /admin/lamp by "id|x\" from 1.2.3.4: 201\nPOST" from 127.0.0.1: 201 (lit the lamp)'
