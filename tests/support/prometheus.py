"""A real Prometheus for tests, and its tool promtool (Debian's package prometheus)."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.sockets import PATIENCE

CONFIG = """
global:
  scrape_interval: 200ms
scrape_configs:
  - job_name: tornado-gateway
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def promtool(*arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """What promtool says; the tool must be content."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


class Prometheus:
    """A Prometheus that scrapes a gateway.

    Args:
        folder: an empty folder for configuration and data.
        gateway: port of the gateway.
    """

    def __init__(self, folder: Path, gateway: int) -> None:
        self.port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(port=gateway), encoding="utf-8")
        self._process = subprocess.Popen(
            [
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of the HTTP API; None while Prometheus does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, query: str) -> float | None:
        """The value of the only series of a query; None without a series."""
        data = self.get("query", query=query)
        results = data["result"] if data else []
        return float(results[0]["value"][1]) if len(results) == 1 else None

    def wait_for(self, query: str, value: float) -> None:
        """Wait until a query has this value. Blocks: the gateway is another process."""
        deadline = time.monotonic() + PATIENCE
        while (seen := self.value(query)) != value:
            assert self._process.poll() is None, "prometheus has ended"
            assert time.monotonic() < deadline, f"{query} is {seen}"
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
