"""Real programs around a real gateway: what starts them, waits for them and ends them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests" / "real"
PATIENCE = 20.0  # seconds until what must happen has happened

# Debian's node-ws lies where only Debian's own nodejs looks for modules by itself.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "NODE_PATH": "/usr/share/nodejs"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what}"
        time.sleep(0.01)
    return result


@contextlib.contextmanager
def running(command: list[str], *ports: int, **variables: str) -> Iterator[None]:
    """A program, from when it listens on its ports; it is ended in the end."""
    process = subprocess.Popen(command, env=ENVIRONMENT | variables, stdout=subprocess.DEVNULL)
    try:
        for port in ports:
            until(lambda port=port: process.poll() is not None or _listens(port), f"{command} listens on {port}")
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def gateway(services: dict[str, str], **variables: str) -> Iterator[int]:
    """The gateway as a process, without limits on how often a client may come; its port."""
    port = free_port()
    settings = {
        "HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "error", "RATE_LIMIT_MAX": "0", "DRAIN_SPREAD_MS": "0",
        "UPSTREAMS": json.dumps({name: [url] for name, url in services.items()}),
    }  # fmt: skip
    with running([sys.executable, "-m", "tornado_gateway"], port, **(settings | variables)):
        yield port


@contextlib.contextmanager
def python_server() -> Iterator[tuple[int, int]]:
    """`streams_server.py`; its ports for WebSockets and for HTTP."""
    ports = free_port(), free_port()
    with running([sys.executable, str(PROGRAMS / "streams_server.py"), *map(str, ports)], *ports):
        yield ports


@contextlib.contextmanager
def node_server() -> Iterator[tuple[int, int]]:
    """`streams_server.js`; its port, for both."""
    port = free_port()
    with running(["node", str(PROGRAMS / "streams_server.js"), str(port)], port):
        yield port, port
