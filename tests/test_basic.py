"""HTTP Basic in whole journeys: who gets in, brute force, and what endpoints and logs see of the passwords."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from tests.conftest import Serve
from tests.policy.test_api_keys import mutated
from tests.support.credentials import API_KEYS, BASIC_USERS, OTHER_PASSWORD, PASSWORD, api_key, basic, credential
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import echo, eventually, get
from tests.test_keys import challenges, received
from tornado_gateway.adapters.authentication import TokenAuthenticator
from tornado_gateway.policy.attempts import MOST

ROOT = Path(__file__).parent.parent
SECRET = "s" * 32
BEARER = b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, SECRET).encode()
REQUIRED = {"AUTH_REQUIRED": "true", "BASIC_USERS": BASIC_USERS}
ASKED = b'Basic realm="gateway", charset="UTF-8"'


@pytest.mark.parametrize("path", [b"/api/svc/x", b"/sse/svc/x", b"/admin/stats"])
@pytest.mark.gen_test
async def test_a_password_is_needed_and_enough(serve: Serve, upstream: Start, path: bytes) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **REQUIRED)
    refused = await ask(running, get(path))
    said = problem(refused, 401, "unauthorized")
    assert challenges(refused) == [ASKED]
    wrong = [basic("ada", "wrong"), basic("eve", PASSWORD), basic("jürgen", PASSWORD), b"Authorization: Basic YWRh"]
    answers = [await ask(running, get(path, each, b"x-request-id: same")) for each in wrong]
    assert {each.status for each in answers} == {401}
    assert len({each.body for each in answers}) == 1  # nothing tells which part was wrong
    assert {tuple(challenges(each)) for each in answers} == {(ASKED,)}
    assert said["message"]
    for right in (basic(), basic("jürgen", OTHER_PASSWORD)):
        assert (await ask(running, get(path, right))).status == 200


@pytest.mark.parametrize(
    ("method", "origin", "status"),
    [
        (b"GET", b"http://evil.example", 200), (b"POST", b"", 200), (b"POST", b"http://evil.example", 403),
        (b"DELETE", b"null", 403), (b"POST", b"http://gateway.example", 200), (b"POST", b"https://app.example", 200),
        (b"POST", b"https://other.example", 200), (b"POST", b"https://plain.example", 403),
    ],
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_password_that_a_browser_remembers_is_none_for_a_page_of_another_origin(
    serve: Serve, upstream: Start, method: bytes, origin: bytes, status: int
) -> None:
    services = {
        "svc": {
            "endpoints": [upstream(echo).url],
            "corsAllowCredentials": True,
            "corsOrigins": "https://other.example",
        },
        "plain": {"endpoints": [upstream(echo).url], "corsOrigins": "https://plain.example"},
    }
    running = await serve(services, WS_ALLOWED_ORIGINS="https://app.example", **REQUIRED)
    fields = [basic(), *([b"Origin: " + origin] if origin else [])]
    path = b"/api/plain/x" if b"plain" in origin else b"/api/svc/x"
    assert (await ask(running, get(path, *fields, method=method))).status == status


@pytest.mark.gen_test
async def test_rules_may_be_mixed(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    rules = {
        "basic": ([401, 401, 401, 200], [ASKED]),
        "any": ([401, 200, 200, 200], [b'Bearer realm="gateway"', b'ApiKey realm="gateway"', ASKED]),
        "key": ([401, 200, 401, 401], [b'ApiKey realm="gateway"']),
    }
    services = {name: {"endpoints": [url], "auth": name} for name in rules}
    running = await serve(services, **REQUIRED, API_KEYS=API_KEYS, JWT_SECRET=SECRET)
    for name, (statuses, asked) in rules.items():
        path = f"/api/{name}/".encode()
        given = [(), (api_key(),), (BEARER,), (basic(),)]
        answers = [await ask(running, get(path, *each)) for each in given]
        assert [each.status for each in answers] == statuses, name
        assert challenges(answers[0]) == asked
    assert (await ask(running, get(b"/api/any/", api_key(), basic()))).status == 401
    assert (await ask(running, get(b"/api/key/", api_key(), basic()))).status == 200  # Basic is the service's own here


@pytest.mark.parametrize("hides", ["false", "true"])
@pytest.mark.gen_test
async def test_a_password_reaches_endpoints_unless_hidden_and_a_log_never(
    serve: Serve, upstream: Start, hides: str, caplog: pytest.LogCaptureFixture
) -> None:
    up = upstream(echo)
    services = {"svc": [up.url], "keys": {"endpoints": [up.url], "auth": "key"}}
    running = await serve(
        services, **REQUIRED, API_KEYS=API_KEYS, AUTH_HIDE_CREDENTIALS=hides, AUTH_CLAIM_HEADERS="sub:X-User-Id",
        AUTH_TOKEN_SOURCES="header:X-Gateway-Token",
    )  # fmt: skip
    lines = capture(running)
    assert (await ask(running, get(b"/api/svc/", basic()))).status == 200
    assert (received(up).get(b"authorization") is None) is (hides == "true")
    assert received(up)[b"x-user-id"] == b"basic:ada"
    logged = json.dumps(await only_line(lines)) + caplog.text
    assert PASSWORD not in logged and credential("ada", PASSWORD).decode() not in logged
    assert (await ask(running, get(b"/api/keys/", api_key(), basic("of", "the service")))).status == 200
    assert received(up)[b"authorization"] == b"Basic " + credential("of", "the service")


@pytest.mark.gen_test
async def test_brute_force_is_stopped_by_address(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **REQUIRED, TRUSTED_PROXIES="127.0.0.1")
    lines = capture(running)

    async def status(given: bytes, address: bytes = b"192.0.2.1") -> int:
        return (await ask(running, get(b"/api/svc/", given, b"X-Forwarded-For: " + address))).status

    assert await status(basic()) == 200
    tried = [await status(basic("ada", f"guess {number}")) for number in range(3 * MOST)]
    assert tried == [401] * MOST + [429] * 2 * MOST
    assert await status(basic("jürgen", OTHER_PASSWORD)) == 429  # whatever is right or wrong
    assert await status(basic()) == 200  # the verdict is known
    assert await status(basic("jürgen", OTHER_PASSWORD), b"192.0.2.2") == 200
    assert len(up.requests) == 3
    refused = await ask(running, get(b"/api/svc/", basic("eve", "x"), b"X-Forwarded-For: 192.0.2.1"))
    problem(refused, 429, "rate_limited")
    seconds = refused.get(b"retry-after")
    assert seconds and 1 <= int(seconds) <= 60
    await eventually(lambda: len(lines()) == 3 * MOST + 5)
    assert "failed_attempts" in {line["reason"] for line in lines()}
    assert "guess" not in json.dumps(lines())


@pytest.mark.gen_test
async def test_a_flood_from_many_addresses_gets_503_and_the_gateway_lives(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **REQUIRED, TRUSTED_PROXIES="127.0.0.1")
    clients = [await running.client() for _ in range(80)]

    async def one(number: int) -> int:
        fields = (basic("ada", f"guess {number}"), b"X-Forwarded-For: 192.0.2.%d" % number)
        return (await clients[number].ask(get(b"/api/svc/", *fields))).status

    flood = asyncio.gather(*map(one, range(80)))
    assert (await ask(running, get(b"/healthz"))).status == 200
    statuses = await flood
    assert set(statuses) == {401, 503}
    assert (await ask(running, get(b"/api/svc/", basic()))).status == 200


@pytest.mark.gen_test
async def test_a_gateway_that_stops_waits_for_no_password(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **REQUIRED)
    lines, client = capture(running), await running.client()
    await client.send(get(b"/api/svc/", basic()))
    authenticator = running.app.gateway.authenticator
    assert isinstance(authenticator, TokenAuthenticator) and authenticator._users
    users = authenticator._users
    await eventually(lambda: users._running or lines())
    await running.app.close()
    assert not users._running
    assert len(lines()) == 1


@pytest.mark.gen_test
async def test_a_thousand_mutations_of_a_credential_are_refused_on_the_wire(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **REQUIRED)
    right, rng, client = credential("ada", PASSWORD), random.Random(7), await running.client()
    candidates = (mutated(rng, right) for _ in range(3_000))
    tried = [each for each in candidates if all(32 < byte != 127 for byte in each) and each != right][:1_000]
    assert len(tried) == 1_000
    statuses = {(await client.ask(get(b"/api/svc/", b"Authorization: Basic " + each))).status for each in tried}
    assert statuses == {401, 429}
    assert up.accepted == 0


def test_the_command_makes_a_user_who_gets_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tornado_gateway", "hash", "password", "ada"]
    done = subprocess.run(command, cwd=ROOT, input=b"open sesame\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    file = tmp_path / "env"
    file.write_text(
        f'UPSTREAMS={{"a": ["http://127.0.0.1:1"]}}\nAUTH_REQUIRED=true\nBASIC_USERS={done.stdout.decode()}'
    )
    checked = subprocess.run(
        [sys.executable, "-m", "tornado_gateway", "--check", "--env-file", file],
        cwd=ROOT, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"configuration ok\n", b"")
