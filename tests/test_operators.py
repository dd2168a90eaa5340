"""Operators beside services: cookies of the gateway's own, /admin of a service, and a listener for operators alone."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import jwt
import pytest

from tests.conftest import Running, Serve, make_settings
from tests.support.examples import environments
from tests.support.journeys import Start, ask, problem
from tests.support.operators import AUTH, BROWSER, ORIGIN, bearer, cookie_of, form, token
from tests.support.sockets import Client, Message, Peer, echo, eventually, get, reply
from tests.support.websockets import HANDSHAKE, accepting
from tests.test_documents import code, documents, rows
from tornado_gateway.app import App, CannotListen

NOWHERE = {"svc": ["http://127.0.0.1:1"]}

# ---------------------------------------------------------------- cookies

PLANTED = (
    b"Set-Cookie: gateway_session=evil; Path=/admin", b"set-cookie: __Secure-gateway_session=evil; Secure",
    b"Set-Cookie: =gateway_session=evil", b"Set-Cookie: gw_sticky=evil; Path=/",
)  # fmt: skip
HARMLESS = (b"Set-Cookie: sid=1; Path=/", b"Set-Cookie: gw_svc=1", b"Set-Cookie: gw_nobody=1")


async def planting(peer: Peer) -> None:
    """An endpoint that sets cookies of the gateway's own, also in an interim response."""
    while True:
        request = await peer.request()
        if request.get(b"upgrade"):
            await peer.send(accepting(request, *PLANTED, *HARMLESS))
            await peer.ended()
        await peer.send(b"\r\n".join((b"HTTP/1.1 103 Early Hints", *PLANTED, *HARMLESS)) + b"\r\n\r\n")
        await peer.send(reply(fields=(*PLANTED, *HARMLESS)))


def values(answer: Message) -> set[bytes]:
    """The cookies that an answer sets, without the attributes."""
    return {each.partition(b";")[0] for each in answer.all(b"set-cookie")}


@pytest.mark.parametrize("kind", ["api", "sse", "ws", "route"])
@pytest.mark.gen_test
async def test_no_service_sets_a_cookie_of_the_gateways(serve: Serve, upstream: Start, kind: str) -> None:
    services = {"svc": [upstream(planting).url], "sticky": {"endpoints": ["http://127.0.0.1:1"], "sticky": "refuse"}}
    running = await serve(services, ROUTES=json.dumps([{"path": "/route/*", "service": "svc"}]))
    path, lines = (b"/route/x" if kind == "route" else b"/%b/svc/x" % kind.encode()), HANDSHAKE if kind == "ws" else ()
    client = await running.client()
    await client.send(get(path, *lines))
    answer = await (client.head() if kind == "ws" else client.response())
    assert answer.status == (101 if kind == "ws" else 200)
    assert values(answer) == {b"sid=1", b"gw_svc=1", b"gw_nobody=1"}
    assert [values(each) for each in answer.interim] == ([] if kind == "ws" else [values(answer)])
    client.close()


@pytest.mark.gen_test
async def test_a_service_with_sessions_sets_no_sticky_cookie_itself(serve: Serve, upstream: Start) -> None:
    running = await serve({"sticky": {"endpoints": [upstream(planting).url], "sticky": "refuse"}})
    found = values(await ask(running, get(b"/api/sticky/x")))
    assert b"gw_sticky=evil" not in found
    assert [each for each in found if each.startswith(b"gw_sticky=")]


