"""The dashboard's pages: what a browser gets, and how the event stream ends."""

import hashlib
import json
import logging
import time

import jwt
import pytest

from tests.conftest import Serve
from tests.support.event_streams import Listener
from tests.support.journeys import ask, problem
from tests.support.operators import ORIGIN, form, log_in
from tests.support.sockets import eventually, get
from tornado_gateway.handlers.dashboard import ROOT, TYPES
from tornado_gateway.upkeep.observer import BEHIND

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
KEY = "k" * 32


@pytest.mark.gen_test
async def test_the_page_runs_its_own_files_only(serve: Serve) -> None:
    running = await serve(NOWHERE)
    answer = await ask(running, get(b"/admin"))
    assert (answer.status, answer.get(b"content-type")) == (200, b"text/html; charset=utf-8")
    policy = answer.get(b"content-security-policy") or b""
    assert b"default-src 'none'" in policy and b"unsafe" not in policy and b"frame-ancestors 'none'" in policy
    assert b"style=" not in answer.body and b"<style" not in answer.body and b"onclick" not in answer.body
    assert (answer.get(b"x-content-type-options"), answer.get(b"cache-control")) == (b"nosniff", b"no-store")


@pytest.mark.gen_test
async def test_without_scripts_there_is_a_table_of_the_services_and_markup_in_names_stays_text(serve: Serve) -> None:
    running = await serve(NOWHERE)
    running.app.gateway.services[b"svc"].endpoints[0].last_check = "<script>alert(1)</script>"
    running.app.gateway.services[b"svc"].endpoints[0].checks_pass = False
    await running.app.gateway.observer.look()
    answer = await ask(running, get(b"/admin"))
    table = answer.body.partition(b"<noscript>")[2]
    assert b'<th scope="row">svc</th><td>down</td>' in table
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in table and b"<script>alert" not in answer.body


@pytest.mark.parametrize(("variables", "has"), [({}, True), ({"ADMIN_READ_ONLY": "true"}, False)])
@pytest.mark.gen_test
async def test_a_gateway_that_is_read_only_offers_no_acts(serve: Serve, variables: dict[str, str], has: bool) -> None:
    running = await serve(NOWHERE, **variables)
    assert (b'<dialog id="acts"' in (await ask(running, get(b"/admin"))).body) is has


@pytest.mark.parametrize(
    ("variables", "has_card", "has_form"),
    [
        ({}, False, False),
        ({"CACHE_ENABLED": "true"}, True, True),
        ({"CACHE_ENABLED": "true", "ADMIN_READ_ONLY": "true"}, True, False),
    ],
    ids=("off", "on", "read-only"),
)
@pytest.mark.gen_test
async def test_a_gateway_without_a_cache_shows_none_and_a_gateway_that_is_read_only_has_no_form_of_purges(
    serve: Serve, variables: dict[str, str], has_card: bool, has_form: bool
) -> None:
    running = await serve(NOWHERE, **variables)
    page = (await ask(running, get(b"/admin"))).body
    assert (b'id="cache-card"' in page, b'id="purge"' in page) == (has_card, has_form)


@pytest.mark.gen_test
async def test_every_file_that_the_page_names_is_served_and_no_other(serve: Serve) -> None:
    running = await serve(NOWHERE)
    names = {str(each.relative_to(ROOT)) for each in ROOT.rglob("*") if each.suffix in TYPES}
    page = (ROOT / "index.html").read_text("utf-8")
    assert {each.partition('"')[0] for each in page.split("/admin/assets/")[1:]} <= names
    for name in sorted(names):
        answer = await ask(running, get(f"/admin/assets/{name}".encode()))
        assert (answer.status, answer.body) == (200, (ROOT / name).read_bytes())
    for other in ("index.html", "../admin/tokens.css", "..%2fdemo.html", "vendor/uplot/LICENSE", "x.js", ""):
        assert (await ask(running, get(f"/admin/assets/{other}".encode()))).status in (400, 404), other


