"""Headless Chromium, driven by the DevTools protocol."""

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
def chromium(profile: Path, *options: str, quic: bool = False) -> Iterator[str]:
    """Run a browser with an empty profile; yield the address of its DevTools.

    Args:
        options: of the command line, besides the usual.
        quic: whether the browser may use HTTP/3.
    """
    process = subprocess.Popen(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", *([] if quic else ["--disable-quic"]),
            "--no-first-run", *options,
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
    """Open a page in a tab; yield the Tab that drives the page."""
    address = httpx.put(f"{devtools}/json/new?{url}", trust_env=False).json()["webSocketDebuggerUrl"]
    with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
        yield connection


class Tab:
    """A connection to the DevTools of a tab."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._calls = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return the result."""
        self._calls += 1
        self._devtools.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while (message := json.loads(self._devtools.recv(PATIENCE))).get("id") != self._calls:
            self.on_event(message)
        assert "error" not in message, message
        return dict(message["result"])

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the page; await a promise."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def on_event(self, message: dict[str, Any]) -> None:
        """Called for each event of the browser."""
