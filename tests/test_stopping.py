"""The order of a stop of a process: what is told first, what is still accepted, what is answered, and what is cut."""

import asyncio
import contextlib
import json
import signal
import socket
from pathlib import Path

import pytest

from tests.support.journeys import Start
from tests.support.sockets import Client, Ended, Message, Peer, echo, get, reply
from tests.test_main import Process, processes
from tornado_gateway.__main__ import CRASHED, STOPPED

__all__ = ["processes"]  # a fixture

DELAY = 1.0  # seconds of SHUTDOWN_DELAY_MS, within which two requests are made


class Held:
    """A service that answers when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.request()
        with contextlib.suppress(Ended, ConnectionError):
            await self.let.wait()
            await peer.send(reply())
            await peer.ended()


async def ask(port: int, target: bytes) -> Message:
    """The answer to a request on a new connection."""
    client = await Client.connect(port)
    try:
        return await client.ask(get(target))
    finally:
        client.close()


async def until_refused(port: int) -> None:
    while True:
        try:
            client = await Client.connect(port)
        except ConnectionRefusedError:
            return
        client.close()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=60)
async def test_readiness_ends_first_then_accepting_and_what_runs_is_answered(
    upstream: Start, processes: list[Process], tmp_path: Path
) -> None:
    held = Held()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        services = json.dumps({"held": [upstream(held).url], "svc": [upstream(echo).url]})
        process = Process(
            UPSTREAMS=services, NOTIFY_SOCKET=str(tmp_path / "notify"), SHUTDOWN_DELAY_MS=str(int(DELAY * 1000)),
            ACCESS_LOG="false",
        )  # fmt: skip
        processes.append(process)
        assert systemd.recv(100).startswith(b"READY=1\n")
        busy = await Client.connect(process.port)
        await busy.send(get(b"/api/held/x"))
        assert (await ask(process.port, b"/readyz")).status == 200
        process.popen.send_signal(signal.SIGTERM)
        assert systemd.recv(100) == b"STOPPING=1"
    assert [(await ask(process.port, target)).status for target in (b"/readyz", b"/api/svc/x")] == [503, 200]
    await until_refused(process.port)
    assert process.popen.poll() is None
    held.let.set()
    assert (await busy.response()).status == 200
    busy.close()
    assert (await asyncio.to_thread(process.end))[0] == STOPPED


@pytest.mark.parametrize(
    ("delay", "timeout", "signals"), [("0", "300", 1), ("60000", "60000", 2)], ids=["the timeout", "a second signal"]
)
@pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)
@pytest.mark.gen_test(timeout=60)
async def test_what_ends_a_drain_early_cuts_what_runs_and_the_exit_code_tells(
    upstream: Start, processes: list[Process], delay: str, timeout: str, signals: int
) -> None:
    services = json.dumps({"held": [upstream(Held()).url]})
    process = Process(
        UPSTREAMS=services, SHUTDOWN_DELAY_MS=delay, SHUTDOWN_TIMEOUT_MS=timeout, ACCESS_LOG="false"
    )  # fmt: skip
    processes.append(process)
    busy = await Client.connect(process.port)
    await busy.send(get(b"/api/held/x"))
    assert (await ask(process.port, b"/healthz")).status == 200  # the request before has been read, too
    code, _, _ = await asyncio.to_thread(process.end, *[signal.SIGTERM] * signals)
    with pytest.raises(Ended):
        await busy.response()
    busy.close()
    assert code == CRASHED
