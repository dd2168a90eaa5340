"""The URLs that a browser makes of whatever a page or a person writes: TARGET_BYTES=browser refuses none of them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import until

ROOT = Path(__file__).resolve().parents[2]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nok"

# Every visible ASCII character, and some beyond; "#" begins a fragment, which is not sent.
CHARACTERS = [chr(code) for code in range(0x20, 0x7F) if chr(code) != "#"] + ["é", "€", "😀", "\u00a0", "\ufeff"]

# Fetches each path from the page's own origin; the statuses.
FETCH = """
(paths => Promise.all(paths.map(path => fetch(path).then(answer => answer.status, error => String(error)))))(%s)
"""


class Upstream:
    """An HTTP server on threads that keeps the raw target of each request."""

    def __init__(self) -> None:
        self.targets: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65536) or b"\r\n\r\n"
            self.targets.append(data.split(b" ")[1])
            client.sendall(ANSWER)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def gateway(upstream: Upstream) -> Iterator[str]:
    """A gateway as a process, with its defaults; its URL."""
    port = free_port()
    variables = {
        "UPSTREAMS": f'{{"svc": ["http://127.0.0.1:{upstream.port}"]}}', "HOST": "127.0.0.1", "PORT": str(port),
        "ACCESS_LOG": "false", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "tornado_gateway"], env=os.environ | variables, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        return False

    try:
        until(answers, "the gateway listens")
        yield url
    finally:
        process.terminate()
        process.wait(15)


def shows(page: Tab, origin: str) -> bool:
    with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
        return bool(page.value(f"location.origin === '{origin}' && document.readyState") == "complete")
    return False


def test_whatever_chromium_sends_is_forwarded(upstream: Upstream, gateway: str, tmp_path: Path) -> None:
    in_path = [f"/api/svc/a{each}b" for each in CHARACTERS]
    in_query = [f"/api/svc/a?b{each}c" for each in CHARACTERS]
    paths = [*in_path, *in_query, "/api/svc/?a[0]={b}&c=d|e^f`g\\h'i", "/api/svc/x;y=z/@,()*!$&+=:~"]
    with chromium(tmp_path) as devtools, tab(devtools, f"{gateway}/healthz") as connection:
        page = Tab(connection)
        until(lambda: shows(page, gateway), "the gateway's page is there")
        statuses = page.value(FETCH % json.dumps(paths))
    refused = [(path, status) for path, status in zip(paths, statuses, strict=True) if status != 200]
    # A backslash in a path is sent as a slash, and dots that lead upwards are resolved: they are forwarded, too.
    assert refused == []
    assert len(upstream.targets) == len(paths)
    queries = b"".join(target.partition(b"?")[2] for target in upstream.targets)
    assert set(b"^|`{}[]\\") <= set(queries)  # why they are not refused
    assert not set(b'"<> ') & set(b"".join(upstream.targets))  # why these may be
    assert max(b"".join(upstream.targets)) < 0x7F
