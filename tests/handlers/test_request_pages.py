"""The page of the newest requests."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.journeys import ask
from tests.support.sockets import get

SERVICES = {"svc": ["http://127.0.0.1:1"]}


@pytest.mark.gen_test
async def test_failed_requests_are_shown_with_their_reason(serve: Serve) -> None:
    running = await serve(SERVICES)
    await ask(running, get(b"/api/svc/x?secret=1", b"x-request-id: mine"))
    await ask(running, get(b"/nowhere"))
    await ask(running, get(b"/admin/api/services"))
    answer = await ask(running, get(b"/admin/api/requests"))
    said = json.loads(answer.body)
    assert said["matching"] == 2
    failed, other = said["requests"]
    assert {name: failed[name] for name in ("rank", "status", "reason", "path", "query", "service", "requestId")} == {
        "rank": "failed", "status": 502, "reason": "connect_failed", "path": "/api/svc/x", "query": "",
        "service": "svc", "requestId": "mine",
    }  # fmt: skip
    assert (other["status"], other["path"], other["client"]) == (404, "/nowhere", "127.0.0.1")


@pytest.mark.gen_test
async def test_without_an_access_log_requests_are_kept_all_the_same(serve: Serve) -> None:
    running = await serve(SERVICES, ACCESS_LOG="false")
    await ask(running, get(b"/api/svc/x"))
    said = json.loads((await ask(running, get(b"/admin/api/requests?rank=failed&limit=1"))).body)
    assert [each["reason"] for each in said["requests"]] == ["connect_failed"]


@pytest.mark.parametrize("query", [b"rank=bad", b"limit=0", b"limit=501", b"a=1", b"text=a&text=b"])
@pytest.mark.gen_test
async def test_a_wrong_query_is_refused(serve: Serve, query: bytes) -> None:
    running = await serve(SERVICES)
    assert (await ask(running, get(b"/admin/api/requests?" + query))).status == 400


@pytest.mark.gen_test
async def test_the_command_of_the_page_works(serve: Serve) -> None:
    running = await serve(SERVICES)
    page = (Path(__file__).resolve().parents[2] / "docs" / "control.md").read_text(encoding="utf-8")
    part = page.partition("<!-- requests -->")[2].partition("<!-- /requests -->")[0]
    (target,) = re.findall(r"'http://127\.0\.0\.1:8080([^']+)'", part)
    assert (await ask(running, get(target.encode()))).status == 200
