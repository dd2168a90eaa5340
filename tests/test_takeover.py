"""One gateway takes over from another, as processes: nothing is lost, and a successor that fails changes nothing."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.restarts import ROOT, Gateways, Load, listens, service

RESTARTS = int(os.environ.get("RESTARTS", "1"))
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {"PYTHONPATH": str(ROOT)}


async def replaced(restarts: int, *, rate: int, kept: int, streams: int) -> Load:
    """The load during which gateways replaced gateways."""
    async with service() as upstream:
        with (
            tempfile.TemporaryDirectory() as folder,
            Gateways(upstream, folder, SHUTDOWN_TIMEOUT_MS="4000") as gateways,
        ):
            gateways.start()
            await listens(gateways.port)
            async with Load(gateways.port, rate=rate, kept=kept, streams=streams) as load:
                for _ in range(restarts):
                    await gateways.replace()
            await gateways.stop()
            return load


def test_nothing_is_lost_while_one_gateway_replaces_another() -> None:
    """`tests/long restarts` takes more restarts and more requests, and shows what was sent."""
    rate, kept, streams = (500, 200, 10) if RESTARTS > 1 else (100, 40, 3)
    tally = asyncio.run(replaced(RESTARTS, rate=rate, kept=kept, streams=streams)).tally
    sys.stdout.write(f"{RESTARTS} restarts: {tally}\n")
    assert not tally.lost, str(tally)
    assert min(tally.sent[what] for what in ("GET kept", "GET new", "POST kept", "POST new")) > 10, str(tally)
    assert tally.told >= kept  # kept connections were told, and none was cut
    for kind in ("events", "WebSocket"):  # each came back
        assert tally.streams[kind] == streams * (RESTARTS + 1)


class Process:
    """A gateway and its successors, which write to one stderr."""

    def __init__(
        self, *options: str, cwd: Path, by: tuple[str, ...] = ("-m", "tornado_gateway"), **variables: str
    ) -> None:
        command = [sys.executable, *by, *options]
        self.popen = subprocess.Popen(command, env=CLEAN | variables, cwd=cwd, stderr=subprocess.PIPE, text=True)
        self.pids = [self.popen.pid]

    def hears(self, text: str) -> str:
        """Wait for a line of the log."""
        assert self.popen.stderr
        seen = []
        while line := self.popen.stderr.readline():
            if text in line:
                return line
            seen.append(line)
        raise AssertionError(f"no {text!r} in {''.join(seen)}")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pids[-1], number)

    def replace(self) -> str:
        """Start a successor by SIGUSR2; return the line that says so."""
        self.send(signal.SIGUSR2)
        line = self.hears("takes over when it is ready")
        (pid,) = re.findall(r"process (\d+) starts", line)
        self.pids.append(int(pid))
        return line

    def end(self) -> str:
        """Tell the gateway to end; return what all its processes have written since."""
        assert self.popen.stderr
        self.send(signal.SIGTERM)
        rest = self.popen.stderr.read()  # until the last process has ended
        self.popen.stderr.close()
        return rest


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        for pid in process.pids if process.popen.stderr and not process.popen.stderr.closed else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.popen.wait()
        if process.popen.stderr:
            process.popen.stderr.close()


def ask(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response


def test_sigusr2_starts_a_successor_with_the_listeners_and_secrets_of_the_gateway(
    tmp_path: Path, processes: list[Process]
) -> None:
    port, operators, unused = free_port(), free_port(), free_port()
    upstreams = json.dumps({"svc": [f"http://127.0.0.1:{unused}"]})
    control, takeover = tmp_path / "ctl" / "s", tmp_path / "takeover" / "s"
    file = tmp_path / ".env"
    file.write_text(
        f"HOST=127.0.0.1\nPORT={port}\nADMIN_PORT={operators}\nCTL_SOCKET={control}\nTAKEOVER_SOCKET={takeover}\n"
        f"UPSTREAMS='{upstreams}'\n"
    )
    process = Process(cwd=tmp_path)
    processes.append(process)
    process.hears("listening on")
    via = ask(port, "/api/svc/").headers["Via"]
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    kept.request("GET", "/readyz")
    assert kept.getresponse().read()

    good = file.read_text()
    file.write_text(good.replace(f"PORT={port}", "PORT=none"))
    process.replace()
    process.hears("has ended with exit code 78 before it took over; this process goes on")
    process.pids.pop()
    assert ask(port, "/healthz").status == 200

    file.write_text(good)
    process.replace()
    process.hears("another process has taken over; stopping")
    assert ask(port, "/api/svc/").headers["Via"] == via
    assert ask(operators, "/admin/stats").status == 200
    kept.request("GET", "/readyz")  # on a connection of the old process, at an address that is served
    response = kept.getresponse()
    assert (response.status, response.headers["Connection"]) == (200, "close")
    kept.close()
    assert process.popen.wait(30) == 0
    assert control.exists() and takeover.exists()
    ctl = [sys.executable, "-m", "tornado_gateway", "ctl", "services"]
    assert subprocess.run(ctl, env=CLEAN, cwd=tmp_path, capture_output=True, timeout=30, check=False).returncode == 0
    assert "Traceback" not in process.end()
    assert not control.exists() and not takeover.exists()


def test_without_a_gateway_to_take_over_from_a_gateway_just_starts(tmp_path: Path, processes: list[Process]) -> None:
    path, port = tmp_path / "own" / "s", str(free_port())
    variables = {"HOST": "127.0.0.1", "PORT": port, "UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}'}
    unset = Process("--takeover", cwd=tmp_path, **variables)
    processes.append(unset)
    assert unset.hears("TAKEOVER_SOCKET") == "--takeover: TAKEOVER_SOCKET is not set\n"
    assert unset.popen.wait(30) == 2
    process = Process("--takeover", cwd=tmp_path, TAKEOVER_SOCKET=str(path), **variables)
    processes.append(process)
    process.hears("listening on")
    second = Process(cwd=tmp_path, TAKEOVER_SOCKET=str(path), **variables | {"PORT": "0"})
    processes.append(second)
    second.hears(f"TAKEOVER_SOCKET: cannot listen on {path}: another process listens there")
    assert second.popen.wait(30) == 3
    assert "no take-over" not in process.end()


# What systemd does with a unit of sockets: the socket is descriptor 3 of the process.
SYSTEMD = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "gateway.socket"}
os.execv(sys.executable, [sys.executable, "-m", "tornado_gateway"])
"""


