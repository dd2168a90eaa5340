"""Child processes: pinned to a core, measured with all their descendants, and ended in every case.

Each child leads a new session, which all descendants inherit. So the session's number finds the whole process tree,
including orphaned workers, and a Ctrl-C in the terminal reaches only this program, which then ends each child.

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
GRACE = 5.0  # seconds between SIGTERM and SIGKILL; enough for the gateway to drain
POLL = 0.02  # seconds

_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


class ChildFailed(Exception):
    """A child process ended or did not answer, though it should have served."""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Two values of /proc/pid/stat.

    Attributes:
        session: the number of the session that the process belongs to.
        ticks: CPU time of the process and of ended children, in clock ticks.
    """

    session: int
    ticks: int


def parse_stat(line: str) -> ProcessStat:
    """Read a line of /proc/pid/stat.

    The second field is the program's name in parentheses. The name may contain spaces and parentheses, so the last
    closing parenthesis ends the field.

    >>> parse_stat("7 (a) (b c)) S 1 7 7 0 -1 4194560 90 0 0 0 30 12 5 3 20 0 1 0 99 0 0")
    ProcessStat(session=7, ticks=50)
    """
    fields = line.rpartition(")")[2].split()  # fields[0] is proc(5)'s field 3, the state
    return ProcessStat(session=int(fields[3]), ticks=sum(map(int, fields[11:15])))


def parse_resident(status: str) -> int:
    """Resident memory in KiB from /proc/pid/status; 0 for a zombie."""
    match = _RESIDENT.search(status)
    return int(match[1]) if match else 0


def _session(number: int) -> Iterator[tuple[Path, ProcessStat]]:
    """The processes of a session, each with the directory in /proc."""
    for directory in PROC.iterdir():
        if not directory.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
            stat = parse_stat((directory / "stat").read_text())
            if stat.session == number:
                yield directory, stat


class Tree:
    """The processes of a session at the time of construction, for cheap repeated reading.

    Args:
        session: number of the session and of the leading process.
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
        """Resident memory in KiB; shared pages count once per process."""
        total = 0
        for directory in self._directories:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += parse_resident((directory / "status").read_text())
        return total


@contextlib.contextmanager
def _pinned_to(core: int) -> Iterator[None]:
    """Pin this process to a core during the with block; a child started there stays pinned, with all threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Child:
    """A program that runs on one core until the with block is left.

    Args:
        argv: the program and the arguments.
        core: the number of the core.
        log: file for standard output and standard error; the program runs in the file's directory.
        env: variables to set beside this process's own.
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
        """The number of the child's session and of its first process."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """CPU time of the process tree so far, in seconds."""
        return Tree(self.session).cpu_seconds()

    def resident_kib(self) -> int:
        """Resident memory of the process tree, in KiB."""
        return Tree(self.session).resident_kib()

    def has_ended(self) -> bool:
        """Whether the program has ended; descendants may still run.

        Only stop() reaps the process, so that the number is not reused before.
        """
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the program's end; return whether the program has ended."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True

    def stop(self) -> None:
        """End the program by SIGTERM, then kill the remaining process group. Safe to repeat."""
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
        """The last lines that the program printed, joined into a line; "nothing" if there are none."""
        printed = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(printed[-lines:]) or "nothing"
