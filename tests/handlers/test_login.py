"""The log-in and the log-out."""

import asyncio
import logging

import pytest

from tests.conftest import Serve
from tests.support.credentials import API_KEYS, KEY, OTHER_HASH, OTHER_PASSWORD, PASSWORD, PASSWORD_HASH
from tests.support.journeys import ask, problem
from tests.support.operators import AUTH, BROWSER, ORIGIN, bearer, form, log_in, token
from tests.support.sockets import get

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
LOG_IN, LOG_OUT = b"/admin/login", b"/admin/logout"


@pytest.mark.gen_test
async def test_the_page_has_a_form(serve: Serve) -> None:
    answer = await ask(await serve(NOWHERE, **AUTH), get(LOG_IN))
    assert (answer.status, answer.get(b"content-type")) == (200, b"text/html; charset=utf-8")
    assert b'<form method="post" action="/admin/login">' in answer.body
    assert b'type="password"' in answer.body and b"Token or API key" in answer.body
    assert b'class="complaint"' not in answer.body


@pytest.mark.gen_test
async def test_a_token_logs_in(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    for given in (token(), f"  {token()}\n"):  # as somebody pastes it
        session = await log_in(running, given)
        answer = await ask(running, get(b"/admin", session))
        assert answer.status == 200
        assert b"Logged in as id|ada" in answer.body
        assert b'action="/admin/logout"' in answer.body


@pytest.mark.gen_test
async def test_the_cookie_is_for_admin_alone_and_for_no_script(serve: Serve) -> None:
    answer = await ask(await serve(NOWHERE, **AUTH), form(LOG_IN, ORIGIN, credential=token()))
    name, *attributes = (answer.get(b"set-cookie") or b"").split(b"; ")
    assert name.startswith(b"gateway_session=")
    assert attributes == [b"Path=/admin", b"HttpOnly", b"SameSite=Strict"]


@pytest.mark.parametrize("credential", ["", "x", "k" * 32, "a.b.c", "\0", "é", "x" * 20_000])
@pytest.mark.gen_test
async def test_a_wrong_credential_is_refused(serve: Serve, credential: str) -> None:
    running = await serve(NOWHERE, **AUTH)
    answer = await ask(running, form(LOG_IN, ORIGIN, credential=credential))
    problem(answer, 401, "unauthorized")
    assert answer.get(b"set-cookie") is None
    page = await ask(running, form(LOG_IN, ORIGIN, BROWSER, credential=credential))
    assert (page.status, page.get(b"content-type")) == (401, b"text/html; charset=utf-8")
    assert b"The credential is not valid." in page.body
    assert len(running.app.gateway.operators.sessions) == 0


@pytest.mark.gen_test
async def test_a_token_that_has_expired_is_refused(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    problem(await ask(running, form(LOG_IN, ORIGIN, credential=token(exp=1))), 401, "unauthorized")


@pytest.mark.gen_test
async def test_what_is_no_form_is_no_log_in(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    said = b'{"credential": "%b"}' % token().encode()
    json = get(LOG_IN, ORIGIN, b"Content-Type: application/json", method=b"POST", body=said)
    problem(await ask(running, json), 401, "unauthorized")
    problem(await ask(running, get(LOG_IN + b"?credential=" + token().encode(), method=b"POST")), 401, "unauthorized")


@pytest.mark.parametrize(
    ("place", "leads_to"),
    [
        ("/admin/stats", b"/admin/stats"), ("/admin", b"/admin"), ("", b"/admin"), ("/api/svc", b"/admin"),
        ("https://evil.example/admin", b"/admin"), ("//evil.example", b"/admin"), ("/admin\\..\\..", b"/admin"),
        ("/admin/\r\nSet-Cookie: a=b", b"/admin"), ("/administrator", b"/admin"),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_log_in_leads_to_the_page_that_was_asked_for(serve: Serve, place: str, leads_to: bytes) -> None:
    running = await serve(NOWHERE, **AUTH)
    answer = await ask(running, form(LOG_IN, ORIGIN, credential=token(), next=place))
    assert (answer.status, answer.get(b"location")) == (303, leads_to)
    assert len(answer.all(b"set-cookie")) == 1


@pytest.mark.parametrize("line", [b"Origin: https://evil.example", b"Origin: null", b"Sec-Fetch-Site: cross-site"])
@pytest.mark.parametrize("path", [LOG_IN, LOG_OUT])
@pytest.mark.gen_test
async def test_no_page_of_another_origin_logs_in_or_out(serve: Serve, path: bytes, line: bytes) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    problem(await ask(running, form(path, line, session, credential=token())), 403, "forbidden")
    assert (await ask(running, get(b"/admin/stats", session))).status == 200


@pytest.mark.gen_test
async def test_a_log_out_ends_the_session(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    answer = await ask(running, form(LOG_OUT, ORIGIN, session))
    assert (answer.status, answer.get(b"location")) == (303, LOG_IN)
    assert (answer.get(b"set-cookie") or b"").startswith(b"gateway_session=; Path=/admin;")
    assert b"; Max-Age=0" in (answer.get(b"set-cookie") or b"")
    problem(await ask(running, get(b"/admin/stats", session)), 401, "unauthorized")
    assert (await ask(running, form(LOG_OUT, ORIGIN, session))).status == 303  # once more does no harm
    problem(await ask(running, get(LOG_OUT, session)), 405, "method_not_allowed")  # a link cannot log out


@pytest.mark.gen_test
async def test_log_ins_that_fail_are_limited_by_address(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, TRUSTED_PROXIES="127.0.0.1")
    proxied = b"X-Forwarded-For: "
    for _ in range(12):
        await log_in(running, token(), proxied + b"2001:db8::1")
    for number in range(10):
        address = b"2001:db8::%d" % number  # of one client: IPv6 clients have a /64
        assert (await ask(running, form(LOG_IN, proxied + address, credential="guess"))).status == 401
    refused = await ask(running, form(LOG_IN, proxied + b"2001:db8::a", credential=token()))
    assert (refused.status, refused.get(b"set-cookie")) == (429, None)
    assert 200 < int(refused.get(b"retry-after") or b"0") <= 300
    page = await ask(running, form(LOG_IN, BROWSER, proxied + b"2001:db8::a", credential=token()))
    assert page.status == 429
    assert b"This client has failed to log in too often." in page.body
    await log_in(running, token(), proxied + b"2001:db8:1::1")
    assert (await ask(running, get(b"/admin/stats", proxied + b"2001:db8::a", bearer()))).status == 200
    now = running.app.gateway.now
    object.__setattr__(running.app.gateway, "now", lambda: now() + 300)
    await log_in(running, token(), proxied + b"2001:db8::a")


@pytest.mark.gen_test
async def test_without_authentication_there_is_no_log_in(serve: Serve) -> None:
    running = await serve(NOWHERE)
    for request in (get(LOG_IN), form(LOG_IN, ORIGIN, credential="x")):
        answer = await ask(running, request)
        assert (answer.status, answer.get(b"location"), answer.get(b"set-cookie")) == (303, b"/admin", None)
    assert b"Log out" not in (await ask(running, get(b"/admin"))).body


@pytest.mark.gen_test
async def test_the_log_says_who_has_logged_in_and_out(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tornado_gateway.audit")
    running = await serve(NOWHERE, **AUTH)
    await ask(running, form(LOG_IN, ORIGIN, credential="guess"))
    cookie = await log_in(running, token())
    (session,) = running.app.gateway.operators.sessions._by_digest.values()
    await ask(running, form(LOG_OUT, ORIGIN, cookie))
    assert [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"] == [
        'POST /admin/login by "nobody" from 127.0.0.1: 401',
        f'POST /admin/login by "id|ada" from 127.0.0.1: 303 (session {session.id})',
        f'POST /admin/logout by "id|ada" from 127.0.0.1: 303 (session {session.id})',
    ]
    assert "guess" not in caplog.text and token() not in caplog.text


@pytest.mark.gen_test
async def test_a_password_logs_in(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=OTHER_HASH)
    problem(await ask(running, get(b"/admin/stats")), 401, "unauthorized")
    assert b"Password, token or API key" in (await ask(running, get(LOG_IN))).body
    for given in (OTHER_PASSWORD, "pa\u0308sswo\u0308rd"):  # in another normalization form
        session = await log_in(running, given)
        assert b"Logged in as password:admin" in (await ask(running, get(b"/admin", session))).body
    for given in ("", OTHER_PASSWORD[:-1], OTHER_PASSWORD + " ", OTHER_PASSWORD.upper(), OTHER_HASH):
        problem(await ask(running, form(LOG_IN, ORIGIN, credential=given)), 401, "unauthorized")
    problem(await ask(running, get(b"/admin/stats", bearer())), 401, "unauthorized")
    assert (await ask(running, get(b"/api/nobody/"))).status == 404  # services ask for nothing


@pytest.mark.gen_test
async def test_what_is_no_text_is_no_password(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=PASSWORD_HASH)
    of_form = b"Content-Type: application/x-www-form-urlencoded"
    answer = await ask(running, get(LOG_IN, ORIGIN, of_form, method=b"POST", body=b"credential=%ff%fe"))
    problem(answer, 401, "unauthorized")


@pytest.mark.gen_test
async def test_the_name_of_a_password_is_in_the_log_and_the_password_is_not(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tornado_gateway.audit")
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=f"ops:{PASSWORD_HASH}")
    await log_in(running, PASSWORD)
    (line,) = caplog.messages
    assert line.startswith('POST /admin/login by "password:ops" from 127.0.0.1: 303 (session ')


@pytest.mark.gen_test
async def test_who_knows_the_password_has_the_scope_of_acts(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=PASSWORD_HASH, ADMIN_SCOPE="admin", JWT_SECRET="k" * 32)
    await log_in(running, PASSWORD)
    await log_in(running, token())
    scopes = [each.principal.scopes for each in running.app.gateway.operators.sessions._by_digest.values()]
    assert scopes == [{"admin"}, set()]


@pytest.mark.gen_test
async def test_an_api_key_logs_in(serve: Serve) -> None:
    running = await serve(NOWHERE, AUTH_REQUIRED="true", API_KEYS=API_KEYS)
    session = await log_in(running, KEY)
    assert b"Logged in as key:ci" in (await ask(running, get(b"/admin", session))).body
    problem(await ask(running, form(LOG_IN, ORIGIN, credential=KEY + "x")), 401, "unauthorized")


@pytest.mark.gen_test
async def test_guesses_of_the_password_are_limited(serve: Serve) -> None:
    """Guesses at the same time, too: an attempt counts from its beginning."""
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=PASSWORD_HASH)
    answers = await asyncio.gather(
        *[ask(running, form(LOG_IN, ORIGIN, credential=f"guess {number}")) for number in range(30)]
    )
    assert sorted(each.status for each in answers) == [401] * 10 + [429] * 20
    assert (await ask(running, form(LOG_IN, ORIGIN, credential=PASSWORD))).status == 429


@pytest.mark.gen_test
async def test_a_revocation_ends_the_sessions_of_a_password_and_no_later_one(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PASSWORD_HASH=PASSWORD_HASH, ADMIN_SCOPE="admin", JWT_SECRET="k" * 32)
    before = await log_in(running, PASSWORD)
    said = b'{"subject": "password:admin"}'
    revoked = get(b"/admin/api/revocations", bearer(scope="admin"), method=b"POST", body=said)
    assert (await ask(running, revoked)).status == 201
    problem(await ask(running, get(b"/admin/stats", before)), 401, "unauthorized")
    after = await log_in(running, PASSWORD)
    assert (await ask(running, get(b"/admin/stats", after))).status == 200


@pytest.mark.gen_test
async def test_a_session_acts_by_the_api_from_its_own_origin(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session, said = await log_in(running, token()), b'{"jti": "a1b2"}'
    path = b"/admin/api/revocations"
    problem(await ask(running, get(path, session, method=b"POST", body=said)), 403, "forbidden")
    assert (await ask(running, get(path, session, ORIGIN, method=b"POST", body=said))).status == 201
