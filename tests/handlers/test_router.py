"""Which journey a request takes, decided by the first bytes of its raw target."""

from collections.abc import Callable

import pytest

from tests.conftest import Serve
from tests.support.sockets import Upstream, echo, get
from tornado_gateway.handlers.router import MAX_OWN_BODY


@pytest.mark.parametrize(
    ("target", "proxied"),
    [
        (b"/api/svc/x", True), (b"/api/svc", True), (b"http://gateway.example/api/svc/x", True), (b"/api", False),
        (b"/Api/svc/x", False), (b"//api/svc/x", False), (b"/%61pi/svc/x", False), (b"/./api/svc/x", False),
        (b"/healthz/../api/svc/x", False), (b"/x?/api/svc/x", False),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_only_the_exact_prefix_is_proxied(
    serve: Serve, upstream: Callable[..., Upstream], target: bytes, proxied: bool
) -> None:
    up = upstream(echo)
    client = await (await serve({"svc": [up.url]})).client()
    answer = await client.ask(get(target))
    assert (answer.status, len(up.requests)) == ((200, 1) if proxied else (404, 0))


@pytest.mark.gen_test
async def test_a_proxied_body_has_no_limit_but_one_for_our_own_pages_has(
    serve: Serve, upstream: Callable[..., Upstream]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    body = b"a" * (MAX_OWN_BODY + 1)
    assert (await (await running.client()).ask(get(b"/api/svc/x", method=b"POST", body=body))).status == 200
    assert up.requests[0].body == body
    for request in (
        get(b"/nothing", method=b"POST", body=body),
        get(b"/nothing", b"Content-Length: 3000000000", method=b"POST"),
    ):
        assert (await (await running.client()).ask(request)).status == 413
