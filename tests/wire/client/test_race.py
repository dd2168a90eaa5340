"""The first address that answers is connected to; addresses are never looked up."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sockets import eventually
from tornado_gateway.wire.client import race
from tornado_gateway.wire.client.race import connect, connect_first, interleaved

ROOT = Path(__file__).resolve().parents[3]


def listen(address: str, port: int = 0, backlog: int = 8) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


def port_of(listener: socket.socket) -> int:
    return listener.getsockname()[1]


@pytest.fixture
def silent():
    """A listener on 127.0.0.1 that completes no more handshakes."""
    with listen("127.0.0.1", backlog=0) as listener:
        waiting = [socket.socket() for _ in range(8)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        (["::1", "::2", "10.0.0.7", "10.0.0.8"], ["::1", "10.0.0.7", "::2", "10.0.0.8"]),
        (["10.0.0.7", "10.0.0.8", "10.0.0.9", "::1"], ["10.0.0.7", "::1", "10.0.0.8", "10.0.0.9"]),
        (["10.0.0.7"], ["10.0.0.7"]),
    ],
)
def test_families_take_turns(addresses, order) -> None:  # RFC 8305 §4
    assert interleaved(addresses) == order


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::1%lo", "::1%1"])
@pytest.mark.gen_test
async def test_an_address_is_connected_to(address) -> None:
    with listen(address.partition("%")[0]) as listener, await connect(address, port_of(listener)) as sock:
        assert sock.getpeername()[:2] == listener.getsockname()[:2]
        assert sock.gettimeout() == 0  # as create_connection() wants it


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::1%nosuch0", "2001:db8::7", "fe80::1"])
@pytest.mark.gen_test
async def test_an_address_that_cannot_be_connected_to(address) -> None:
    with listen("127.0.0.1") as listener:
        port = port_of(listener)
    with pytest.raises(OSError):
        await connect(address, port)


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.2", "127.0.0.3", "127.0.0.1"]])
@pytest.mark.gen_test
async def test_a_refusal_has_the_next_address_tried_at_once(addresses, monkeypatch) -> None:
    monkeypatch.setattr(race, "ATTEMPT_DELAY", 60)  # seconds: as good as never
    with listen("127.0.0.1") as listener, await connect_first(addresses, port_of(listener)) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


@pytest.mark.gen_test
async def test_a_silent_address_does_not_hide_a_live_one(silent) -> None:
    addresses = ["127.0.0.1", "127.0.0.2"]
    with listen(addresses[1], port_of(silent)) as live, await connect_first(addresses, port_of(silent)) as sock:
        assert sock.getpeername() == live.getsockname()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


@pytest.mark.gen_test
async def test_of_several_errors_the_first_counts() -> None:
    with listen("127.0.0.1") as listener:
        port = port_of(listener)
    with pytest.raises(OSError, match=r"127\.0\.0\.1") as raised:
        await connect_first(["127.0.0.1", "127.0.0.2", "::1"], port)
    assert isinstance(raised.value, ConnectionRefusedError)


@pytest.mark.gen_test
async def test_of_a_thousand_addresses_the_first_are_tried() -> None:
    thousand = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    with listen("127.0.0.1") as listener:
        for place, is_reached in ((race.MAX_ATTEMPTS - 1, True), (race.MAX_ATTEMPTS, False)):
            addresses = [*thousand[:place], "127.0.0.1", *thousand[place:]]
            try:
                (await connect_first(addresses, port_of(listener))).close()
            except ConnectionRefusedError:
                assert not is_reached
            else:
                assert is_reached


@pytest.mark.gen_test
async def test_a_cancelled_connect_leaves_no_attempt(silent) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):  # by then the second is being tried, too
            await connect_first(["127.0.0.1", "127.0.0.1", "127.0.0.1"], port_of(silent))
    await eventually(lambda: len(asyncio.all_tasks()) == 1)


@pytest.mark.gen_test
async def test_all_but_one_of_several_connected_sockets_are_closed(monkeypatch) -> None:
    monkeypatch.setattr(race, "ATTEMPT_DELAY", 0)
    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listen(addresses[0]))]
        port = port_of(listeners[0])
        listeners += [stack.enter_context(listen(address, port)) for address in addresses[1:]]
        (await connect_first(addresses, port)).close()
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        await asyncio.sleep(0)
        for listener in listeners:
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError), listener.accept()[0] as peer:
                peer.settimeout(5)
                assert peer.recv(1) == b""


THREADS = """
import asyncio, os, socket, uvloop
from tornado_gateway.wire.client import race
from tornado_gateway.wire.client.race import connect_first

async def main() -> None:
    port = listener.getsockname()[1]
    before = os.listdir("/proc/self/task")
    for addresses in (["127.0.0.1"], ["::1", "127.0.0.1"]):
        (await connect_first(addresses, port)).close()
    print(len(os.listdir("/proc/self/task")) - len(before))

listener = socket.create_server(("127.0.0.1", 0))
with asyncio.Runner(loop_factory=%s.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_no_thread_takes_part(loop: str) -> None:
    """A pool of look-up threads would be full while a few names hang."""
    command = [sys.executable, "-c", THREADS % loop]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.stdout, ended.stderr) == ("0\n", "")
