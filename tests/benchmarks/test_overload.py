"""The open-loop load: it does not wait for a server that is late, and every request has an end."""

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.open_loop import OpenLoop, Outcome
from benchmarks.overload import STREAMS, Row, table

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


def load(talk: Talk, rate: float, seconds: float) -> Outcome:
    """The outcome of a load on a server."""

    async def main() -> Outcome:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            return await OpenLoop(server.sockets[0].getsockname()[1], [REQUEST]).run(rate, seconds)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def test_a_late_server_gets_all_requests_at_once() -> None:
    waiting: list[asyncio.StreamWriter] = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        if len(waiting) == 40:
            for number, each in enumerate(waiting):
                each.write(b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n\r\nok" % (503 if number % 4 else 200))
                each.close()

    outcome = load(late, rate=400, seconds=0.1)
    assert (outcome.counts, outcome.lost) == ({200: 10, 503: 30}, 0)
    assert outcome.percentile(200, 100) > outcome.percentile(200, 1) > 0


def test_a_connection_is_used_again_and_answers_may_come_in_pieces() -> None:
    connections = 0

    async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n"):
            for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Length: 2\r\n\r\no", b"k"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await in_pieces(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    outcome = load(quiet, rate=200, seconds=0.5)
    assert (outcome.counts, outcome.lost) == ({200: 100}, 0)
    assert connections < 100


def test_a_request_without_an_answer_is_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    outcome = load(hang_up, rate=100, seconds=0.1)
    assert (outcome.counts, outcome.lost) == ({}, 10)


def test_a_bound_is_kept_if_nothing_is_lost_and_all_streams_go_on() -> None:
    outcome = Outcome({200: [0.01] * 99 + [0.5], 503: [0.001]})
    good = Row("a", 100.0, outcome, STREAMS, 0.02)
    assert good.is_kept
    assert not Row("a", 100.0, outcome, STREAMS, 0.005).is_kept
    assert not Row("a", 100.0, outcome, STREAMS - 1, 0.02).is_kept
    assert not Row("a", 100.0, Outcome({200: [0.01]}, lost=1), STREAMS, 0.02).is_kept
    assert not Row("a", 100.0, Outcome({200: [0.01], 502: [0.01]}), STREAMS, 0.02).is_kept
    heading, rule, line = table([good]).splitlines()
    assert len(heading.split("|")) == len(rule.split("|")) == len(line.split("|"))
    assert "| 100 | 1 | 0 | 10.0 ms | 10.0 ms | 1.0 ms | 20 ms | 50 of 50 |" in line
