"""The command line, as a process: exit codes, signals and output."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tornado_gateway import __version__
from tornado_gateway.__main__ import local_authority, merge
from tornado_gateway.config.env_file import EnvFile

ROOT = Path(__file__).resolve().parents[1]
UPSTREAMS = '{"svc": ["http://127.0.0.1:1"]}'
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {"PYTHONPATH": str(ROOT)}


def run(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tornado_gateway", *arguments]
    env = CLEAN | variables
    return subprocess.run(command, env=env, cwd=cwd or ROOT, capture_output=True, text=True, timeout=30, check=False)


def wait_for(port: int, popen: "subprocess.Popen[str]", host: str = "127.0.0.1") -> None:
    """Until a gateway listens."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and popen.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((host, port), 1).close()
            return
        time.sleep(0.02)
    raise AssertionError(f"the gateway does not listen: {popen.poll()}")


class Process:
    """A gateway that runs."""

    def __init__(
        self,
        *arguments: str,
        output: int = subprocess.PIPE,
        by: tuple[str, ...] = ("-m", "tornado_gateway"),
        **variables: str,
    ) -> None:
        self.port = free_port()
        env = CLEAN | {"HOST": "127.0.0.1", "PORT": str(self.port), "UPSTREAMS": UPSTREAMS} | variables
        host = "::1" if env["HOST"] in ("::1", "::") else "127.0.0.1"
        command = [sys.executable, *by, *arguments]
        self.popen = subprocess.Popen(command, env=env, cwd=ROOT, stdout=output, stderr=output, text=True)
        wait_for(self.port, self.popen, host)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def end(self, *signals: signal.Signals) -> tuple[int, str, str]:
        for number in signals:
            self.popen.send_signal(number)
            time.sleep(0.1)
        out, err = self.popen.communicate(timeout=20)
        return self.popen.returncode, out, err


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.communicate()


def test_version() -> None:
    assert run("--version").stdout == f"tornado_gateway {__version__}\n"


def test_the_version_is_that_of_the_newest_changes_and_of_the_example_of_an_image() -> None:
    changes, deployment = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "docs/deployment.md"))
    newest = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d{2}-\d{2}$", changes, re.MULTILINE)[0]
    assert (newest, re.findall(r"newTag: (\S+)", deployment)) == (__version__, [__version__])


def test_help_names_every_option_and_variable() -> None:
    done = run("--help")
    for word in ("--host", "--port", "--env-file", "--check", "--print-config", "--demo", "healthcheck", "UPSTREAMS"):
        assert word in done.stdout
    assert done.returncode == 0


def test_a_wrong_option_is_wrong_usage() -> None:
    done = run("--prot=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--prot" in done.stderr


def test_five_mistakes_are_five_lines_and_exit_78() -> None:
    done = run(UPSTREAMS='{"a": ["ftp://x"], "b": []}', PORT="0x", LOG_LEVEL="loud", HTTP_PROXY_TIMEOUT_MS="-1")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines), done.stdout) == (78, 5, "")
    for name in ("PORT", "LOG_LEVEL", "HTTP_PROXY_TIMEOUT_MS", "UPSTREAMS.a[0]", "UPSTREAMS.b"):
        assert any(line.startswith(name) and "allowed:" in line for line in lines), name


def test_a_secret_is_never_shown() -> None:
    secret = "hunter2hunter2"
    done = run("--print-config", UPSTREAMS=UPSTREAMS, AUTH_REQUIRED="true", JWT_SECRET=secret)
    assert done.returncode == 78
    assert secret not in done.stdout + done.stderr
    done = run("--print-config", UPSTREAMS=UPSTREAMS, JWT_SECRET=secret * 4)
    assert done.returncode == 0
    assert secret not in done.stdout + done.stderr


def test_check_and_print_config_do_not_listen() -> None:
    assert run("--check", UPSTREAMS=UPSTREAMS).stdout == "configuration ok\n"
    printed = run("--print-config", UPSTREAMS=UPSTREAMS, HEADER_TIMEOUT_MS="1234")
    assert "HEADER_TIMEOUT_MS=1234" in printed.stdout.splitlines()


def test_a_misspelt_variable_is_hinted_at() -> None:
    assert "did you mean" in run("--check", UPSTREAMS=UPSTREAMS, UPSTREAM="x").stderr


