"""What a worker asks the supervisor."""

import asyncio
import socket
import time
from typing import Any

import pytest

from tornado_gateway.errors import WorkersUnavailable
from tornado_gateway.policy.views.state import State, to_plain
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep.link import Link
from tornado_gateway.upkeep.whole import Gathered, Whole


@pytest.mark.gen_test
async def test_questions_and_orders_reach_the_supervisor() -> None:
    heard, probed = list[Any](), list[bool]()

    def order(said: object) -> list[str]:
        heard.append(said)
        return ["done"]

    answers = {
        "state": lambda said: (heard.append(said), to_plain(State(reasons={"a ": 1})))[1],
        "streams": lambda query: [{"query": query}],
        "order": order,
        "pressure": lambda heap: (probed.append(heap), [[0, heap], [1, heap]])[1],
        "attempt": lambda client: [0.0, len(client)],
        "succeeded": heard.append,
    }
    one, other = socket.socketpair()
    whole, supervisor = Whole(number=1, count=2), await Link(answers, lambda: None).open(other)
    whole.link = await Link({}, lambda: None).open(one)
    page = Gathered(lambda: whole.state(with_minute=True, with_each=False), reasons, time.monotonic)
    assert await page.get() == {"a ": 1}
    page.close()
    assert await whole.streams("limit=1") == [{"query": "limit=1"}]
    for _ in range(3):
        assert await whole.others("pressure", body=True) == {0: True}
    assert probed == [True]
    assert await whole.share("act", 1, "key") == ["done"]
    whole.tell("used", 2)
    assert await whole.begin_attempt("ada") == (0.0, 3)
    whole.attempt_succeeded("ada", 3.0)
    await whole.share("end", None)
    assert heard == [[True, False], ["act", 1, "key"], ["used", 2, ""], ["ada", 3.0], ["end", None, ""]]
    supervisor.close()
    await asyncio.sleep(0.01)
    assert await whole.others("pressure") == {}
    for question in (whole.streams(""), whole.uses(), whole.share("act", 1), whole.begin_attempt("ada")):
        with pytest.raises(WorkersUnavailable):
            await question
    whole.link.close()
    await asyncio.sleep(0)


def reasons(state: State) -> Steps[dict[str, int]]:
    yield
    return state.reasons
