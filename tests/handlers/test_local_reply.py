"""Local replies: their bodies and fields, and which clients get an event stream that makes them reconnect."""

import json

import pytest

from tests.conftest import Serve
from tests.support.journeys import ask, capture, only_line
from tests.support.sockets import get
from tornado_gateway.errors import (
    BadRequest,
    ConnectFailed,
    GatewayError,
    MethodNotAllowed,
    Overloaded,
    Unauthorized,
    UnknownService,
    UpstreamTimeout,
)
from tornado_gateway.handlers.local_reply import error_fields, problem
from tornado_gateway.policy.views.durations import Key


def test_a_problem_has_the_members_of_rfc_9457_and_ours() -> None:
    body = problem(UnknownService(), b"abc")
    assert body.endswith(b"\n")
    assert json.loads(body) == {
        "type": "urn:tornado-gateway:error:unknown_service",
        "title": "Not Found",
        "status": 404,
        "detail": "No service has this name.",
        "instance": "urn:tornado-gateway:request:abc",
        "error": "unknown_service",
        "message": "No service has this name.",
        "requestId": "abc",
    }


def test_a_problem_is_valid_json_for_any_message() -> None:
    said = json.loads(problem(BadRequest('"<é>\r\n'), b'a"b\\c'))
    assert (said["message"], said["requestId"]) == ('"<é>\r\n', 'a"b\\c')


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (BadRequest(), [(b"Proxy-Status", b"edge; error=http_request_error")]),
        (UpstreamTimeout(), [(b"Proxy-Status", b"edge; error=connection_timeout")]),
        (ConnectFailed(), [(b"Proxy-Status", b"edge; error=connection_refused")]),
        (Overloaded(retry_after=2.1),
         [(b"Retry-After", b"3"), (b"Proxy-Status", b"edge; error=connection_limit_reached")]),
        (MethodNotAllowed(["GET"]), [(b"Allow", b"GET"), (b"Proxy-Status", b"edge; error=http_request_denied")]),
        (Unauthorized(),
         [(b"WWW-Authenticate", b'Bearer realm="gateway"'), (b"Proxy-Status", b"edge; error=http_request_denied")]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_errors_fields_and_its_proxy_status_belong_to_its_answer(
    error: GatewayError, fields: list[tuple[bytes, bytes]]
) -> None:  # RFC 9209
    assert error_fields(error, b"edge") == fields


@pytest.mark.gen_test
async def test_a_refusal_below_the_handlers_takes_no_time_and_has_no_route(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]})
    lines = capture(running)
    assert (await ask(running, get(b"/api/svc/x", b"Expect: x"))).status == 417
    line = await only_line(lines)
    assert (line["status"], line["totalMs"], line["headMs"], line["attempts"]) == (417, 0.0, None, 0)
    ((key, histogram),) = running.app.gateway.durations
    assert (key, histogram.total) == (Key("OTHER", "other", "417", "", False), 0.0)
