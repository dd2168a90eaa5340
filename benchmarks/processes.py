"""A child process pinned to one core; what its tree has used; how it surely ends.

Every child gets a session of its own, and all its descendants stay in it. So the
session's number finds the whole tree, workers whose parent has died included, and
a Ctrl-C in the terminal reaches only this program, which then ends each child.

Source: proc(5), /proc/pid/stat and /proc/pid/status.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
GRACE = 5.0  # seconds between the polite signal and the other one; the gateway drains in it
POLL = 0.02  # seconds

_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class ChildFailed(Exception):
    """A child process ended, or did not answer, when it should have served."""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What is read from /proc/pid/stat.

    Attributes:
        session: the number of the session that the process belongs to.
        ticks: CPU time of the process and of its children that have ended, in clock ticks.
    """

    session: int
    ticks: int


def parse_stat(line: str) -> ProcessStat:
    """Read a line of /proc/pid/stat.

    The second field is the program's name in parentheses, and the name may itself hold spaces
    and parentheses: only the last closing one ends it.

    >>> parse_stat("7 (a) (b c)) S 1 7 7 0 -1 4194560 90 0 0 0 30 12 5 3 20 0 1 0 99 0 0")
    ProcessStat(session=7, ticks=50)
    """
    fields = line.rpartition(")")[2].split()  # fields[0] is proc(5)'s field 3, the state
    return ProcessStat(session=int(fields[3]), ticks=sum(map(int, fields[11:15])))


def parse_resident(status: str) -> int:
    """Resident memory in KiB from /proc/pid/status; 0 for a process that has ended and only waits to be reaped."""
    match = _RESIDENT.search(status)
    return int(match[1]) if match else 0


def _session(number: int) -> Iterator[tuple[Path, ProcessStat]]:
    """The processes of a session, each with its directory in /proc."""
    for directory in PROC.iterdir():
        if not directory.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            stat = parse_stat((directory / "stat").read_text())
            if stat.session == number:
                yield directory, stat


class Tree:
    """The processes of a session as they are now: looked for once, read often and quickly.

    Args:
        session: its number, which is that of the process that leads it.
    """

    def __init__(self, session: int) -> None:
        self._directories = [directory for directory, _ in _session(session)]

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system, in seconds; the clock's tick is usually 0.01."""
        ticks = 0
        for directory in self._directories:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                ticks += parse_stat((directory / "stat").read_text()).ticks
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        """Resident memory in KiB; pages that processes share are counted in each."""
        total = 0
        for directory in self._directories:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += parse_resident((directory / "status").read_text())
        return total


@contextlib.contextmanager
def _pinned_to(core: int) -> Iterator[None]:
    """Run on one core for a moment: a child that is started in it inherits the pinning, threads and workers too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A program that runs on one core until the with block is left.

    Args:
        argv: the program and its arguments.
        core: the number of the core.
        log: the file that receives its standard output and standard error; its directory is where the program runs.
        env: variables to add to this process's own, or to change.
    """

    def __init__(self, argv: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output, _pinned_to(core):
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=log.parent,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def session(self) -> int:
        """The number of its session, and of its first process."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time of the process tree so far, in seconds."""
        return Tree(self.session).cpu_seconds()

    def resident_kib(self) -> int:
        """Resident memory of the process tree, in KiB."""
        return Tree(self.session).resident_kib()

    def has_ended(self) -> bool:
        """Whether the program itself has ended; what it has started may still run.

        It is left unreaped until stop(), so that its number cannot come to mean another process.
        """
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the program's own end, at most so many seconds; whether it came."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True

    def stop(self) -> None:
        """End the program politely, then whatever is left of its session's process group. Safe to repeat."""
        if self._process.returncode is not None:
            return
        try:
            if not self.has_ended():
                os.kill(self._process.pid, signal.SIGTERM)
                self.wait(GRACE)
        finally:  # a second Ctrl-C only shortens the wait
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of what the program printed, on one line; "nothing" if it was silent."""
        printed = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(printed[-lines:]) or "nothing"
