"""A gateway of several workers, as processes; and what the system knows of these."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.restarts import ROOT

PATIENCE = 30.0  # seconds
MOST_CONNECTIONS = 50  # that a worker may leave to others
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {"PYTHONPATH": str(ROOT)}


class Crew:
    """A supervisor and its workers.

    Attributes:
        port: of the gateway.
        log: the lines of the log so far.
    """

    def __init__(self, *options: str, folder: Path, workers: int = 2, **variables: str) -> None:
        self.port = free_port()
        given = {
            "HOST": "127.0.0.1", "PORT": str(self.port), "WEB_CONCURRENCY": str(workers), "ACCESS_LOG": "false",
            "UPSTREAMS": json.dumps({"svc": ["http://127.0.0.1:1"]}), "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
            "LOG_FORMAT": "text",
        }  # fmt: skip
        self._file = folder / f"log-{self.port}"
        with self._file.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tornado_gateway", *options],
                env=CLEAN | given | variables, cwd=folder, stderr=stderr, stdout=stderr,
            )  # fmt: skip
        self._count, self._started = workers, 0

    @property
    def log(self) -> str:
        return self._file.read_text()

    def hears(self, text: str) -> str:
        """Wait for a line of the log."""
        await_(lambda: text in self.log, lambda: f"no {text!r} in {self.log}")
        return next(line for line in self.log.splitlines() if text in line)

    @property
    def workers(self) -> list[int]:
        """The ids of the workers."""
        return children(self.popen.pid)

    def connect_to(self, worker: int) -> socket.socket:
        """A connection that a worker has accepted.

        Args:
            worker: id of the process.
        """
        others: list[socket.socket] = []
        try:
            while True:
                made = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
                await_(lambda made=made: self.holder_of(made))  # type: ignore[misc]
                if self.holder_of(made) == worker:
                    return made
                others.append(made)  # stays open, so that the next is for another worker
                assert len(others) < MOST_CONNECTIONS, "the worker accepts nothing"
        finally:
            for each in others:
                each.close()

    def holder_of(self, client: socket.socket) -> int | None:
        """The id of the worker that has accepted a connection; None for none yet."""
        return self.worker_at(self.port, client.getsockname()[1])

    def worker_at(self, own: int, peer: int) -> int | None:
        """The id of the worker that has a connection; None for no worker.

        Args:
            own, peer: ports of both ends.
        """
        inode = inode_of(own, peer)
        return next((each for each in self.workers if inode in sockets(each)), None)

    def is_ready(self) -> "Crew":
        """Wait until all workers accept connections; each further call awaits a further worker."""
        self._started += 1 if self._started else self._count

        def is_so() -> bool:
            return self.log.count("accepts connections") >= self._started

        await_(is_so, lambda: f"not ready: {self.log}")
        return self

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self) -> int:
        """Tell the gateway to end; return the exit code."""
        self.send(signal.SIGTERM)
        return self.popen.wait(PATIENCE)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait(PATIENCE)


@contextmanager
def crew(*options: str, folder: Path, workers: int = 2, **variables: str) -> Iterator[Crew]:
    """A gateway that is ready, and ends with the test."""
    made = Crew(*options, folder=folder, workers=workers, **variables)
    try:
        yield made.is_ready()
    finally:
        made.kill()


def await_(is_so: Callable[[], bool], why_not: Callable[[], str] = lambda: "in vain") -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, why_not()
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The living children of a process, in the order of their ids."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return sorted(int(each) for each in found if state_of(int(each)) not in ("Z", ""))


def state_of(pid: int) -> str:
    """The state of a process, as proc(5) has it; "" without such a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def sockets(pid: int) -> list[str]:
    """The inodes of the sockets of a process, one for each descriptor."""
    found = []
    for each in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            found += re.findall(r"socket:\[(\d+)\]", str(each.readlink()))
    return found


def inodes(port: int, state: str) -> set[str]:
    """The inodes of the TCP sockets at a port that are in a state (include/net/tcp_states.h)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == state}


def inode_of(own: int, peer: int) -> str:
    """The inode of a socket with a connection; "" for none.

    Args:
        own, peer: ports of both ends.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = [row[9] for row in rows if row[1].endswith(f":{own:04X}") and row[2].endswith(f":{peer:04X}")]
    return found[0] if found else ""


def connections(pid: int, port: int) -> int:
    """The number of the connections of a process at a port of its own."""
    return len(set(sockets(pid)) & inodes(port, "01"))
