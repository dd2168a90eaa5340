"""Pages below /admin without a credential: what a browser gets, and what a program gets."""

import base64
import hashlib
import re

import pytest

from tests.conftest import Serve
from tests.support.journeys import ask, capture, only_line, problem
from tests.support.operators import AUTH, BROWSER, bearer
from tests.support.sockets import get

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
PATHS = [b"/admin", b"/admin/", b"/admin/stats", b"/admin/nothing", b"/admin/a/b?c", b"/admin/api/x"]
JSON = [b"Accept: application/json", b"Accept: */*", b"Accept: application/json, text/html;q=0.9", b"X: 1"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.gen_test
async def test_a_browser_gets_the_log_in_page(serve: Serve, path: bytes) -> None:
    running = await serve(NOWHERE, **AUTH)
    answer = await ask(running, get(path, BROWSER))
    assert (answer.status, answer.get(b"content-type")) == (401, b"text/html; charset=utf-8")
    assert answer.get(b"www-authenticate") == b'Bearer realm="gateway"'
    assert (answer.get(b"vary"), answer.get(b"cache-control")) == (b"Accept", b"no-store")
    assert b'<form method="post" action="/admin/login">' in answer.body
    assert b'name="next" value="%b"' % path.partition(b"?")[0] in answer.body


@pytest.mark.parametrize("accept", JSON)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.gen_test
async def test_a_program_gets_json(serve: Serve, path: bytes, accept: bytes) -> None:
    running = await serve(NOWHERE, **AUTH)
    answer = await ask(running, get(path, accept))
    problem(answer, 401, "unauthorized")
    assert answer.get(b"vary") == b"Accept"


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"PUT", b"BREW"])
@pytest.mark.gen_test
async def test_unknown_pages_are_unknown_to_those_with_a_credential_alone(serve: Serve, method: bytes) -> None:
    running = await serve(NOWHERE, **AUTH)
    problem(await ask(running, get(b"/admin/nothing", method=method)), 401, "unauthorized")
    problem(await ask(running, get(b"/admin/nothing", bearer(), method=method)), 404, "not_found")


@pytest.mark.parametrize("path", [b"/administrator", b"/adminx", b"/Admin", b"/admin%2Fstats", b"//admin"])
@pytest.mark.gen_test
async def test_other_paths_are_not_below_admin(serve: Serve, path: bytes) -> None:
    problem(await ask(await serve(NOWHERE, **AUTH), get(path, BROWSER)), 404, "not_found")


@pytest.mark.gen_test
async def test_without_authentication_the_pages_are_open(serve: Serve) -> None:
    running = await serve(NOWHERE)
    assert [(await ask(running, get(each, BROWSER))).status for each in PATHS] == [200, 308, 200, 404, 404, 404]


@pytest.mark.gen_test
async def test_the_page_runs_no_script_and_loads_nothing(serve: Serve) -> None:
    answer = await ask(await serve(NOWHERE, **AUTH), get(b"/admin", BROWSER))
    style = re.search(rb"<style>(.*)</style>", answer.body, re.DOTALL)
    assert style and answer.body.count(b"<style") == 1
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
    policy = (answer.get(b"content-security-policy") or b"").decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert b"<script" not in answer.body and b" style=" not in answer.body and not re.search(rb"\son\w+=", answer.body)
    assert not re.findall(rb"https?://", answer.body)
    assert answer.get(b"x-content-type-options") == b"nosniff"
    assert answer.get(b"x-frame-options") == b"DENY"
    assert answer.get(b"referrer-policy") == b"same-origin"  # no-referrer would make Origin null


@pytest.mark.gen_test
async def test_what_the_client_sends_is_escaped(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    answer = await ask(running, get(b"/admin/'onfocus='alert(1)'&<b>", BROWSER))
    assert answer.status == 400 or (b"<b>" not in answer.body and b"'onfocus" not in answer.body)
    page = await ask(running, get(b"/admin", BROWSER, bearer(sub="<i>ada</i>")))
    assert b"Logged in as id|&lt;i&gt;ada&lt;/i&gt;" in page.body


@pytest.mark.gen_test
async def test_after_an_act_without_a_credential_the_log_in_leads_home(serve: Serve) -> None:
    page = await ask(await serve(NOWHERE, **AUTH), get(b"/admin/api/x", BROWSER, method=b"POST"))
    assert (page.status, b'name="next" value="/admin"' in page.body) == (401, True)


@pytest.mark.gen_test
async def test_head_is_as_get(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    client = await running.client()
    bare = await client.ask(get(b"/admin", BROWSER, method=b"HEAD"), b"HEAD")
    full = await client.ask(get(b"/admin", BROWSER))
    assert (bare.status, full.status, client.buffer) == (401, 401, b"")
    assert bare.get(b"content-type") == full.get(b"content-type")


@pytest.mark.gen_test
async def test_the_access_log_says_why(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    lines = capture(running)
    await ask(running, get(b"/admin/stats", BROWSER))
    line = await only_line(lines)
    assert (line["status"], line["reason"], line["path"]) == (401, "unauthorized", "/admin/stats")


@pytest.mark.gen_test
async def test_a_token_still_reads(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    for accept in (BROWSER, b"Accept: */*"):
        answer = await ask(running, get(b"/admin/stats", accept, bearer()))
        assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
