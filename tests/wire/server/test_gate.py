"""Gates by both means: a shut gate calls nobody, and an open gate calls for what has come meanwhile."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.support.sockets import eventually
from tornado_gateway.wire.server.gate import EpollGate, Gate, ReaderGate, make_gate

MAKERS = [EpollGate, ReaderGate, make_gate]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.gen_test
async def test_a_gate_calls_while_open(make: Callable[[socket.socket, Callable[[], None]], Gate]) -> None:
    calls: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)

        def call() -> None:
            calls.append(gate.is_open)
            gate.shut()

        gate = make(listening, call)
        with socket.create_connection(listening.getsockname()):
            await eventually(lambda: calls)
            for _ in range(5):
                await asyncio.sleep(0)
            assert (calls, gate.is_open) == ([True], False)
            gate.open()
            await eventually(lambda: len(calls) == 2)
            gate.open()
            gate.close()
            for _ in range(5):
                await asyncio.sleep(0)
        assert len(calls) == 2
