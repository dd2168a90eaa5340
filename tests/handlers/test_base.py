"""What all answers of the gateway's own have in common."""

import json
import logging

import pytest
from tornado.web import Application, HTTPError, RequestHandler

from tests.conftest import Running, Serve
from tests.support.sockets import Message, get
from tornado_gateway.app import make_application
from tornado_gateway.errors import BadRequest, ContentTooLarge, GatewayError, MethodNotAllowed, Overloaded
from tornado_gateway.handlers.base import GatewayHandler, problem, proxy_fields

SERVICES = {"svc": ["http://127.0.0.1:1"]}


@pytest.mark.parametrize(
    "error", [BadRequest("why"), ContentTooLarge(), Overloaded(), MethodNotAllowed(), GatewayError()]
)
def test_a_problem_says_the_same_for_people_and_programs(error: GatewayError) -> None:  # RFC 9457
    said = json.loads(problem(error, b"abc"))
    assert said == {
        "type": f"urn:tornado-gateway:error:{error.code}", "title": said["title"], "status": error.status,
        "detail": error.message, "instance": "urn:tornado-gateway:request:abc", "error": error.code,
        "message": error.message, "requestId": "abc",
    }  # fmt: skip
    assert said["title"]
    assert said["message"]


def test_proxy_status_names_the_gateway_and_the_error() -> None:  # RFC 9209
    assert proxy_fields(Overloaded(retry_after=2), b"gw") == [
        (b"Retry-After", b"2"),
        (b"Proxy-Status", b"gw; error=connection_limit_reached"),
    ]


async def raw(running: Running, request: bytes, method: bytes = b"GET") -> Message:
    return await (await running.client()).ask(request, method)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GARBAGE\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
        (get(b"/" + b"a" * 17000), 414, "target_too_long"),
        (get(b"/", b"X: " + b"a" * 70000), 431, "head_too_large"),
        (get(b"/", *[b"X: 1"] * 250), 431, "head_too_large"),
        (get(b"/", b"Expect: x"), 417, "expectation_failed"),
        (get(b"/nothing", b"Content-Length: 70000", method=b"POST"), 413, "content_too_large"),
        (get(b"/api/none/x"), 404, "unknown_service"),
        (get(b"/nothing?" + b"&".join(b"k%d=v" % n for n in range(1001))), 400, "bad_request"),
    ],
)
@pytest.mark.gen_test
async def test_every_refusal_is_a_problem_with_an_id(serve: Serve, request_: bytes, status: int, code: str) -> None:
    running = await serve(SERVICES)
    answer = await raw(running, request_)
    said = json.loads(answer.body)
    assert (answer.status, said["status"], said["error"]) == (status, status, code)
    assert said["requestId"].encode() == answer.get(b"x-request-id")
    assert answer.get(b"content-type") == b"application/problem+json"


@pytest.mark.gen_test
async def test_a_refused_head_request_gets_no_body(serve: Serve) -> None:
    running = await serve(SERVICES)
    client = await running.client()
    answer = await client.ask(get(b"/api/none/x", method=b"HEAD"), b"HEAD")
    assert answer.status == 404
    assert (await client.ask(get(b"/healthz"))).status == 200  # so nothing stood behind the head


class Broken(GatewayHandler):
    def get(self) -> None:
        if self.get_argument("how") == "bug":
            raise RuntimeError("secret detail")
        raise HTTPError(418) if self.get_argument("how") == "teapot" else Overloaded("busy")


class Foreign(RequestHandler):
    def get(self) -> None:
        self.write("fine")


@pytest.mark.gen_test
async def test_a_bug_is_a_500_that_tells_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = await serve(SERVICES)
    application: Application = make_application(running.app.gateway)
    application.add_handlers(".*", [("/broken", Broken), ("/foreign", Foreign)])
    running.app.server.delegate._application = application  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR, "tornado.application"):
        answer = await raw(running, get(b"/broken?how=bug"))
    assert (answer.status, json.loads(answer.body)["error"]) == (500, "internal_error")
    assert b"secret" not in answer.body
    assert "secret detail" in caplog.text
    assert (await raw(running, get(b"/broken?how=busy"))).get(b"retry-after") == b"1"
    assert (await raw(running, get(b"/broken?how=teapot"))).status == 500
    assert (await raw(running, get(b"/foreign"))).body == b"fine"
