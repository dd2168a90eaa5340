"""docs/limits.md, carried out: its first command on a gateway, and its table of policies."""

import json
import random

import pytest

from tests.conftest import Serve
from tests.support.examples import environments
from tests.support.journeys import ask
from tests.support.sockets import get
from tests.test_documents import code, documents, rows
from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.quota import parse_quotas
from tornado_gateway.policy.limits.rules import LimitConfig

PAGE = documents()["docs/limits.md"]


def block(name: str) -> str:
    """The text of the block of code between the marks of a name."""
    marked = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\n".join(marked.splitlines()[1:-1])


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
