"""Questions and messages between two processes, here between two ends in one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.sockets import eventually
from tornado_gateway.upkeep.link import Link, LinkError


@asynccontextmanager
async def linked(
    answers: dict[str, Callable[[Any], Any]], on_lost: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Link, Link]]:
    one, other = socket.socketpair()
    ends = await Link({}, lambda: None).open(one), await Link(answers, on_lost).open(other)
    try:
        yield ends
    finally:
        for each in ends:
            each.close()
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_questions_are_answered_now_or_later_and_messages_arrive_in_order() -> None:
    heard: list[int] = []

    async def later(body: int) -> int:
        await asyncio.sleep(0)
        return body * 2

    async with linked({"now": lambda body: [body], "later": later, "tell": heard.append}) as (one, _):
        for number in range(3):
            one.tell("tell", number)
        large = "x" * 1_000_000
        assert await asyncio.gather(one.ask("later", 4), one.ask("now", large)) == [8, [large]]
        assert heard == [0, 1, 2]


@pytest.mark.gen_test
async def test_a_question_that_nobody_answers_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async def fails(_: object) -> None:
        raise ValueError("later")

    async def set_(_: object) -> set[int]:
        return {1}

    answers = {"never": never, "fails": fails, "at once": int, "no JSON": lambda _: {1}, "no JSON later": set_}
    async with linked(answers) as (one, other):
        for name in ("no JSON", "no JSON later"):
            with pytest.raises(LinkError, match="set is not JSON serializable"):
                await one.ask(name)
        with pytest.raises(LinkError, match="has not answered never within"):
            await one.ask("never", patience=0.01)
        with pytest.raises(LinkError, match="ValueError: later"):
            await one.ask("fails")
        with pytest.raises(LinkError, match="ValueError: invalid literal"):
            await one.ask("at once", "x")
        with pytest.raises(LinkError, match="KeyError: 'unknown'"):
            await one.ask("unknown")
        one.tell("fails")
        waiting = asyncio.ensure_future(one.ask("never"))
        await asyncio.sleep(0)
        other.close()
        with pytest.raises(LinkError, match="the other process has ended"):
            await waiting
        await eventually(lambda: not one.is_open)
        with pytest.raises(LinkError, match="the other process has ended"):
            await one.ask("never")
        one.tell("never")
    assert "fails of another process of the gateway has failed" in caplog.text


@pytest.mark.gen_test
async def test_the_end_of_an_end_is_told() -> None:
    lost: list[bool] = []
    async with linked({}, lambda: lost.append(True)) as (one, _):
        one.close()
        await eventually(lambda: lost == [True])
