"""A real redis-server for tests: in memory, on a free port of loopback."""

import contextlib
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.sockets import PATIENCE

_END = "the watch ends"
_SCRIPT_CALL = re.compile(rb'^([0-9]+)\.([0-9]{6}) \[[0-9]+ [^ ]+:[0-9]+\] "EVALSHA"', re.MULTILINE | re.IGNORECASE)


class RedisServer:
    """A redis-server. It keeps the port when it stops and starts again, without its memory."""

    def __init__(self, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._options = options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def arguments(self) -> list[str]:
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *self._options]

    def start(self) -> None:
        """Start, and wait until the server listens."""
        self._process = subprocess.Popen(["redis-server", *self.arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert self._process.poll() is None and time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """End the server; connections break."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Have the server answer nothing; connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[int]]:
        """The instants at which clients have called scripts meanwhile, in nanoseconds by the clock of the server.

        The list is filled at the end of the block.
        """
        instants: list[int] = []
        with tempfile.NamedTemporaryFile() as seen:
            cli = ["redis-cli", "-p", str(self.port), "MONITOR"]
            with subprocess.Popen(cli, stdout=seen.file) as monitor:
                try:
                    _await_in(seen.name, b"OK\n")
                    yield instants
                    self.command("ECHO", _END)
                    told = _await_in(seen.name, _END.encode())
                finally:
                    monitor.kill()
        instants += [int(second + micros) * 1000 for second, micros in _SCRIPT_CALL.findall(told)]

    def command(self, *words: str) -> str:
        """The answer of redis-cli to a command."""
        cli = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(cli, capture_output=True, check=True, text=True, timeout=PATIENCE).stdout.strip()


def _await_in(path: str, text: bytes) -> bytes:
    """The content of a file, once the content has a text."""
    deadline = time.monotonic() + PATIENCE
    while text not in (content := Path(path).read_bytes()):
        assert time.monotonic() < deadline, f"redis-cli does not show {text!r}"
        time.sleep(0.01)
    return content


StartRedis = Callable[..., RedisServer]
