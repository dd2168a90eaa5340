"""The head of a service's response; test_http_proxy.py tests most of it."""

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask, plays
from tests.support.sockets import get


@pytest.mark.parametrize(("status", "has_one"), [(b"499 Oh", False), (b"500 Oh", True), (b"599 Oh", True)])
@pytest.mark.gen_test
async def test_a_service_that_failed_is_told_apart_from_the_gateway(
    serve: Serve, upstream: Start, status: bytes, has_one: bool
) -> None:  # RFC 9209
    up = upstream(plays(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status))
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    answer = await ask(running, get(b"/api/svc/x"))
    assert answer.get(b"proxy-status") == (b"edge; received-status=%b" % status[:3] if has_one else None)
