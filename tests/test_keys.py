"""API keys in whole journeys: who gets in, what a 401 says, and what endpoints and logs see of the keys."""

import json
import random

import jwt
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from tests.conftest import Serve
from tests.policy.test_api_keys import mutated
from tests.support.credentials import API_KEYS, KEY, api_key, basic
from tests.support.journeys import Start, ask, capture, only_line, problem
from tests.support.sockets import Message, Upstream, echo, get

SECRET = "s" * 32
BEARER = b"Authorization: Bearer " + jwt.encode({"sub": "ada", "scope": "read"}, SECRET).encode()
REQUIRED = {"AUTH_REQUIRED": "true", "API_KEYS": API_KEYS}


def challenges(answer: Message) -> list[bytes]:
    return [value for name, value in answer.fields if name.lower() == b"www-authenticate"]


def received(up: Upstream) -> dict[bytes, bytes]:
    """The fields that the endpoint has received of the last request."""
    return {name.lower(): value for name, value in up.requests[-1].fields}


@pytest.mark.parametrize("path", [b"/api/svc/x", b"/sse/svc/x", b"/own/x", b"/admin/stats"])
@pytest.mark.gen_test
async def test_a_key_is_needed_and_enough(serve: Serve, upstream: Start, path: bytes) -> None:
    routes = json.dumps([{"path": "/own/*", "service": "svc"}])
    running = await serve({"svc": [upstream(echo).url]}, ROUTES=routes, **REQUIRED)
    refused = await ask(running, get(path))
    problem(refused, 401, "unauthorized")
    assert challenges(refused) == [b'ApiKey realm="gateway"']
    wrong = await ask(running, get(path, api_key(KEY + "x")))
    problem(wrong, 401, "unauthorized")
    assert challenges(wrong) == challenges(refused)
    for other in (BEARER, basic(), b"X_API_Key: " + KEY.encode(), b"Cookie: x-api-key=" + KEY.encode()):
        assert (await ask(running, get(path, other))).status == 401
    assert (await ask(running, get(path, api_key()))).status == 200
    problem(await ask(running, get(path, api_key(), api_key())), 400, "bad_request")


@pytest.mark.gen_test
async def test_a_websocket_may_come_with_a_key(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(echo).url]}, **REQUIRED)
    for fields, status in (({}, 401), ({"X-API-Key": KEY}, 502)):  # the endpoint knows no WebSockets
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(f"ws://127.0.0.1:{running.port}/ws/svc/", additional_headers=fields, proxy=None)
        assert refused.value.response.status_code == status


RULES = {
    # by service: the statuses without a credential, with a key, with a token, with both
    "open": ("none", [200, 200, 200, 200]),
    "keys": ("key", [401, 200, 401, 200]),
    "tokens": ("jwt", [401, 401, 200, 200]),
    "either": ("any", [401, 200, 200, 401]),
}


@pytest.mark.gen_test
async def test_each_service_and_route_asks_for_its_own_kinds(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    services = {name: {"endpoints": [up.url], "auth": rule} for name, (rule, _) in RULES.items()}
    services["svc"] = {"endpoints": [up.url]}
    routes = [{"path": f"/{name}/*", "service": "svc", "auth": rule} for name, (rule, _) in RULES.items()]
    running = await serve(services, ROUTES=json.dumps(routes), API_KEYS=API_KEYS, JWT_SECRET=SECRET)
    given = [(), (api_key(),), (BEARER,), (api_key(), BEARER)]
    for name, (_, statuses) in RULES.items():
        for path in (f"/api/{name}/", f"/{name}/"):
            assert [(await ask(running, get(path.encode(), *each))).status for each in given] == statuses, path
    # Routes of different kinds lead to the service, so that no credential is enough for all.
    assert [(await ask(running, get(b"/api/svc/", *each))).status for each in given] == [401] * 4


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/api/either/", [b'Bearer realm="gateway"', b'ApiKey realm="gateway"']),
        (b"/api/keys/", [b'ApiKey realm="gateway"']),
        (b"/api/tokens/", [b'Bearer realm="gateway"']),
        (b"/admin/stats", [b'Bearer realm="gateway"', b'ApiKey realm="gateway"']),
    ],
)
@pytest.mark.gen_test
async def test_a_401_names_what_is_accepted(serve: Serve, path: bytes, expected: list[bytes]) -> None:
    services = {name: {"endpoints": ["http://127.0.0.1:1"], "auth": rule} for name, (rule, _) in RULES.items()}
    running = await serve(services, **REQUIRED, JWT_SECRET=SECRET)
    refused = await ask(running, get(path))
    assert (refused.status, challenges(refused)) == (401, expected)
    wrong = await ask(running, get(path, b"Authorization: Bearer a.b.c"))
    invalid = [each + b', error="invalid_token"' * each.startswith(b"Bearer") for each in expected]
    assert (wrong.status, challenges(wrong)) == (401, invalid)