def test_the_vendored_library_is_the_one_that_its_version_names() -> None:
    folder = ROOT / "vendor" / "uplot"
    lines = [line.split() for line in (folder / "VERSION").read_text().splitlines()[2:]]
    assert {name for _, name in lines} == {each.name for each in folder.iterdir()} - {"VERSION"}
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, name in lines)


@pytest.mark.gen_test
async def test_everything_of_the_dashboard_needs_a_token_where_tokens_are_asked_for(serve: Serve) -> None:
    running = await serve(NOWHERE, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    for path in (b"/admin", b"/admin/events", b"/admin/stats", b"/admin/assets/tokens.css"):
        problem(await ask(running, get(path, b"Accept: application/json")), 401, "unauthorized")


@pytest.mark.gen_test
async def test_the_event_stream_tells_everything_and_then_differences(serve: Serve) -> None:
    running = await serve(NOWHERE)
    listener = await Listener.ask(running, get(b"/admin/events"))
    assert listener.head.get(b"content-type") == b"text/event-stream"
    await listener.until(b"\n\n")
    fields = dict(line.split(": ", 1) for line in listener.body.decode().splitlines() if line)
    assert fields["event"] == "whole" and list(json.loads(fields["data"])["services"]) == ["svc"]
    seen = len(listener.chunks)
    await listener._next()
    assert b"event: change" in listener.chunks[seen]
    listener.client.close()
    await eventually(lambda: not running.app.gateway.observer._viewers)


@pytest.mark.gen_test
async def test_a_hundred_viewers_get_the_text_of_one_look_and_a_viewer_that_never_reads_delays_nobody(
    serve: Serve,
) -> None:
    running = await serve(NOWHERE)
    observer, request = running.app.gateway.observer, get(b"/admin/events")
    stalled = await running.client(receive_buffer=2048)
    await stalled.send(request)
    listeners = [await Listener.ask(running, request) for _ in range(100)]
    await eventually(lambda: len(observer._viewers) == 101)
    mark = f"id: {observer._boot}-{observer._number + 2}\n".encode()
    looked_at = set()
    for each in listeners:
        while mark not in each.body or not each.body.endswith(b"\n\n"):
            assert await each._next()
        looked_at.add(each.body.partition(mark)[2].partition(b"\n\n")[0])
        each.client.close()
    assert len(looked_at) == 1
    assert all(len(viewer._texts) <= BEHIND for viewer in observer._viewers)
    stalled.close()
    await eventually(lambda: not observer._viewers)


@pytest.mark.gen_test
async def test_the_event_stream_ends_with_the_token(serve: Serve) -> None:
    running = await serve(NOWHERE, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    token = jwt.encode({"exp": time.time() + 2}, KEY).encode()
    answer = await ask(running, get(b"/admin/events", b"Authorization: Bearer " + token))  # comes whole: it has ended
    assert answer.status == 200 and answer.body.startswith(b"retry: ")
    await eventually(lambda: not running.app.gateway.observer._viewers)


@pytest.mark.parametrize("by", ["token", "session"])
@pytest.mark.parametrize(
    "order", [{"jti": "7"}, {"subject": "|ada"}, {"session": "s-1"}], ids=["jti", "subject", "sid"]
)
@pytest.mark.gen_test
async def test_the_event_stream_ends_with_a_revocation(serve: Serve, order: dict[str, str], by: str) -> None:
    running = await serve(NOWHERE, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    ada = jwt.encode({"sub": "ada", "jti": "7", "sid": "s-1"}, KEY)
    credential = await log_in(running, ada) if by == "session" else b"Authorization: Bearer " + ada.encode()
    listener = await Listener.ask(running, get(b"/admin/events", credential))
    await listener.until(b"\n\n")
    root = b"Authorization: Bearer " + jwt.encode({"sub": "root"}, KEY).encode()
    request = get(b"/admin/api/revocations", root, method=b"POST", body=json.dumps(order).encode())
    assert (await ask(running, request, b"POST")).status == 201
    await eventually(lambda: not running.app.gateway.observer._viewers)
    listener.client.close()


@pytest.mark.gen_test
async def test_the_event_stream_ends_with_the_log_out(serve: Serve) -> None:
    running = await serve(NOWHERE, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    session = await log_in(running, jwt.encode({"sub": "ada"}, KEY))
    listener = await Listener.ask(running, get(b"/admin/events", session))
    await listener.until(b"\n\n")
    assert (await ask(running, form(b"/admin/logout", ORIGIN, session))).status == 303
    await eventually(lambda: not running.app.gateway.observer._viewers)
    listener.client.close()


@pytest.mark.parametrize("path", [b"/admin/", b"/admin/?a=b"])
@pytest.mark.gen_test
async def test_a_slash_behind_the_path_leads_to_the_page(serve: Serve, path: bytes) -> None:
    answer = await ask(await serve(NOWHERE), get(path))
    assert (answer.status, answer.get(b"location")) == (308, b"/admin")
    guarded = await serve(NOWHERE, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    problem(await ask(guarded, get(path, b"Accept: application/json")), 401, "unauthorized")


@pytest.mark.gen_test
async def test_a_drain_ends_the_event_stream_whole(serve: Serve) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    await client.send(get(b"/admin/events"))
    await eventually(lambda: running.app.gateway.observer._viewers)
    assert await running.app.drain()
    assert (await client.response()).body.endswith(b"\n\n")


@pytest.mark.gen_test
async def test_the_events_tell_of_refusals_and_of_the_gateways_own_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tornado_gateway")
    running = await serve({"svc": {"endpoints": NOWHERE["svc"], "rateLimitMax": 1}})
    observer = running.app.gateway.observer
    await observer.look()
    for _ in range(2):
        await ask(running, get(b"/api/svc/x"))
    logging.getLogger("tornado_gateway.audit").info("%s", "POST /admin/login by <script>\n\u202e")
    await observer.look()
    listener = await Listener.ask(running, get(b"/admin/events"))
    await listener.until(b"\n\n")
    fields = dict(line.split(": ", 1) for line in listener.body.decode().splitlines() if line)
    whole = json.loads(fields["data"])
    assert ["Rate limits", "svc: refused", 1] in whole["counts"]
    assert whole["refused"] == [["svc", "client 127.0.0.1", 1]]
    requests = [dict(zip(whole["columns"]["requests"], each, strict=True)) for each in whole["requests"]]
    assert [(each["status"], each["rank"]) for each in requests] == [(502, "failed"), (429, "fine")]
    assert "RATE_LIMIT_MAX" not in dict(whole["about"]["configuration"])  # the service has a value of its own
    assert "svc" in dict(whole["about"]["configuration"])["UPSTREAMS"]
    told = {each["text"]: each["level"] for each in json.loads(fields["data"])["events"]}
    assert told["POST /admin/login by <script>\\n\\u202e"] == "note"
    assert [level for text, level in told.items() if text.startswith("rate limit ")] == ["warning"]
    listener.client.close()


@pytest.mark.gen_test
async def test_the_configuration_is_shown_without_secrets(serve: Serve) -> None:
    running = await serve(NOWHERE, JWT_SECRET=KEY, AUTH_REQUIRED="true", RATE_LIMIT_MAX="7")
    shown = dict(running.app.gateway.observer._about["configuration"])  # type: ignore[call-overload]
    assert (shown["RATE_LIMIT_MAX"], shown["AUTH_REQUIRED"]) == ("7", "true")
    assert KEY not in json.dumps(running.app.gateway.observer._about)
    assert "RATE_LIMIT_WINDOW_MS" not in shown


@pytest.mark.gen_test
async def test_a_variable_that_is_cut_says_so(serve: Serve) -> None:
    running = await serve(NOWHERE, LOG_REDACT=",".join(f"name{number}" for number in range(1000)))
    shown = dict(running.app.gateway.observer._about["configuration"])  # type: ignore[call-overload]
    assert shown["LOG_REDACT"].endswith("…") and len(shown["LOG_REDACT"]) == 2001
