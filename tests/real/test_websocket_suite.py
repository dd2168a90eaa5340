"""An independent conformance suite (RFC 6455, RFC 7692) against the bridge, from both sides.

The suite is kosoku: the cases of the Autobahn|Testsuite, with a runner that needs no Python 2. It is run as a client
against echo servers and as a server against echo clients; first directly, then through the gateway. Whatever passes
directly must pass through the gateway, case by case.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.websockets import (
    ENVIRONMENT,
    PATIENCE,
    PROGRAMS,
    gateway,
    node_server,
    python_server,
)

SUITE = str(Path(sys.executable).with_name("kosoku"))
AT_ONCE = 4  # cases
LIBRARIES = ["python", "node"]

# All but the cases that send MiB or bytes with pauses, and two of the many that send 1,000 compressed messages.
QUICK = [
    *(f"{group}.*" for group in (1, 2, 3, 4, 5, 7, 10)), *(f"6.{kind}.*" for kind in range(1, 24) if kind != 4),
    "9.1.1", "9.2.1", "9.5.1", "9.6.1", "12.1.1", "13.1.1",
]  # fmt: skip
# All groups of cases. Where a case is 1,000 messages, one after the other, only some of their sizes: in 9.7 and 9.8
# 16 KiB, with compression 1 KiB (12) or 16 bytes (13), and once each 8 KiB in fragments.
WHOLE = [
    *(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)), *(f"9.{kind}.*" for kind in range(1, 7)), "9.7.6", "9.8.6",
    *(f"12.{material}.4" for material in range(1, 6)), "12.1.11",
    *(f"13.{settings}.1" for settings in range(1, 8)), "13.1.11",
]  # fmt: skip
IS_WHOLE = "WHOLE_SUITE" in os.environ
SELECTION, CASES = (WHOLE, 305) if IS_WHOLE else (QUICK, 249)

# The gateway is the same whichever library is behind, or before: unless the whole suite is wanted, one library of each.
SERVERS, CLIENTS = (LIBRARIES, LIBRARIES) if IS_WHOLE else (["python"], ["node"])

# What a library does not pass by itself. 7.1.5: it answers a Close amid a fragmented message with 1002, not with the
# Close's own code. 9.3 and 9.4: 4 MiB in fragments of 64 or 256 bytes are too many for it.
FAILING = {"python": {"7.1.5", "9.3.1", "9.3.2", "9.4.1", "9.4.2"}, "node": set[str]()}

# A valid message, and right behind it a frame that breaks the protocol. Whoever echoes the message first is OK, whoever
# fails the connection at once is NON-STRICT; both conform, since nobody who fails a connection owes an answer first
# (RFC 6455 §7.1.7). The gateway knows of the violation before the echo can be back from its other side.
FAILED_AT_ONCE = {"3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15"}

# What passes, the best first; the suite's other words do not: FAILED, WRONG CODE, UNCLEAN, UNIMPLEMENTED and so on.
RANKS = ["OK", "NON-STRICT", "INFORMATIONAL"]

Verdicts = dict[str, tuple[str, str]]  # by case: of the exchange, and of the closing handshake


@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", SERVERS)
def test_an_echo_server_passes_behind_the_gateway_what_it_passes_directly(library: str, tmp_path: Path) -> None:
    server = {"python": python_server, "node": node_server}[library]
    with server() as (echo, _), gateway({"echo": f"http://127.0.0.1:{echo}"}) as port:
        directly, through = both(
            partial(judge_server, f"ws://127.0.0.1:{echo}/echo", tmp_path / "directly"),
            partial(judge_server, f"ws://127.0.0.1:{port}/ws/echo/echo", tmp_path / "through"),
        )
    assert failing(directly) <= FAILING[library]
    assert worse(directly, through) == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("library", CLIENTS)
def test_an_echo_client_passes_behind_the_gateway_what_it_passes_directly(library: str, tmp_path: Path) -> None:
    directly, through = both(
        partial(judge_client, library, tmp_path / "directly"),
        partial(judge_client, library, tmp_path / "through", behind_gateway=True),
    )
    assert failing(directly) <= FAILING[library]
    assert worse(directly, through) == {}


def both(directly: Callable[[], Verdicts], through: Callable[[], Verdicts]) -> tuple[Verdicts, Verdicts]:
    """The verdicts of both, at the same time."""
    with ThreadPoolExecutor() as pool:
        futures = pool.submit(directly), pool.submit(through)
        return futures[0].result(), futures[1].result()


def failing(verdicts: Verdicts) -> set[str]:
    """The cases that do not pass."""
    return {case for case, verdict in verdicts.items() if rank(verdict) == len(RANKS)}


def worse(directly: Verdicts, through: Verdicts) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """The cases that pass less well through the gateway, with both verdicts."""
    assert set(through) == set(directly)
    return {
        case: (verdict, through[case])
        for case, verdict in directly.items()
        if rank(through[case]) > rank(verdict) and not is_failed_at_once(case, through[case])
    }


def rank(verdict: tuple[str, str]) -> int:
    """0 for the best; len(RANKS) if it does not pass."""
    return max(RANKS.index(part) if part in RANKS else len(RANKS) for part in verdict)


def is_failed_at_once(case: str, verdict: tuple[str, str]) -> bool:
    return case in FAILED_AT_ONCE and verdict == ("NON-STRICT", "OK")


def judge_server(url: str, reports: Path) -> Verdicts:
    """Run the suite as a client."""
    selection = [argument for case in SELECTION for argument in ("-i", case)]
    command = [SUITE, "-m", "fuzzingclient", "-p", str(AT_ONCE), "-o", str(reports), *selection, url]
    # It exits with 1 if a case fails: what matters is in the reports.
    subprocess.run(command, capture_output=True, timeout=120, check=False)
    return verdicts(reports)


def judge_client(library: str, reports: Path, behind_gateway: bool = False) -> Verdicts:
    """Run the suite as a server, and a client through all its cases."""
    with fuzzing_server(reports) as port, contextlib.ExitStack() as stack:
        url = f"ws://127.0.0.1:{port}"
        if behind_gateway:
            url = f"ws://127.0.0.1:{stack.enter_context(gateway({'suite': f'http://127.0.0.1:{port}'}))}/ws/suite"
        if library == "python":
            asyncio.run(go_through(url))
        else:
            command = ["node", str(PROGRAMS / "echo_client.js"), url, str(AT_ONCE)]
            subprocess.run(command, env=ENVIRONMENT, timeout=120, check=True)
    return verdicts(reports)


@contextlib.contextmanager
def fuzzing_server(reports: Path) -> Iterator[int]:
    """The suite as a server; it ends by itself when a client asks for its reports."""
    selection = [argument for case in SELECTION for argument in ("-i", case)]
    command = [SUITE, "-m", "fuzzingserver", "-o", str(reports), *selection, "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    try:
        listening = re.search(rb":(\d+)$", process.stderr.readline())
        assert listening
        yield int(listening[1])
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()


def verdicts(reports: Path) -> Verdicts:
    """What the suite has written; all cases must have been run."""
    agents = json.loads((reports / "index.json").read_text())
    found = {
        case: (verdict["behavior"], verdict["behaviorClose"])
        for cases in agents.values()
        for case, verdict in cases.items()
    }
    assert len(found) == CASES
    return found


async def go_through(url: str) -> None:
    """The same as echo_client.js, with the websockets library."""
    async with talking(f"{url}/getCaseCount") as socket:
        cases = iter(range(1, int(await socket.recv()) + 1))

    async def work() -> None:
        for case in cases:
            with contextlib.suppress(WebSocketException):
                async with talking(f"{url}/runCase?case={case}&agent=python") as socket:
                    async for message in socket:
                        await socket.send(message)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    async with talking(f"{url}/updateReports?agent=python"):
        pass


def talking(url: str) -> connect:
    """A connection that offers whatever the cases of compression may want."""
    deflate = ClientPerMessageDeflateFactory(client_no_context_takeover=True, client_max_window_bits=True)
    return connect(
        url, extensions=[deflate], compression=None, max_size=None, proxy=None, ping_interval=None, close_timeout=3
    )