@pytest.mark.gen_test
async def test_a_key_needs_every_scope(serve: Serve, upstream: Start) -> None:
    url = upstream(echo).url
    services = {"svc": {"endpoints": [url], "scopes": "write,read"}, "more": {"endpoints": [url], "scopes": "admin"}}
    running = await serve(services, API_KEYS=API_KEYS)
    lines = capture(running)
    refused = await ask(running, get(b"/api/more/", api_key()))
    problem(refused, 403, "forbidden")
    assert refused.get(b"www-authenticate") is None  # RFC 6750 speaks of tokens alone
    assert (await only_line(lines))["reason"] == "insufficient_scope"
    assert (await ask(running, get(b"/api/svc/", api_key()))).status == 200


@pytest.mark.parametrize("hides", ["false", "true"])
@pytest.mark.gen_test
async def test_a_key_reaches_endpoints_unless_hidden_and_a_log_never(serve: Serve, upstream: Start, hides: str) -> None:
    up = upstream(echo)
    services = {"svc": [up.url], "open": {"endpoints": [up.url], "auth": "none"}}
    running = await serve(
        services, **REQUIRED, AUTH_HIDE_CREDENTIALS=hides, AUTH_CLAIM_HEADERS="sub:X-User-Id,scope:X-Scopes"
    )
    lines = capture(running)
    assert (await ask(running, get(b"/api/svc/", api_key(), b"Authorization: Basic YTpi"))).status == 200
    fields = received(up)
    assert (KEY.encode() in fields.values()) is (hides == "false")
    assert (fields[b"x-user-id"], fields[b"x-scopes"]) == (b"key:ci", b"read write")
    assert KEY not in json.dumps(await only_line(lines))
    assert (await ask(running, get(b"/api/open/", b"X-API-Key: of-the-service"))).status == 200
    assert received(up)[b"x-api-key"] == b"of-the-service"  # not looked for


@pytest.mark.gen_test
async def test_the_key_of_a_service_passes_where_keys_are_not_asked_for(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    services = {"svc": {"endpoints": [up.url], "auth": "jwt"}}
    running = await serve(services, **REQUIRED, JWT_SECRET=SECRET, AUTH_HIDE_CREDENTIALS="true")
    assert (await ask(running, get(b"/api/svc/", BEARER, b"X-API-Key: of-the-service"))).status == 200
    assert (received(up).get(b"x-api-key"), received(up).get(b"authorization")) == (b"of-the-service", None)


@pytest.mark.gen_test
async def test_no_copy_of_a_key_reaches_an_endpoint(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **REQUIRED, JWT_SECRET=SECRET)
    for credential in (api_key(), BEARER):
        assert (await ask(running, get(b"/api/svc/", credential, b"X_Api_Key: of-another"))).status == 200
        assert b"of-another" not in received(up).values()


@pytest.mark.gen_test
async def test_a_revoked_key_is_refused_as_a_key_that_never_was(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": {"endpoints": [upstream(echo).url], "auth": "any"}}, **REQUIRED, JWT_SECRET=SECRET)
    fields = (b"x-request-id: same",)
    assert (await ask(running, get(b"/api/svc/", api_key()))).status == 200
    order = get(b"/admin/api/revocations", BEARER, method=b"POST", body=b'{"subject": "key:ci"}')
    assert (await ask(running, order, b"POST")).status == 201
    revoked = await ask(running, get(b"/api/svc/", api_key(), *fields))
    wrong = await ask(running, get(b"/api/svc/", api_key(KEY + "x"), *fields))
    assert (revoked.status, revoked.body, challenges(revoked)) == (401, wrong.body, challenges(wrong))


@pytest.mark.gen_test
async def test_limits_count_keys_by_name(serve: Serve, upstream: Start) -> None:
    newer = "new:a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718"
    running = await serve(
        {"svc": [upstream(echo).url]}, AUTH_REQUIRED="true", API_KEYS=f"{API_KEYS} {newer}",
        RATE_LIMITS="2/h;key=principal",
    )  # fmt: skip
    assert [(await ask(running, get(b"/api/svc/", api_key()))).status for _ in range(3)] == [200, 200, 429]


@pytest.mark.gen_test
async def test_a_thousand_mutations_of_a_key_are_refused_on_the_wire(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, **REQUIRED)
    lines, rng, client = capture(running), random.Random(7), await running.client()
    tried = [each for each in (mutated(rng, KEY.encode()) for _ in range(3_000)) if is_another_value(each)][:1_000]
    assert len(tried) == 1_000
    for each in tried:
        assert (await client.ask(get(b"/api/svc/", b"X-API-Key: " + each))).status == 401
    assert up.accepted == 0
    assert KEY not in json.dumps(lines())


def is_another_value(value: bytes) -> bool:
    """Whether a field may hold the value, and the value is not the key."""
    is_field = all(byte == 9 or 32 <= byte != 127 for byte in value)
    return is_field and value.strip(b" \t") != KEY.encode()
