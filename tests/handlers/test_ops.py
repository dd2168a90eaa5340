"""The gateway's word on itself."""

import json

import pytest

from tests.conftest import Serve
from tests.support.sockets import get

SERVICES = {"svc": ["http://127.0.0.1:1"]}


@pytest.mark.parametrize(("target", "said"), [(b"/healthz", "ok"), (b"/readyz", "ready")])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.gen_test
async def test_it_lives_and_is_ready(serve: Serve, target: bytes, said: str, method: bytes) -> None:
    client = await (await serve(SERVICES)).client()
    answer = await client.ask(get(target, b"x-request-id: abc", method=method), method)
    assert (answer.status, answer.get(b"x-request-id"), answer.get(b"cache-control")) == (200, b"abc", b"no-store")
    assert answer.body == (b"" if method == b"HEAD" else json.dumps({"status": said}).encode() + b"\n")
    assert answer.all(b"etag") + answer.all(b"server") == []


@pytest.mark.gen_test
async def test_while_draining_it_lives_but_is_not_ready(serve: Serve) -> None:
    running = await serve(SERVICES)
    running.app.gateway.lifecycle.draining = True
    client = await running.client()
    assert (await client.ask(get(b"/readyz"))).status == 503
    assert (await client.ask(get(b"/healthz"))).status == 200


@pytest.mark.parametrize("method", [b"POST", b"DELETE"])
@pytest.mark.gen_test
async def test_other_methods_are_told_which_are_allowed(serve: Serve, method: bytes) -> None:  # RFC 9110 §15.5.6
    client = await (await serve(SERVICES)).client()
    answer = await client.ask(get(b"/healthz", method=method))
    assert (answer.status, answer.get(b"allow")) == (405, b"GET, HEAD")
    assert json.loads(answer.body)["error"] == "method_not_allowed"


@pytest.mark.parametrize(
    "target", [b"/", b"/nothing", b"/api", b"/healthz/x", b"/HEALTHZ", b"//healthz", b"/%68ealthz", b"*"]
)
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"PROPFIND"])
@pytest.mark.gen_test
async def test_everything_else_is_a_404_by_any_method(serve: Serve, target: bytes, method: bytes) -> None:
    client = await (await serve(SERVICES)).client()
    answer = await client.ask(get(target, method=method))
    if target == b"*" and method != b"OPTIONS":  # RFC 9112 §3.2.4: the asterisk is for OPTIONS
        assert answer.status == 400
        return
    assert (answer.status, json.loads(answer.body)["error"]) == (404, "not_found")
    assert answer.get(b"proxy-status")


@pytest.mark.gen_test
async def test_trace_is_refused_everywhere(serve: Serve) -> None:
    client = await (await serve(SERVICES)).client()
    assert (await client.ask(get(b"/nothing", method=b"TRACE"))).status == 405