def test_systemd_s_socket_is_listened_at_and_systemd_is_told(tmp_path: Path, processes: list[Process]) -> None:
    variables = {"UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}', "PORT": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(variables["NOTIFY_SOCKET"])
        systemd.settimeout(30)
        process = Process(cwd=tmp_path, by=("-c", SYSTEMD), **variables)
        processes.append(process)
        assert systemd.recv(100) == b"READY=1\nMAINPID=%d" % process.popen.pid
        (port,) = re.findall(r"listening on 127.0.0.1:(\d+) for", process.hears("listening on"))
        assert (int(port) != 1, ask(int(port), "/healthz").status) == (True, 200)
        assert "stopped" in process.end()
        assert systemd.recv(100) == b"STOPPING=1"


def test_the_commands_of_the_page_replace_a_gateway(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "restarts.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"<!-- takeover -->\n```sh\n(.*?)```", page, re.DOTALL)
    port, path = str(free_port()), f"{Path(sys.executable).parent}:{CLEAN['PATH']}"
    env = CLEAN | {"PATH": path, "HOST": "127.0.0.1", "PORT": port, "ACCESS_LOG": "false"}
    script = f"trap 'kill $new; wait $new' EXIT\nset -e\n{commands.replace('8080', port)}"
    done = subprocess.run(
        ["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ready") == 2
    assert "another process has taken over" in done.stderr
