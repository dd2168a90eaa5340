"""The head of a service's response; test_http_proxy.py tests most of it."""

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask, plays
from tests.support.sockets import get
from tornado_gateway.handlers.response import safe_reason


@pytest.mark.parametrize(
    ("reason", "safe"),
    [
        (b"OK", b"OK"),
        (b"Not Found", b"Not Found"),
        (b"I'm a Tea-pot", b"I'm a Tea-pot"),
        (b"OK<script>", b""),
        (b"", b""),
        (b"\xe9", b""),
    ],
)
def test_a_reason_phrase_of_plain_words_is_forwarded(reason: bytes, safe: bytes) -> None:  # CVE-2025-67724
    assert safe_reason(reason) == safe


@pytest.mark.parametrize(("status", "has_one"), [(b"499 Oh", False), (b"500 Oh", True), (b"599 Oh", True)])
@pytest.mark.gen_test
async def test_a_service_that_failed_is_told_apart_from_the_gateway(
    serve: Serve, upstream: Start, status: bytes, has_one: bool
) -> None:  # RFC 9209
    up = upstream(plays(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status))
    running = await serve({"svc": [up.url]}, VIA_NAME="edge")
    answer = await ask(running, get(b"/api/svc/x"))
    assert answer.get(b"proxy-status") == (b"edge; received-status=%b" % status[:3] if has_one else None)