def test_a_port_in_use_names_host_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(UPSTREAMS=UPSTREAMS, HOST="127.0.0.1", PORT=port)
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_line_over_environment_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"UPSTREAMS={UPSTREAMS}\nPORT=1001\nHOST=127.0.0.3\nLOG_LEVEL=warn\nDNS_TTL_MS=\n")
    done = run("--print-config", "--port", "1003", cwd=tmp_path, PORT="1002", HOST="127.0.0.2", LOG_LEVEL="")
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines())
    names = ("PORT", "HOST", "LOG_LEVEL", "DNS_TTL_MS")
    assert [shown[name] for name in names] == ["1003", "127.0.0.2", "warn", "30000"]


def test_another_env_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "other.env"
    file.write_text(f"UPSTREAMS={UPSTREAMS}\nPORT=1001\n")
    assert "PORT=1001" in run("--print-config", "--env-file", str(file)).stdout
    missing = run("--env-file", "missing.env")
    assert missing.returncode == 78
    assert "missing.env" in missing.stderr
    assert "Traceback" not in missing.stderr
    file.write_bytes(b"PORT=\xff")
    garbled = run("--env-file", str(file))
    assert (garbled.returncode, len(garbled.stderr.splitlines())) == (78, 1)


def test_empty_values_do_not_hide_those_below() -> None:
    asked = Namespace(host="", port=None, workers=None)
    merged = merge(asked, {"PORT": "1", "HOST": "", "LOG_LEVEL": ""}, EnvFile({"LOG_LEVEL": "warn", "HOST": ""}, {}))
    assert merged == {"PORT": "1", "LOG_LEVEL": "warn"}


@pytest.mark.parametrize(
    "content", ["\ufeffAUTH_REQUIRED=true", "export AUTH_REQUIRED='true' # on", "AUTH_REQUIRED=on\r"]
)
def test_what_protects_is_on_however_its_line_is_written(tmp_path: Path, content: str) -> None:
    key = f"JWT_SECRET={'k' * 40}"
    (tmp_path / ".env").write_bytes(f"{content}\n{key}\nUPSTREAMS={UPSTREAMS}\n".encode())
    done = run("--print-config", cwd=tmp_path)
    assert "AUTH_REQUIRED=true" in done.stdout.splitlines()
    assert done.stderr == ""


@pytest.mark.parametrize(
    "line", ["AUTH_REQUIRED", "AUTH_REQUIRED=true#", "AUTH_REQUIRED='true", "\u200bAUTH_REQUIRED=true"]
)
def test_a_line_that_is_wrong_stops_the_start(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"UPSTREAMS={UPSTREAMS}\n{line}\n", encoding="utf-8")
    done = run(cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (78, "", 1)
    assert done.stderr.startswith(".env:2: ")


def test_a_line_without_effect_is_never_silent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"PORT=1\nAUTHORITY=true\nPORT=2\nUPSTREAMS={UPSTREAMS}\n")
    done = run("--print-config", cwd=tmp_path)
    assert "PORT=2" in done.stdout.splitlines()
    assert done.stderr.splitlines() == [
        "warning: PORT is set twice: the value at .env:3 counts, not the one at .env:1",
        "warning: .env:2: AUTHORITY is not a variable of this gateway",
    ]


def test_a_copy_of_the_example_starts_without_a_warning(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(example.replace("\nUPSTREAMS=\n", f"\nUPSTREAMS={UPSTREAMS}\n"))
    done = run("--check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration ok\n", "")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("missing")])
def test_a_dot_env_that_is_no_file_is_an_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / ".env")
    done = run("--check", cwd=tmp_path, UPSTREAMS=UPSTREAMS)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (78, "", 1)


def test_an_empty_name_of_a_file_is_not_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n")
    assert run("--check", "--env-file", "", cwd=tmp_path, UPSTREAMS=UPSTREAMS).returncode == 78


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_ends_an_idle_gateway_cleanly(processes: list[Process], number: signal.Signals, loop: str) -> None:
    process = Process(EVENT_LOOP=loop)
    processes.append(process)
    with process.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        code, out, err = process.end(number)
    assert code == 0
    assert loop in err
    assert json.loads(err.splitlines()[-1])["message"] == "stopped"
    assert json.loads(out.splitlines()[0])["path"] == "/healthz"
    assert "Traceback" not in err


