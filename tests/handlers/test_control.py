"""Acts on services: what changes, who may, what the log says, and what a wrong order is told."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, problem
from tests.support.operators import AUTH, ORIGIN, bearer, log_in, token
from tests.support.sockets import Message, echo, get

URLS = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
SERVICES = {"billing": URLS, "chat": ["http://127.0.0.1:3"]}
ACTS = ("drain", "undrain", "weight", "breaker")
OPERATOR = bearer(scope="admin")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")


async def act(running: Running, path: str, *fields: bytes, **said: object) -> Message:
    body = json.dumps(said).encode()
    request = get(f"/admin/api/{path}".encode(), *(fields or (OPERATOR,)), method=b"POST", body=body)
    return await ask(running, request, b"POST")


async def endpoints(running: Running, service: str = "billing") -> list[dict[str, Any]]:
    said = json.loads((await ask(running, get(b"/admin/api/services", OPERATOR))).body)
    ((found),) = [each["endpoints"] for each in said["services"] if each["service"] == service]
    return list(found)


async def done(running: Running, path: str, url: str = URLS[0], **said: object) -> dict[str, Any]:
    answer = await act(running, path, service="billing", endpoint=url, **said)
    assert answer.status == 200
    result: dict[str, Any] = json.loads(answer.body)
    return result


@pytest.mark.gen_test
async def test_a_drained_endpoint_gets_no_requests_until_the_drain_is_undone(serve: Serve, upstream: Start) -> None:
    ups = [upstream(echo), upstream(echo)]
    running = await serve({"billing": [each.url for each in ups]}, **AUTH, BALANCER="round_robin", SLOW_START_MS="0")

    async def asked() -> list[int]:
        for each in ups:
            each.requests.clear()
        for _ in range(4):
            assert (await ask(running, get(b"/api/billing/x", OPERATOR))).status == 200
        return [len(each.requests) for each in ups]

    assert await asked() == [2, 2]
    said = await done(running, "drain", ups[0].url)
    assert (said["state"], said["weight"], said["usable"]) == ("drained", 0, False)
    assert [each["state"] for each in await endpoints(running)] == ["drained", "up"]
    assert await asked() == [0, 4]
    said = await done(running, "undrain", ups[0].url)
    assert (said["service"], said["endpoint"], said["weight"]) == ("billing", ups[0].url, 1)
    assert await asked() == [2, 2]


@pytest.mark.gen_test
async def test_a_weight_and_a_breaker_are_changed(serve: Serve) -> None:
    running = await serve(SERVICES, **AUTH, SLOW_START_MS="0")
    assert (await done(running, "weight", weight=7))["weight"] == 7
    said = await done(running, "breaker", act="open", forMs=30_000)
    assert (said["state"], said["breaker"], said["breakerOpenForMs"]) == ("out", "open", 30_000)
    assert (await endpoints(running))[0]["breaker"] == "open"
    said = await done(running, "breaker", act="reset")
    assert (said["state"], said["breaker"], said["breakerOpenForMs"]) == ("up", "closed", 0)
    assert (await done(running, "breaker", act="open"))["breakerOpenForMs"] == 60_000


@pytest.fixture
def level() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.mark.usefixtures("level")
@pytest.mark.gen_test
async def test_the_log_level_is_changed(serve: Serve) -> None:
    running = await serve(SERVICES, **AUTH)
    for name, number in (("debug", logging.DEBUG), ("error", logging.ERROR)):
        assert json.loads((await act(running, "log-level", level=name)).body) == {"level": name}
        assert logging.getLogger().level == number
        assert json.loads((await ask(running, get(b"/admin/api/log-level", OPERATOR))).body) == {"level": name}


# ---------------------------------------------------------------- who may


@pytest.mark.gen_test
async def test_an_act_needs_the_scope_and_reading_does_not(serve: Serve) -> None:
    running = await serve(SERVICES, **AUTH, ADMIN_SCOPE="admin")
    assert (await ask(running, get(b"/admin/api/services", bearer()))).status == 200
    problem(await ask(running, get(b"/admin/api/services")), 401, "unauthorized")
    for path in (*ACTS, "log-level"):
        problem(await act(running, path, bearer(scope="read")), 403, "forbidden")
        problem(await act(running, path, b"Accept: */*"), 401, "unauthorized")
    assert [each["weight"] for each in await endpoints(running)] == [1, 1]


@pytest.mark.gen_test
async def test_a_session_acts_from_its_own_origin_alone(serve: Serve) -> None:
    running = await serve(SERVICES, **AUTH, ADMIN_SCOPE="admin")
    session = await log_in(running, token(scope="admin"))
    order = {"service": "billing", "endpoint": URLS[0]}
    for lines in ((session,), (session, b"Origin: http://evil.example"), (session, ORIGIN, b"Sec-Fetch-Site: none")):
        problem(await act(running, "drain", *lines, **order), 403, "forbidden")
    assert (await endpoints(running))[0]["weight"] == 1
    assert (await act(running, "drain", session, ORIGIN, **order)).status == 200


@pytest.mark.gen_test
async def test_nobody_acts_on_a_gateway_that_is_read_only(serve: Serve) -> None:
    running = await serve(SERVICES, **AUTH, ADMIN_READ_ONLY="true")
    for path in (*ACTS, "log-level", "revocations"):
        answer = await act(running, path, service="billing", endpoint=URLS[0])
        said = problem(answer, 405, "method_not_allowed")
        assert said["message"] == "ADMIN_READ_ONLY is true: no page changes something"
        options = await ask(running, get(f"/admin/api/{path}".encode(), OPERATOR, method=b"OPTIONS"), b"OPTIONS")
        assert b"POST" not in (answer.get(b"allow") or b"") + (options.get(b"allow") or b"")
    assert [each["weight"] for each in await endpoints(running)] == [1, 1]
    session = await log_in(running, token())
    assert (await ask(running, get(b"/admin/api/revocations", session))).status == 200


@pytest.mark.gen_test
async def test_each_act_has_a_line_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = await serve(SERVICES, **AUTH)
    with caplog.at_level(logging.INFO, "tornado_gateway.audit"):
        await done(running, "drain")
        await done(running, "undrain")
        await done(running, "weight", weight=7)
        await done(running, "breaker", act="open", forMs=60_000)
        await done(running, "breaker", act="reset")
        await act(running, "drain", service="billing", endpoint="http://evil\u202e\n")
    lines = [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"]
    place = f"{URLS[0]} of billing"
    assert lines == [
        f'POST /admin/api/drain by "id|ada" from 127.0.0.1: 200 (drained, before with weight 1, {place})',
        f'POST /admin/api/undrain by "id|ada" from 127.0.0.1: 200 (undrained, with weight 1, {place})',
        f'POST /admin/api/weight by "id|ada" from 127.0.0.1: 200 (gave weight 7 instead of 1 to {place})',
        f'POST /admin/api/breaker by "id|ada" from 127.0.0.1: 200 (opened for 60000 ms the breaker of {place})',
        f'POST /admin/api/breaker by "id|ada" from 127.0.0.1: 200 (reset the open breaker of {place})',
        'POST /admin/api/drain by "id|ada" from 127.0.0.1: 404',
    ]


# ---------------------------------------------------------------- wrong orders


@pytest.mark.parametrize(
    ("path", "said", "status", "complaint"),
    [
        ("drain", {}, 400, "service is missing; it must be a string of 1 to 2048 characters"),
        ("drain", {"service": "mail", "endpoint": URLS[0]}, 404, 'service is "mail", and must be one of billing, chat'),
        ("drain", {"service": "\udcff", "endpoint": "a"}, 404,
         'service is "\\udcff", and must be one of billing, chat'),
        ("undrain", {"service": "chat", "endpoint": URLS[0]}, 404,
         'endpoint is "http://127.0.0.1:1", and must be an endpoint of chat, as /admin/api/services has it'),
        ("weight", {"service": "billing", "endpoint": URLS[0], "weight": -1}, 400,
         "weight is -1, and must be a whole number from 0 to 1000000"),
        ("breaker", {"service": "billing", "endpoint": URLS[0]}, 400, "act is missing; it must be one of open, reset"),
        ("breaker", {"service": "billing", "endpoint": URLS[0], "act": "open", "forMs": 0}, 400,
         "forMs is 0, and must be a whole number from 1 to 86400000"),
        ("log-level", {"level": "loud"}, 400,
         'level is "loud", and must be one of fatal, error, warn, info, debug, trace, silent'),
    ],
    ids=range(8),
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_wrong_order_is_told_what_is_allowed(
    serve: Serve, path: str, said: dict[str, object], status: int, complaint: str
) -> None:
    running = await serve(SERVICES, **AUTH)
    answer = await act(running, path, **said)
    told = problem(answer, status, {400: "bad_request", 404: "not_found"}[status])
    assert told["message"] == complaint
    assert [each["weight"] for each in await endpoints(running)] == [1, 1]


# ---------------------------------------------------------------- the document

COMMAND = re.compile(
    r"curl -H \"Authorization: Bearer \$TOKEN\" http://127\.0\.0\.1:8080(/\S+)(?: \\\n +| )-d '([^']+)'"
)


@pytest.mark.usefixtures("level")
@pytest.mark.gen_test
async def test_the_commands_of_the_page_act(serve: Serve) -> None:
    running = await serve({"billing": ["http://10.0.0.7:9000", "http://10.0.0.8:9000"]}, **AUTH)
    commands = COMMAND.findall(DOCUMENT.partition("<!-- acts -->")[2].partition("<!-- /acts -->")[0])
    assert len(commands) == 6
    for path, body in commands:
        assert (await ask(running, get(path.encode(), OPERATOR, method=b"POST", body=body.encode()))).status == 200
    assert [(each["weight"], each["breaker"]) for each in await endpoints(running)] == [(3, "closed"), (1, "closed")]
