"""Keys of an issuer, a real server: fetched, renewed, and kept while the issuer is down, slow or wrong."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, problem
from tests.support.sockets import Peer, Script, Upstream, echo, eventually, get, reply
from tornado_gateway.adapters.jwt_auth import read_key_set
from tornado_gateway.adapters.signing_keys import VerifyingKey
from tornado_gateway.upkeep import key_set as module
from tornado_gateway.upkeep.key_set import MAX_DOCUMENT, UNKNOWN_AFTER, KeySet, KeySetConfig

FIRST, SECOND = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)


def member(key: Any, kid: str | None = None, **more: object) -> dict[str, object]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    said = kind.to_jwk(key.public_key(), as_dict=True)
    return {**said, **({"kid": kid} if kid else {}), **more}


def document(*members: object) -> bytes:
    return json.dumps({"keys": members}).encode()


def token(key: Any = FIRST, kid: str | None = "one", **claims: object) -> bytes:
    said = {"sub": "ada", "aud": "gateway", **claims}
    return jwt.encode(said, key, "ES256", headers={"kid": kid} if kid else None).encode()


class Issuer:
    """Answers every request with what it is told.

    Attributes:
        answers: response by path; None hangs.
    """

    def __init__(self, **answers: bytes | None) -> None:
        self.answers = answers

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            answer = self.answers[request.start.split(b" ")[1].decode().strip("/").replace("/", "_") or "root"]
            if answer is None:
                await asyncio.get_running_loop().create_future()
            await peer.send(answer or b"")


def json_reply(body: bytes) -> bytes:
    return reply(b"200 OK", (b"Content-Type: application/json",), body)


KEYS = json_reply(document(member(FIRST, "one")))
BOTH = json_reply(document(member(FIRST, "one"), member(SECOND, "two")))


# ---------------------------------------------------------------- fetches


class Stage:
    """A KeySet of an issuer, with a clock that a test sets."""

    def __init__(self, running: Running, config: KeySetConfig) -> None:
        self.time = 0.0
        self.taken: list[tuple[VerifyingKey, ...]] = []
        client = running.app.gateway.client
        self.keys = KeySet(config, client, random.Random(1), lambda: self.time, self.take)

    def take(self, document: bytes) -> None:
        self.taken.append(read_key_set(document))

    async def look(self) -> bool | None:
        """Look again, as an unknown key id does; None if the KeySet does not."""
        fetch = self.keys.look_again()
        return await fetch if fetch else None


@pytest.fixture
def stage(serve: Serve, upstream: Start) -> Callable[..., Any]:
    async def start(script: Script, path: str = "/keys", *, is_issuer: bool = False) -> tuple[Stage, Upstream]:
        issuer = upstream(script)
        running = await serve({"svc": ["http://127.0.0.1:1"]})
        config = KeySetConfig(issuer=issuer.url) if is_issuer else KeySetConfig(url=issuer.url + path)
        return Stage(running, config), issuer

    return start


@pytest.mark.gen_test
async def test_unknown_keys_cause_one_fetch_in_a_while(stage: Callable[..., Any]) -> None:
    there, issuer = await stage(Issuer(keys=KEYS))
    fetches = {there.keys.look_again() for _ in range(1000)}
    assert len(fetches) == 1
    assert await fetches.pop()
    assert [await there.look() for _ in range(1000)] == [None] * 1000
    assert len(issuer.requests) == 1
    there.time += UNKNOWN_AFTER
    assert await there.look()
    assert len(issuer.requests) == 2
    assert len(there.taken) == 1, "the same keys change nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        reply(b"500 Oh"), reply(b"404 No"), json_reply(b"<html>"), json_reply(b""), json_reply(document()),
        json_reply(b" " * (MAX_DOCUMENT + 1)), reply(b"302 Found", (b"Location: http://127.0.0.1:1/keys",)),
        reply(b"302 Found", (b"Location: /keys",)), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", None,
    ],
    ids=["500", "404", "HTML", "empty", "no keys", "huge", "other origin", "loop", "cut", "silent"],
)  # fmt: skip
@pytest.mark.gen_test
async def test_old_keys_stay_while_the_issuer_is_wrong(
    stage: Callable[..., Any], wrong: bytes | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = Issuer(keys=KEYS)
    there, _ = await stage(script)
    assert await there.look()
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    script.answers["keys"] = wrong
    there.time += UNKNOWN_AFTER
    assert await there.look() is False
    assert (len(there.taken), there.keys.is_known) == (1, True)
    assert "the old keys stay" in caplog.text
    script.answers["keys"] = BOTH
    there.time += UNKNOWN_AFTER
    assert await there.look()
    assert [each.kid for each in there.taken[-1]] == ["one", "two"]


@pytest.mark.gen_test
async def test_a_redirect_within_the_origin_is_followed(stage: Callable[..., Any]) -> None:
    there, _ = await stage(Issuer(keys=reply(b"307 Moved", (b"Location: /new",)), new=KEYS))
    assert await there.look()


@pytest.mark.gen_test
async def test_an_openid_provider_names_its_keys(stage: Callable[..., Any]) -> None:
    script = Issuer(keys=KEYS)
    there, issuer = await stage(script, is_issuer=True)
    said = {"issuer": issuer.url, "jwks_uri": issuer.url + "/keys"}
    for wrong in ({"issuer": "https://other"}, {"jwks_uri": "http://id.example/"}, {"jwks_uri": 7}):
        script.answers[".well-known_openid-configuration"] = json_reply(json.dumps({**said, **wrong}).encode())
        assert await there.look() is False
        there.time += UNKNOWN_AFTER
    script.answers[".well-known_openid-configuration"] = json_reply(json.dumps(said).encode())
    assert await there.look()
    assert [each.kid for each in there.taken[-1]] == ["one"]


@pytest.mark.gen_test
async def test_keys_are_renewed_in_the_background(stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH", 0.02)
    monkeypatch.setattr(module, "RETRY", 0.01)
    script = Issuer(keys=reply(b"503 Later"))
    there, issuer = await stage(script)
    there.keys.start()
    await eventually(lambda: len(issuer.requests) > 2)
    script.answers["keys"] = KEYS
    await eventually(lambda: there.taken)
    script.answers["keys"] = BOTH
    await eventually(lambda: len(there.taken) == 2)
    there.keys.close()


# ---------------------------------------------------------------- journeys


async def gateway(serve: Serve, upstream: Start, script: Script, **variables: str) -> Running:
    issuer, service = upstream(script), upstream(echo)
    return await serve(
        {"svc": [service.url]}, AUTH_REQUIRED="true", JWKS_URL=issuer.url + "/keys", JWT_AUDIENCE="gateway", **variables
    )


def with_token(given: bytes) -> bytes:
    return get(b"/api/svc/x", b"Authorization: Bearer " + given)


@pytest.mark.gen_test
async def test_a_token_of_the_issuer_is_valid_from_the_first_request_on(serve: Serve, upstream: Start) -> None:
    running = await gateway(serve, upstream, Issuer(keys=KEYS))
    assert (await ask(running, with_token(token()))).status == 200
    for wrong in (token(SECOND), token(kid="three"), token(aud="other"), token(exp=1)):
        problem(await ask(running, with_token(wrong)), 401, "unauthorized")


@pytest.mark.gen_test
async def test_a_new_key_is_found_by_the_first_token_that_needs_it(serve: Serve, upstream: Start) -> None:
    script = Issuer(keys=KEYS)
    running = await gateway(serve, upstream, script)
    assert (await ask(running, with_token(token()))).status == 200
    script.answers["keys"] = BOTH
    answers = await asyncio.gather(*(ask(running, with_token(token(SECOND, "two"))) for _ in range(20)))
    assert [each.status for each in answers] == [200] * 20


@pytest.mark.gen_test
async def test_without_any_key_a_request_is_told_to_come_back(serve: Serve, upstream: Start) -> None:
    running = await gateway(serve, upstream, Issuer(keys=reply(b"503 Later")))
    await ask(running, with_token(token()))  # may wait for the fetch of the start
    refused = await ask(running, with_token(token(kid="two")))
    problem(refused, 503, "keys_unavailable")
    assert refused.get(b"retry-after") == b"5"
    assert (await ask(running, get(b"/api/svc/x"))).status == 401


@pytest.mark.gen_test
async def test_keys_rotate_under_load_and_the_issuer_goes_away(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH", 0.02)
    monkeypatch.setattr(module, "RETRY", 0.02)
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    script = Issuer(keys=KEYS)
    running = await gateway(serve, upstream, script)
    told: dict[str, list[int]] = {"one": [], "two": []}
    tokens = {"one": token(), "two": token(SECOND, "two")}
    ends = False

    async def keep_asking(kid: str) -> None:
        client = await running.client()
        while not ends:
            told[kid].append((await client.ask(with_token(tokens[kid]))).status)

    load = [asyncio.ensure_future(keep_asking("one")) for _ in range(4)]
    await eventually(lambda: len(told["one"]) > 50)
    script.answers["keys"] = BOTH
    load += [asyncio.ensure_future(keep_asking("two")) for _ in range(4)]
    await eventually(lambda: len(told["two"]) > 50)
    assert {*told["one"], *told["two"]} == {200}
    script.answers["keys"] = json_reply(document(member(SECOND, "two")))
    await eventually(lambda: told["one"][-1] == 401)
    for away in (reply(b"500 Oh"), json_reply(b"<html>"), None):
        script.answers["keys"] = away
        before = {kid: len(each) for kid, each in told.items()}
        await eventually(lambda before=before: len(told["two"]) > before["two"] + 50)
        assert set(told["one"][before["one"] + 4 :]) <= {401}  # may wait for the fetch that is on its way
    ends = True
    script.answers["keys"] = BOTH
    await asyncio.gather(*load)
    assert set(told["two"]) == {200}
