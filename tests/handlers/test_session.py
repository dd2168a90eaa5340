"""The session of an operator in requests: which cookie counts, where, and until when."""

import time

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, problem
from tests.support.operators import AUTH, ORIGIN, bearer, cookie_of, form, log_in, token
from tests.support.sockets import echo, get
from tests.support.websockets import HANDSHAKE

NOWHERE = {"svc": ["http://127.0.0.1:1"]}
STATS = b"/admin/stats"


def turn_clock(running: Running, seconds: float) -> None:
    """Set the gateway's clock ahead."""
    now = running.app.gateway.now
    object.__setattr__(running.app.gateway, "now", lambda: now() + seconds)


async def status(running: Running, *lines: bytes, target: bytes = STATS) -> int:
    return (await ask(running, get(target, *lines))).status


@pytest.mark.gen_test
async def test_a_session_is_a_credential_for_pages_below_admin_alone(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **AUTH, METRICS_AUTH="true", AUTH_TOKEN_SOURCES="header,ticket")
    session = await log_in(running, token())
    inside = [await status(running, session, target=each) for each in (b"/admin", STATS, b"/admin/nothing")]
    assert inside == [200, 200, 404]
    outside = (b"/api/svc/x", b"/sse/svc/x", b"/metrics", b"/_pressure")
    assert [await status(running, session, target=each) for each in outside] == [401] * 4
    assert await status(running, session, *HANDSHAKE, target=b"/ws/svc/x") == 401
    ticket = get(b"/auth/ticket", session, ORIGIN, method=b"POST", body=b'{"service": "svc"}')
    assert (await ask(running, ticket)).status == 401
    assert up.accepted == 0


@pytest.mark.gen_test
async def test_a_session_needs_its_cookie_whole(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    name, _, value = session.removeprefix(b"Cookie: ").partition(b"=")
    wrong = (
        name + b"=", name + b"=" + value[:-1], name + b"=" + value + b"x", b"__Secure-" + name + b"=" + value,
        name.upper() + b"=" + value, name + b'="' + value + b'"', name,
    )  # fmt: skip
    assert [await status(running, b"Cookie: " + each) for each in wrong] == [401] * len(wrong)
    assert await status(running, session + b"; other=1") == 200
    assert await status(running, b"Cookie: %b=planted; %b=%b" % (name, name, value)) == 200


@pytest.mark.gen_test
async def test_two_sessions_at_once_are_none(serve: Serve) -> None:
    """A script of a service on the same host can add a cookie: nobody is made somebody else by that."""
    running = await serve(NOWHERE, **AUTH)
    one, other = await log_in(running, token()), await log_in(running, token(sub="eve"))
    assert await status(running, one + b"; " + other.removeprefix(b"Cookie: ")) == 401


@pytest.mark.gen_test
async def test_a_session_ends_without_requests(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, ADMIN_SESSION_IDLE_MS="60000")
    session = await log_in(running, token())
    for _ in range(3):
        turn_clock(running, 55)
        assert await status(running, session) == 200
    turn_clock(running, 61)
    assert await status(running, session) == 401


@pytest.mark.gen_test
async def test_a_session_ends_however_much_it_is_used(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, ADMIN_SESSION_MAX_MS="120000")
    session = await log_in(running, token())
    turn_clock(running, 119)
    assert await status(running, session) == 200
    turn_clock(running, 2)
    assert await status(running, session) == 401


@pytest.mark.gen_test
async def test_a_session_ends_with_its_token(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token(exp=int(time.time()) + 600))
    turn_clock(running, 590)
    assert await status(running, session) == 200
    turn_clock(running, 20)
    assert await status(running, session) == 401


@pytest.mark.gen_test
async def test_behind_https_the_cookie_is_for_https_alone(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, TRUSTED_PROXIES="127.0.0.1")
    https = b"X-Forwarded-Proto: https"
    answer = await ask(running, form(b"/admin/login", https, b"Origin: https://gateway.example", credential=token()))
    given, session = answer.get(b"set-cookie"), cookie_of(answer)
    assert given and given.startswith(b"__Secure-gateway_session=") and b"; Secure" in given
    assert await status(running, session, https) == 200
    assert await status(running, session) == 401
    plain = session.replace(b"__Secure-", b"")
    assert await status(running, plain, https) == 401  # which an http page of the same host could have planted


@pytest.mark.gen_test
async def test_a_valid_session_is_enough_beside_another_credential(serve: Serve) -> None:
    """A proxy in front may ask for Basic credentials of its own, and pass them on."""
    running = await serve(NOWHERE, **AUTH)
    session = await log_in(running, token())
    assert await status(running, session, b"Authorization: Basic YTpi") == 200
    assert await status(running, b"Cookie: gateway_session=x", bearer()) == 200


@pytest.mark.parametrize("kind", ["api", "sse", "ws"])
@pytest.mark.gen_test
async def test_a_session_reaches_no_endpoint(serve: Serve, upstream: Start, kind: str) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]})
    lines = HANDSHAKE if kind == "ws" else ()
    cookie = b"Cookie: a=1; gateway_session=secret; __Secure-gateway_session=secret; b=2"
    await ask(running, get(b"/%b/svc/x" % kind.encode(), *lines, cookie, b"cookie: gateway_session=secret"))
    assert up.requests[0].all(b"cookie") == [b"a=1; b=2"]
    assert "secret" not in repr(up.requests[0])


@pytest.mark.gen_test
async def test_a_log_in_ends_the_session_before(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    before = await log_in(running, token())
    after = await log_in(running, token(), before)
    assert before != after
    assert [await status(running, each) for each in (before, after)] == [401, 200]


@pytest.mark.gen_test
async def test_a_session_that_nobody_made_is_not_taken_over(serve: Serve) -> None:  # session fixation
    running = await serve(NOWHERE, **AUTH)
    planted = b"Cookie: gateway_session=" + b"a" * 43
    given = await log_in(running, token(), planted)
    assert given != planted
    problem(await ask(running, get(STATS, planted)), 401, "unauthorized")


@pytest.mark.gen_test
async def test_tokens_of_sessions_cannot_be_guessed(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH)
    given = {(await log_in(running, token())).partition(b"=")[2] for _ in range(5)}
    assert len(given) == 5
    assert {len(each) for each in given} == {43}  # 256 bits in base64url
