"""Chromium without a window, told what to do by its DevTools protocol."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.websockets import PATIENCE, until


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """A browser with an empty directory for its profile; the address of its DevTools."""
    process = subprocess.Popen(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
            f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = profile / "DevToolsActivePort"
        until(lambda: port.is_file() and "\n" in port.read_text(), "Chromium listens")
        yield f"http://127.0.0.1:{port.read_text().split()[0]}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def tab(devtools: str, url: str) -> Iterator[ClientConnection]:
    """A page in a tab of its own; the connection that drives it."""
    address = httpx.put(f"{devtools}/json/new?{url}", trust_env=False).json()["webSocketDebuggerUrl"]
    with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
        yield connection


class Tab:
    """What can be done in a tab."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._calls = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._calls += 1
        self._devtools.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (message := json.loads(self._devtools.recv(PATIENCE))).get("id") != self._calls:
            self.on_event(message)
        assert "error" not in message, message
        return dict(message["result"])

    def value(self, expression: str) -> Any:
        """What an expression gives in the page; of a promise, what it resolves to."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def on_event(self, message: dict[str, Any]) -> None:
        """The browser has said something unasked."""
