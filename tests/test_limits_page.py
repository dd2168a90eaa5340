"""docs/limits.md, carried out: its commands on gateways, and its table of policies."""

import itertools
import json
import random
import re
import shlex

import jwt
import pytest

from tests.conftest import Running, Serve
from tests.support.endpoints import Gate, always
from tests.support.examples import environments, whole_lines
from tests.support.journeys import Start, ask
from tests.support.redis import StartRedis
from tests.support.sockets import echo, eventually, get, reply
from tests.test_documents import code, documents, rows
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import parse_quotas
from tornado_gateway.policy.limits.rules import LimitConfig

PAGE = documents()["docs/limits.md"]


def block(name: str) -> str:
    """The text of the block of code between the marks of a name."""
    marked = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\n".join(marked.splitlines()[1:-1])


def command(name: str) -> dict[str, str]:
    """The variables of the command of the page that sets a variable, without UPSTREAMS."""
    lines = itertools.chain.from_iterable(map(whole_lines, re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)))
    commands = [dict(each.split("=", 1) for each in shlex.split(line) if "=" in each) for line in lines]
    (env,) = [each for each in commands if name in each]
    return {variable: value for variable, value in env.items() if variable != "UPSTREAMS"}


PATH = b"/api/billing/x"


async def told(running: Running, name: bytes, *lines: bytes) -> bytes | None:
    return (await ask(running, get(PATH, *lines))).get(name)


@pytest.mark.gen_test
async def test_the_answers_of_the_page_are_those_of_a_gateway(serve: Serve) -> None:
    env = dict(next(iter(environments(PAGE))))
    running = await serve(json.loads(env.pop("UPSTREAMS")), **env)
    answers = [await ask(running, get(b"/nothing", b"x-request-id: 5f0c")) for _ in range(4)]
    lines = [line.partition(": ") for line in block("first").splitlines()]
    assert len(lines) == 5
    assert [(name, answers[0].get(name.lower().encode())) for name, _, _ in lines] == [
        (name, value.encode()) for name, _, value in lines
    ]
    assert answers[3].status == 429
    assert json.loads(answers[3].body) == json.loads(block("refused"))


@pytest.mark.parametrize("row", rows(PAGE, "policies"), ids=" ".join)
def test_the_policies_of_the_page_admit_as_the_page_says(row: list[str]) -> None:
    (policy,), at_once, pause = code(row[0]), int(row[1]), float(row[2].removesuffix(" s"))
    (rule,) = LimitConfig(quotas=parse_quotas(policy)).rules
    store, now = MemoryStore(random.Random(1)), 1000.0

    def admitted(at: float) -> bool:
        return not store.take([Asked(rule, "a")], at)[0][1].wait

    assert [admitted(now) for _ in range(at_once + 1)] == [True] * at_once + [False]
    assert [admitted(now + pause * share) for share in (0.99, 1.01, 1.02)] == [False, True, False]


@pytest.mark.gen_test
async def test_several_limits_hold_at_once(serve: Serve, upstream: Start) -> None:
    (env,) = [each for each in environments(PAGE) if each.get("RATE_LIMITS", "").startswith("10/s")]
    env.pop("UPSTREAMS")
    running = await serve({"billing": [upstream(echo).url]}, **env)
    policies = await told(running, b"ratelimit-policy")
    assert policies == b'"default 10/s;key=ip";q=10;w=1, "default 1000/h;burst=20;key=ip";q=1000;w=3600'
    assert await told(running, b"ratelimit") is not None


@pytest.mark.gen_test
async def test_guesses_of_tokens_and_their_use_are_limited_apart(serve: Serve, upstream: Start) -> None:
    env = command("AUTH_REQUIRED") | {"JWT_SECRET": "k" * 32}
    running = await serve({"billing": [upstream(echo).url]}, **env)
    bearer = b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, "k" * 32).encode()
    guess = await ask(running, get(PATH, b"Authorization: Bearer a.b.c"))
    assert (guess.status, guess.get(b"ratelimit-policy")) == (401, b'"default 50/s;key=ip";q=50;w=1')
    assert b'"default 5000/h;key=principal";q=5000;w=3600' in (await told(running, b"ratelimit-policy", bearer) or b"")


@pytest.mark.gen_test
async def test_a_request_costs_what_the_service_says(serve: Serve, upstream: Start) -> None:
    answer = reply(b"200 OK", (b"X-Cost: 50",))
    running = await serve({"billing": [upstream(always(answer)).url]}, **command("RATE_LIMIT_COST_HEADER"))
    await ask(running, get(PATH))
    assert await told(running, b"x-ratelimit-remaining") == b"949"


@pytest.mark.gen_test
async def test_a_second_request_at_once_is_refused_as_the_page_says(serve: Serve, upstream: Start) -> None:
    gate = Gate()
    running = await serve({"billing": [upstream(gate).url]}, **command("MAX_IN_FLIGHT_PER_CLIENT"))
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    refused = await ask(running, get(PATH))
    assert (refused.status, refused.get(b"retry-after")) == (429, b"1")
    assert f"`{(refused.get(b'ratelimit-policy') or b'').decode()}`" in PAGE
    await gate.open()
    assert (await client.response()).status == 200


@pytest.mark.gen_test
async def test_gateways_of_one_redis_share_the_limit(serve: Serve, upstream: Start, redis_server: StartRedis) -> None:
    env = command("REDIS_URL") | {"REDIS_URL": redis_server().url}
    services = {"billing": [upstream(echo).url]}
    gateways = [await serve(services, **env) for _ in range(2)]
    for each in gateways:
        limits = each.app.gateway.limits
        assert limits
        assert limits.shared
        limits.shared.connection.timeout = 30.0  # a slow machine is no Redis that is away
    assert [await told(each, b"x-ratelimit-remaining") for each in gateways] == [b"99", b"98"]