@pytest.mark.gen_test
async def test_admin_of_a_service_on_a_host_of_its_own_is_the_services(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    services = {"chat": {"endpoints": [up.url], "auth": "none"}}
    routes = json.dumps([{"host": "chat.example.com", "path": "/*", "service": "chat"}])
    running = await serve(services, ROUTES=routes, **AUTH)
    for path in (b"/admin", b"/admin/login", b"/admin/stats", b"/metrics"):
        assert (await ask(running, get(path, host=b"chat.example.com"))).status == 200
    assert [each.target for each in up.requests] == [b"/admin", b"/admin/login", b"/admin/stats", b"/metrics"]
    problem(await ask(running, get(b"/admin", host=b"gateway.example")), 401, "unauthorized")


# ---------------------------------------------------------------- a listener for operators

OPERATORS = [b"/admin", b"/admin/stats", b"/admin/login", b"/metrics", b"/_pressure"]
HEALTH = [b"/healthz", b"/readyz"]


async def ask_operators(running: Running, request: bytes, method: bytes = b"GET") -> Message:
    """Send a request to the listener for operators."""
    ((_, port),) = running.app.admin_addresses
    running.clients.append(await Client.connect(port))
    return await running.clients[-1].ask(request, method)


@pytest.mark.gen_test
async def test_each_listener_has_its_pages_alone(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    routes = json.dumps([{"path": "/*", "service": "svc"}])
    running = await serve({"svc": [up.url]}, ROUTES=routes, ADMIN_PORT="0")
    for path in OPERATORS:
        answer = await ask(running, get(path, BROWSER))
        problem(answer, 404, "not_found")  # not the route's, either
        assert (await ask_operators(running, get(path))).status in (200, 303)
    for path in HEALTH:
        assert (await ask(running, get(path))).status == 200
        assert (await ask_operators(running, get(path))).status == 200
    for path in (b"/", b"/x", b"/api/svc/x", b"/sse/svc/x", b"/ws/svc/x"):
        problem(await ask_operators(running, get(path)), 404, "not_found")
    problem(await ask_operators(running, get(b"/ws/svc/x", *HANDSHAKE)), 404, "not_found")
    assert up.accepted == 0
    assert (await ask(running, get(b"/x"))).status == 200


@pytest.mark.gen_test
async def test_pages_that_are_elsewhere_are_like_unknown_pages(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, ADMIN_PORT="0")
    same = b"x-request-id: same"
    answers = [await ask(running, get(path, same, BROWSER, bearer())) for path in (*OPERATORS, b"/nothing")]
    assert len({(each.start, each.body, tuple(name for name, _ in each.fields)) for each in answers}) == 1


@pytest.mark.gen_test
async def test_operators_log_in_at_their_listener(serve: Serve) -> None:
    running = await serve(NOWHERE, **AUTH, ADMIN_PORT="0")
    problem(await ask_operators(running, get(b"/admin/stats")), 401, "unauthorized")
    answer = await ask_operators(running, form(b"/admin/login", ORIGIN, credential=token()))
    assert answer.status == 303
    assert (await ask_operators(running, get(b"/admin/stats", cookie_of(answer)))).status == 200


@pytest.mark.gen_test
async def test_a_gateway_full_of_clients_still_serves_operators(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PORT="0", MAX_CONNECTIONS="1")
    held = await running.client()
    assert (await held.ask(get(b"/healthz"))).status == 200
    assert (await ask(running, get(b"/healthz"))).status == 503
    assert (await ask_operators(running, get(b"/admin/stats"))).status == 200


@pytest.mark.gen_test
async def test_a_drain_is_announced_at_both_listeners(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PORT="0", SHUTDOWN_DELAY_MS="60000")
    draining = asyncio.ensure_future(running.app.drain())
    await eventually(lambda: running.app.gateway.lifecycle.draining)
    for asking in (ask, ask_operators):
        answer = await asking(running, get(b"/readyz"))
        assert (answer.status, answer.get(b"connection")) == (503, b"close")
    draining.cancel()


@pytest.mark.gen_test
async def test_a_drain_closes_both_listeners(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PORT="0")
    ports = running.port, running.app.admin_addresses[0][1]
    assert await running.app.drain() is True
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(port)


@pytest.mark.gen_test
async def test_an_address_that_is_taken_names_its_variables(serve: Serve) -> None:
    running = await serve(NOWHERE, ADMIN_PORT="0")
    ((_, port),) = running.app.admin_addresses
    app = App(make_settings(NOWHERE, ADMIN_PORT=str(port)))
    with pytest.raises(CannotListen, match=rf"^ADMIN_HOST, ADMIN_PORT: cannot listen on 127\.0\.0\.1:{port}: "):
        await app.start()
    await app.close()


@pytest.mark.gen_test
async def test_a_control_socket_that_is_taken_names_its_variable(serve: Serve, tmp_path: Path) -> None:
    path = str(tmp_path / "ctl.sock")
    await serve(NOWHERE, CTL_SOCKET=path)
    app = App(make_settings(NOWHERE, CTL_SOCKET=path))
    with pytest.raises(CannotListen, match=f"^CTL_SOCKET: cannot listen on {path}: another process listens there$"):
        await app.start()
    await app.close()


# ---------------------------------------------------------------- the documents

_COMMAND = re.compile(r"^(curl .*?) +# ([0-9]{3})", re.MULTILINE)


def block(page: str, name: str) -> str:
    """What stands on a page of docs/ between the marks of a name."""
    return documents()[page].partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]


def status_of(command: str, folder: Path, variables: dict[str, str]) -> str:
    """Run a command with curl; the status."""
    quiet = command.replace("curl ", "curl -s -o /dev/null -w '%{http_code}' --max-time 20 --noproxy '*' ", 1)
    done = subprocess.run(
        ["bash", "-c", quiet], cwd=folder, env=variables | {"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.gen_test
async def test_the_commands_of_the_page_answer_as_the_page_says(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    (env,) = environments(block("docs/authentication.md", "operators"))
    assert json.loads(env.pop("UPSTREAMS")) == {"billing": ["http://127.0.0.1:9000"]}
    running = await serve({"billing": [upstream(echo).url]}, **env)
    given = {"TOKEN": jwt.encode({"sub": "ada", "iss": "id"}, env["JWT_SECRET"])}
    commands = _COMMAND.findall(block("docs/authentication.md", "log-in"))
    assert len(commands) == 8
    for command, status in commands:
        own = command.replace("127.0.0.1:8080", f"127.0.0.1:{running.port}")
        assert await asyncio.to_thread(status_of, own, tmp_path, given) == status, command


@pytest.mark.gen_test
async def test_the_listeners_have_the_pages_of_the_table(serve: Serve, upstream: Start) -> None:
    (env,) = environments(block("docs/operation.md", "listener"))
    assert env.pop("ADMIN_PORT") == "9090" and env.pop("UPSTREAMS")
    running = await serve({"billing": [upstream(echo).url]}, **env, ADMIN_PORT="0")
    for page, main, operators in rows(documents()["docs/operation.md"], "pages"):
        for path in code(page):
            method = b"HEAD" if path == "/admin/events" else b"GET"  # events go on for ever
            request = get(path.encode(), method=method)
            assert (await ask(running, request, method)).status == int(main.replace("a service", "200"))
            assert (await ask_operators(running, request, method)).status == int(operators)
