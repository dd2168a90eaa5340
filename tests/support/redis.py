"""A real redis-server for tests: in memory, on a free port of loopback; alone, as a replica, in a cluster, with TLS."""

import contextlib
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.ports import free_port
from tests.support.sockets import PATIENCE

_END = "the watch ends"
_SCRIPT_CALL = re.compile(rb'^([0-9]+)\.([0-9]{6}) \[[0-9]+ [^ ]+:[0-9]+\] "EVALSHA"', re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Certificate:
    """A certificate for 127.0.0.1 and localhost, in files."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def issue(cls, authority: trustme.CA, directory: Path) -> "Certificate":
        files = cls(directory / "certificate.pem", directory / "key.pem", directory / "authority.pem")
        issued = authority.issue_cert("localhost", "127.0.0.1")
        files.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(files.key))
        authority.cert_pem.write_to_path(str(files.authority))
        return files


class RedisServer:
    """A redis-server. It keeps the port when it stops and starts again, without its memory.

    Args:
        certificate: the server speaks TLS alone, also with other servers.
    """

    def __init__(self, *options: str, certificate: Certificate | None = None) -> None:
        self.port = free_port()
        self._options, self._certificate = options, certificate
        self.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'rediss' if self._certificate else 'redis'}://{self.place}/0"

    @property
    def arguments(self) -> list[str]:
        return [*self._listening, "--bind", "127.0.0.1", "--save", "", *self._options]

    @property
    def _listening(self) -> list[str]:
        if self._certificate is None:
            return ["--port", str(self.port)]
        return [
            "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", "--tls-cluster", "yes",
            "--tls-replication", "yes", "--tls-cert-file", str(self._certificate.certificate),
            "--tls-key-file", str(self._certificate.key), "--tls-ca-cert-file", str(self._certificate.authority),
        ]  # fmt: skip

    @property
    def _cli(self) -> list[str]:
        tls = ["--tls", "--cacert", str(self._certificate.authority)] if self._certificate else []
        return ["redis-cli", "-p", str(self.port), *tls]

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
            monitor_command = [*self._cli, "MONITOR"]
            with subprocess.Popen(monitor_command, stdout=seen.file) as monitor:
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
        cli = [*self._cli, *words]
        return subprocess.run(cli, capture_output=True, check=True, text=True, timeout=PATIENCE).stdout.strip()


class ClusterNode(RedisServer):
    """A node of a cluster. The port of the cluster's own bus would otherwise be 10,000 above a port that may be above
    55,535."""

    def __init__(self, directory: Path, name: str, certificate: Certificate | None = None) -> None:
        self.bus = free_port()
        of_cluster = ("--cluster-enabled", "yes", "--cluster-config-file", str(directory / name))
        super().__init__(*of_cluster, "--cluster-port", str(self.bus), certificate=certificate)

    @property
    def id(self) -> str:
        return self.command("CLUSTER", "MYID")

    def meet(self, other: "ClusterNode") -> None:
        assert self.command("CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.bus)) == "OK"

    def is_well(self, nodes: int) -> bool:
        """Whether the node knows all nodes, and which node has each slot."""
        return {"cluster_state:ok", f"cluster_known_nodes:{nodes}"} <= set(self.command("CLUSTER", "INFO").split())


class Sentinel(RedisServer):
    """A Sentinel that watches a server under the name "main", and alone decides that another server takes over."""

    def __init__(self, directory: Path, watched: RedisServer, *lines: str) -> None:
        self._config = directory / f"sentinel-{watched.port}.conf"
        self._config.write_text("\n".join([f"sentinel monitor main 127.0.0.1 {watched.port} 1", *lines, ""]))
        super().__init__()

    @property
    def arguments(self) -> list[str]:
        return [str(self._config), "--sentinel", "--port", str(self.port), "--bind", "127.0.0.1"]


def _await_in(path: str, text: bytes) -> bytes:
    """The content of a file, once the content has a text."""
    deadline = time.monotonic() + PATIENCE
    while text not in (content := Path(path).read_bytes()):
        assert time.monotonic() < deadline, f"redis-cli does not show {text!r}"
        time.sleep(0.01)
    return content


StartRedis = Callable[..., RedisServer]
