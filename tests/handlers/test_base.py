"""What all requests have in common: a request id, an error body, a line in the log."""

import json
import re

import pytest

from tests.conftest import Serve
from tests.support.journeys import CHUNKED, Start, ask, capture, problem, silent
from tests.support.sockets import chunked, echo, eventually, get
from tornado_gateway.handlers import ops

GENERATED = re.compile(rb"[0-9a-f]{32}")
NOWHERE = {"svc": ["http://127.0.0.1:1"]}


# ---------------------------------------------------------------- the id


# One of each kind of answer the gateway makes itself, by handlers and below them.
ANSWERS = {
    "page": (get(b"/healthz"), 200),
    "no such page": (get(b"/nothing"), 404),
    "wrong method": (get(b"/healthz", method=b"POST"), 405),
    "trace": (get(b"/api/svc/x", method=b"TRACE"), 405),
    "no such service": (get(b"/api/none/x"), 404),
    "climbs": (get(b"/api/svc/../x"), 400),
    "no connection": (get(b"/api/svc/x"), 502),
    "body too large": (get(b"/api/svc/x", b"Content-Length: 1000000", method=b"POST"), 413),
    "chunks too large": (get(b"/nothing", CHUNKED, method=b"POST") + chunked(b"a" * 70_000), 413),
    "unknown expectation": (get(b"/api/svc/x", b"Expect: x"), 417),
    "malformed": (b"GARBAGE\r\n\r\n", 400),
    "target too long": (get(b"/" + b"a" * 20_000), 414),
    "head too large": (get(b"/", *[b"X: y"] * 300), 431),
    "other version": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.gen_test
async def test_every_answer_has_an_id_a_log_line_and_if_it_is_an_error_a_problem(serve: Serve, case: str) -> None:
    request, status = ANSWERS[case]
    running = await serve(NOWHERE, MAX_BODY_BYTES="100000", VIA_NAME="edge")
    lines = capture(running)
    answer = await ask(running, request)
    id_ = answer.get(b"x-request-id") or b""
    assert (answer.status, answer.complete) == (status, True)
    assert GENERATED.fullmatch(id_)
    if status >= 400:
        problem(answer, status, json.loads(answer.body)["error"])
        assert (answer.get(b"proxy-status") or b"").startswith(b"edge; error=")
    assert answer.get(b"server") is None
    assert answer.get(b"date")
    await eventually(lines)
    (line,) = lines()
    assert (line["status"], line["requestId"], line["client"]) == (status, id_.decode(), "127.0.0.1")
    assert (line["reason"] == "") is (status == 200)
    assert line["bytesOut"] == len(answer.body)


@pytest.mark.parametrize(
    "target", [b"/healthz", b"/readyz", b"/nothing", b"/api/none/x", b"/api/svc/x", b"/api/svc/.."]
)
@pytest.mark.gen_test
async def test_the_id_of_a_request_is_kept_in_its_answer(serve: Serve, target: bytes) -> None:
    running = await serve(NOWHERE)
    assert (await ask(running, get(target, b"X-REQUEST-ID: my id".replace(b" id", b"-id")))).get(
        b"x-request-id"
    ) == b"my-id"


@pytest.mark.gen_test
async def test_an_id_that_was_read_is_kept_by_a_refusal_below_the_handlers(serve: Serve, upstream: Start) -> None:
    up = upstream(silent)
    running = await serve({"svc": [up.url]}, MAX_BODY_BYTES="70000")
    for target in (b"/api/svc/x", b"/nothing"):
        answer = await ask(running, get(target, b"x-request-id: mine", method=b"POST", body=b"a" * 70_001))
        assert (answer.status, answer.get(b"x-request-id")) == (413, b"mine")
    assert not any(request.complete for request in up.requests)


@pytest.mark.gen_test
async def test_ids_differ(serve: Serve) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    ids = [(await client.ask(get(b"/healthz"))).get(b"x-request-id") for _ in range(50)]
    assert len(set(ids)) == 50


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(("target", "status"), [(b"/api/none/x", 404), (b"/nothing", 404), (b"/api/svc/..", 400)])
@pytest.mark.gen_test
async def test_the_answer_to_head_is_that_to_get_without_its_body(serve: Serve, target: bytes, status: int) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    full = await client.ask(get(target, b"x-request-id: same"))
    bare = await client.ask(get(target, b"x-request-id: same", method=b"HEAD"), b"HEAD")
    assert (bare.status, client.buffer) == (status, b"")
    assert bare.get(b"content-length") == full.get(b"content-length") == b"%d" % len(full.body)
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.parametrize("target", [b"/api/none/x", b"/nothing", b"/api/svc/.."])
@pytest.mark.gen_test
async def test_a_refusal_by_route_keeps_the_connection(serve: Serve, target: bytes) -> None:
    running = await serve(NOWHERE)
    client = await running.client()
    for _ in range(3):
        assert (await client.ask(get(target))).get(b"connection") is None
    assert len(running.app.server.connections) == 1


@pytest.mark.gen_test
async def test_a_page_that_fails_is_a_500_that_tells_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(ops.HealthHandler, "get", fail)
    running = await serve(NOWHERE)
    lines = capture(running)
    client = await running.client()
    answer = await client.ask(get(b"/healthz?token=hunter2", b"Cookie: hunter2"))
    problem(answer, 500, "internal_error")
    assert b"secret" not in answer.body
    assert "GET /healthz failed" in caplog.text and "RuntimeError: secret" in caplog.text
    assert "hunter2" not in caplog.text
    await eventually(lines)
    assert (lines()[0]["status"], lines()[0]["reason"], lines()[0]["path"]) == (500, "internal_error", "/healthz")
    assert (await client.ask(get(b"/readyz"))).status == 200


@pytest.mark.gen_test
async def test_errors_that_are_answers_are_not_reported_as_faults(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    running = await serve(NOWHERE)
    for case in ANSWERS:
        await ask(running, ANSWERS[case][0])
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (get(b"/healthz?token=hunter2"), "/healthz"),
        (get(b"/nothing?token=hunter2"), "/nothing"),
        (get(b"/api/none/x?token=hunter2"), "/api/none/x"),
        (get(b"/api/svc/..?token=hunter2"), "/api/svc/.."),
        (get(b"http://u/api/none/x?token=hunter2"), "/api/none/x"),
        (get(b"/api/svc/x?token=hunter2", b"Expect: x"), "-"),
        (get(b"/api/svc/x?token=hunter2", method=b"POST", body=b"hunter2"), "/api/svc/x"),
        (get(b"/nothing?token=hunter2", method=b"POST", body=b"hunter2"), "/nothing"),
    ],
)
@pytest.mark.gen_test
async def test_no_line_holds_a_query_a_field_or_a_body(
    serve: Serve, upstream: Start, request_: bytes, path: str
) -> None:
    running = await serve({"svc": [upstream(echo).url]}, MAX_BODY_BYTES="5")
    lines = capture(running)
    secret = request_.replace(b"Host:", b"Authorization: Bearer hunter2\r\nCookie: hunter2\r\nHost:", 1)
    await ask(running, secret)
    await eventually(lines)
    (line,) = lines()
    assert line["path"] == path
    assert "hunter2" not in json.dumps(line)
