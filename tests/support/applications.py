"""Real applications behind a gateway: processes that are awaited by a request and ended by their ids.

An application is reached below three base URLs, of which each carries HTTP, events and WebSockets:

    route   http://localhost:PORT/apps/<service>    a route of ROUTES by path, which strips its prefix
    api     http://localhost:PORT/api/<service>     the standard route
    host    http://<service>.localhost:PORT         a route of ROUTES by host

The applications and their clients have an environment of their own, which tests/long makes: their requirements may
contradict the gateway's.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.ports import free_port
from tests.support.websockets import ROOT, until

PATIENCE = 60.0  # seconds until what must happen has happened
ENVIRONMENT = ROOT / ".venv" / "applications"
PYTHON = ENVIRONMENT / "bin" / "python"
PROGRAMS = ROOT / "tests" / "real" / "applications" / "programs"

BASES = ("route", "api", "host")


def base_url(base: str, port: int, service: str) -> str:
    """One of the three base URLs of a service, without a final slash."""
    if base == "host":
        return f"http://{service}.localhost:{port}"
    return f"http://localhost:{port}/{'apps' if base == 'route' else 'api'}/{service}"


def port_of(url: str) -> int:
    """The port that a URL names.

    >>> port_of("http://127.0.0.1:8000")
    8000
    """
    port = urlsplit(url).port
    assert port is not None, url
    return port


class Stage:
    """Starts processes, which end with the stage.

    Args:
        folder: the processes' home, and the place of their logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "NO_PROXY": "*",
            "NODE_PATH": str(ENVIRONMENT / "node_modules"), "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self._ended = contextlib.ExitStack()

    def close(self) -> None:
        self._ended.close()

    def start(self, *command: str | Path, answers: str, cwd: Path = PROGRAMS, **variables: str) -> Path:
        """Run a process until the stage closes; the path of its log, once a URL answers."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=cwd, env=self.environment | variables, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._ended.callback(_end, process)
        until(lambda: _answers(answers) or process.poll() is not None, f"{answers} answers", PATIENCE)
        assert process.poll() is None, log.read_text()
        return log

    def asgi(self, module: str, **variables: str) -> str:
        """Run the ASGI application of a program under uvicorn; the base URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self.start(PYTHON, "-m", "uvicorn", f"{module}:app", "--port", str(port), answers=url, **variables)
        return url

    def gateway(self, services: Mapping[str, Any], **variables: str) -> int:
        """Run a gateway with routes by path and by host to each service; the port."""
        port = free_port()
        routes = [{"path": f"/apps/{name}/*", "service": name, "strip": True} for name in services]
        routes += [{"host": f"{name}.localhost", "path": "/*", "service": name} for name in services]
        settings = {"HOST": "127.0.0.1", "PORT": str(port), "UPSTREAMS": json.dumps(services), "PYTHONPATH": str(ROOT)}
        settings |= {"ROUTES": json.dumps(routes)} | variables
        ready = f"http://127.0.0.1:{port}/readyz"
        self.start(sys.executable, "-m", "tornado_gateway", answers=ready, cwd=self.folder, **settings)
        return port

    def client(self, *command: str | Path) -> dict[str, Any]:
        """Run a program to its end; the JSON of its last line."""
        done = subprocess.run(
            command, cwd=PROGRAMS, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def logs(self) -> str:
        """The ends of all logs, for the message of a failure."""
        return "".join(f"\n---- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A Stage in an empty folder."""
    stage = Stage(folder)
    try:
        yield stage
    finally:
        stage.close()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code < 500
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:  # a server that waits for the clients of its streams
        process.kill()
        process.wait()