def test_a_second_signal_does_not_wait(processes: list[Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = Process(UPSTREAMS=json.dumps({"svc": [f"http://127.0.0.1:{silent.getsockname()[1]}"]}))
        processes.append(process)
        with process.connect() as client:
            client.sendall(b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\n\r\n")
            with silent.accept()[0] as peer:
                peer.recv(1000)
                code, _, err = process.end(signal.SIGTERM, signal.SIGTERM)
    assert code == 1
    assert "cut off" in err
    assert "Traceback" not in err


def test_healthcheck_tells_a_running_gateway_from_none(processes: list[Process]) -> None:
    process = Process()
    processes.append(process)
    assert run("healthcheck", HOST="0.0.0.0", PORT=str(process.port)).returncode == 0
    process.end(signal.SIGTERM)
    dead = run("healthcheck", HOST="127.0.0.1", PORT=str(process.port))
    assert (dead.returncode, dead.stdout) == (1, "")
    assert dead.stderr.startswith("not healthy: /healthz of HOST and PORT, or of LISTEN: ")
    assert "Traceback" not in dead.stderr


def test_ctl_steers_a_running_gateway(processes: list[Process], tmp_path: Path) -> None:
    variables = {"CTL_SOCKET": str(tmp_path / "own" / "ctl.sock")}
    away = run("ctl", "services", **variables)
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (3, "", 1)
    process = Process(**variables)
    processes.append(process)
    done = run("ctl", "drain", "svc", "127.0.0.1:1", **variables)
    assert (done.returncode, done.stderr, json.loads(done.stdout)["state"]) == (0, "", "drained")
    (tmp_path / ".env").write_text(f"CTL_SOCKET={variables['CTL_SOCKET']}\n", encoding="utf-8")
    shown = run("ctl", "services", cwd=tmp_path)
    assert [each["weight"] for each in json.loads(shown.stdout)["services"][0]["endpoints"]] == [0]
    code, _, err = process.end(signal.SIGTERM)
    assert (code, "POST /admin/api/drain by" in err, "control socket" in err) == (0, True, True)
    assert not (tmp_path / "own" / "ctl.sock").exists()


def test_the_demo_needs_no_configuration_and_says_what_to_try(processes: list[Process]) -> None:
    process = Process("--demo", UPSTREAMS="", ROUTES='[{"path": "/a/*", "service": "of nobody"}]')
    processes.append(process)
    with process.connect() as client:
        client.sendall(b"GET /api/api/items/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(10000).startswith(b"HTTP/1.1 200 ")
    with process.connect() as client:
        client.sendall(b"GET /live/items HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(10000).startswith(b"HTTP/1.1 200 ")
    code, out, err = process.end(signal.SIGTERM)
    assert code == 0
    assert f"curl http://127.0.0.1:{process.port}/api/api/" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("bound", "address"),
    [
        (("0.0.0.0", 80), "127.0.0.1:80"),
        (("*", 80), "127.0.0.1:80"),
        (("::", 80), "[::1]:80"),
        (("10.0.0.1", 8080), "10.0.0.1:8080"),
    ],
)
def test_a_bound_address_is_reachable_from_this_machine(bound: tuple[str, int], address: str) -> None:
    assert local_authority(*bound) == address


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["*", "127.0.0.1,::1", "::1"])
def test_every_address_is_listened_on_and_named(processes: list[Process], host: str, loop: str) -> None:
    families = [socket.AF_INET6] if host == "::1" else [socket.AF_INET, socket.AF_INET6]
    process = Process(HOST=host, EVENT_LOOP=loop)
    processes.append(process)
    for family in families:
        address = "::1" if family is socket.AF_INET6 else "127.0.0.1"
        wait_for(process.port, process.popen, address)
        with socket.create_connection((address, process.port), 5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert run("healthcheck", HOST=host, PORT=str(process.port)).stdout == "healthy\n"
    code, _, err = process.end(signal.SIGTERM)
    assert code == 0
    bound = {"*": ["0.0.0.0", "[::]"], "127.0.0.1,::1": ["127.0.0.1", "[::1]"], "::1": ["[::1]"]}[host]
    assert f"listening on {', '.join(f'{each}:{process.port}' for each in bound)} for" in err


def test_the_listener_for_operators_is_named(processes: list[Process]) -> None:
    port = free_port()
    process = Process(ADMIN_PORT=str(port))
    processes.append(process)
    wait_for(port, process.popen)
    code, _, err = process.end(signal.SIGTERM)
    assert (code, f"on 127.0.0.1:{port} for operators" in err) == (0, True)


@pytest.mark.parametrize("host", ["*", "127.0.0.1,::1"])
def test_the_address_that_is_taken_is_named(host: str) -> None:
    # Below the ephemeral ports, so that no other test has the port on another address.
    port = random.randrange(20_000, 30_000)
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        done = run(UPSTREAMS=UPSTREAMS, HOST=host, PORT=str(port))
    address = "[::]" if host == "*" else "[::1]"
    assert (done.returncode, done.stderr) == (
        3, f"HOST, PORT: cannot listen on {address}:{port}: Address already in use\n"
    )  # fmt: skip


def test_a_name_that_is_not_found_is_named() -> None:
    done = run(UPSTREAMS=UPSTREAMS, HOST="127.0.0.1,no-such-host.invalid", PORT="0")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("HOST, PORT: cannot listen on no-such-host.invalid:")


# ---------------------------------------------------------------- signals and streams of the process


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_that_means_reload_elsewhere_ends_nothing(processes: list[Process], loop: str) -> None:
    process = Process(EVENT_LOOP=loop)
    processes.append(process)
    assert process.popen.stderr
    says = {signal.SIGHUP: "reloaded: ", signal.SIGUSR1: "SIGUSR1 is ignored", signal.SIGUSR2: "SIGUSR2 is ignored"}
    for number, said in [*says.items(), *says.items()]:
        process.popen.send_signal(number)
        while said not in (line := process.popen.stderr.readline()):
            assert line, "the gateway has ended"
        with process.connect() as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert process.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("gone", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_clean_stop_is_one_without_readers_too(processes: list[Process], gone: tuple[str, ...]) -> None:
    process = Process()
    processes.append(process)
    for name in gone:
        getattr(process.popen, name).close()
        setattr(process.popen, name, None)
    with process.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        process.popen.send_signal(signal.SIGHUP)
    assert process.end(signal.SIGTERM)[0] == 0


def test_a_reader_that_stalls_does_not_hold_up_a_stop(processes: list[Process]) -> None:
    process = Process()
    processes.append(process)
    with process.connect() as client:
        for _ in range(30):  # some 150 kB of log; a pipe holds 64 kB
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            answered = 0
            while answered < 20:
                answered += client.recv(65536).count(b"HTTP/1.1 200 ")
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(20) == 0
    process.popen.communicate()


def test_a_reader_of_all_output_that_stalls_holds_up_nothing(processes: list[Process]) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb", buffering=0):
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"x")
        os.set_blocking(write, True)  # the gateway gets the mode with the pipe
        process = Process(output=write)
        processes.append(process)
        with process.connect() as client:
            for _ in range(3):
                process.popen.send_signal(signal.SIGHUP)  # a line of the log
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(30) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_from_the_start_are_as_good_as_none(closed: str) -> None:
    port = free_port()
    env = CLEAN | {"UPSTREAMS": UPSTREAMS, "HOST": "127.0.0.1", "PORT": str(port)}
    command = f'exec "{sys.executable}" -m tornado_gateway {closed}'
    popen = subprocess.Popen(command, shell=True, env=env, cwd=ROOT, text=True)
    try:
        wait_for(port, popen)
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    finally:
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "code"), [("--help", 0), ("--version", 0), ("--check", 0), ("--print-config", 0), ("--port x", 78)]
)
def test_a_reader_that_leaves_changes_no_exit_code(arguments: str, code: int) -> None:
    script = f'("{sys.executable}" -m tornado_gateway {arguments}; echo "exit $?" >&9) 2>&1 | true'
    done = subprocess.run(
        ["bash", "-c", f"exec 9>&1; {script}"],
        env=CLEAN | {"UPSTREAMS": UPSTREAMS}, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout == f"exit {code}\n"
    assert done.stderr == ""


def test_what_an_encoding_cannot_hold_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.json"
    path.write_text(UPSTREAMS)
    done = run("--print-config", UPSTREAMS_FILE=str(path), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff.json" in done.stdout


# ---------------------------------------------------------------- warnings


def test_ineffective_variables_are_reported_at_start_and_by_check(processes: list[Process]) -> None:
    told = "CACHE_MAX_BYTES is set but has no effect: nothing is cached"
    assert run("--check", UPSTREAMS=UPSTREAMS, CACHE_MAX_BYTES="9").stderr == f"warning: {told}\n"
    process = Process(CACHE_MAX_BYTES="9", JWT_SECRET="k" * 40)
    processes.append(process)
    _, _, err = process.end(signal.SIGTERM)
    assert told in err
    assert "JWT_SECRET is set but has no effect: AUTH_REQUIRED is false" in err
