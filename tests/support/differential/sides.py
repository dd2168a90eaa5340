"""A gateway as a process, with scripted upstreams, on a loopback address of its own.

Both gateways use the same ports, on 127.0.0.1 and on 127.0.0.2, and reach their upstreams by the same names: a hosts
file gives each name the gateway's own address. So ports and names need not be replaced in what is compared.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.differential.cases import SECRET
from tests.support.differential.sameness import NEW_ADDRESS, OLD_ADDRESS
from tests.support.differential.scenes import Stage, UpstreamLine
from tests.support.ports import free_port

START = 30.0  # seconds a gateway may take to listen, or to stop

# Nothing here depends on the time that a case takes: no breaker, no budget of retries, no choice by latency.
STEADY = {
    "VIA_NAME": "edge", "STICKY_SECRET": "a secret of sticky cookies", "BREAKER_FAILURES": "0",
    "RETRY_BUDGET_PERCENT": "1000",
    "RETRY_BUDGET_FLOOR": "1000000", "RETRY_BACKOFF_MS": "1", "BALANCER": "round_robin", "LOG_FORMAT": "json",
    "SLOW_START_MS": "0",
    "SHUTDOWN_TIMEOUT_MS": "2000", "DRAIN_SPREAD_MS": "0",
}  # fmt: skip

# Settings that make other decisions; each takes its share of the cases.
PROFILES: dict[str, dict[str, str]] = {
    "defaults": {},
    "tokens": {"AUTH_REQUIRED": "true", "JWT_SECRET": SECRET},
    "strict": {"TARGET_BYTES": "strict", "HALF_CLOSE": "ignore", "PRESERVE_HOST": "true", "ALT_SVC": "pass"},
    "proxied": {"TRUSTED_PROXIES": "127.0.0.0/8", "TARGET_BYTES": "forward", "SSE_LAST_EVENT_ID_QUERY": "true"},
    "limits": {
        "MAX_BODY_BYTES": "160000", "WS_MAX_MESSAGE_BYTES": "1000", "MAX_STREAMS_PER_CLIENT": "1",
        "WS_ALLOWED_ORIGINS": "http://page.example", "WS_ORIGIN": "rewrite", "MAX_IN_FLIGHT": "3",
    "SLOW_CONSUMER": "disconnect",
    },
    "production": {
        "GATEWAY_ENV": "production", "AUTH_REQUIRED": "false", "RETRY_ON": "connect,reset,503", "REPEATABLE": "POST",
        "SSE_ERROR_EVENT": "openai", "SSE_UNAVAILABLE": "retry", "SSE_PEEK_MS": "2000", "STICKY": "redistribute",
    },
    "breakers": {"BREAKER_FAILURES": "5", "BREAKER_WINDOW_MS": "86400000", "BREAKER_OPEN_MS": "86400000",
                 "BREAKER_MAX_OPEN_MS": "86400000", "HEALTH_DOWN_INTERVAL_MS": "86400000"},
    "asyncio": {"EVENT_LOOP": "asyncio", "DISCOVERY": "false", "BALANCER": "consistent_hash", "HASH_KEY": "path",
                "SSE_ERROR_EVENT": "anthropic", "READY_REQUIRES": "down", "STICKY": "refuse",
    "HTTP_PROXY_TIMEOUT_MS": "10000"},
}  # fmt: skip


@dataclass(frozen=True)
class Ports:
    """Ports that are free on both addresses: of the gateway, of the upstreams, and one that nobody listens on."""

    gateway: int
    upstreams: int
    refusing: int


def services(ports: Ports) -> str:
    """UPSTREAMS: services of one endpoint, of two, of one that refuses, and with settings of their own."""

    def url(name: str, port: int = ports.upstreams, base: str = "") -> str:
        return f"http://{name}.test:{port}{base}"

    return json.dumps(
        {
            "svc": [url("svc", base="/base")],
            "plain": [url("plain")],
            "pair": [url("pair-1"), url("pair-2")],
            "half": [url("half-1", ports.refusing), url("half-2")],
            "down": [url("down", ports.refusing)],
            "repeat": {
                "endpoints": [url("repeat-1"), url("repeat-2")],
                "retryOn": ["connect", "reset", 503, 429],
                "repeatable": "all",
                "sseErrorEvent": "generic",
                "altSvc": "pass",
            },
            "limited": {"endpoints": [url("limited", base="/v1")], "maxInFlight": 2, "sseUnavailable": "status"},
        }
    )


NAMES = ("svc", "plain", "pair-1", "pair-2", "half-1", "half-2", "down", "repeat-1", "repeat-2", "limited")


def free_ports() -> tuple[Ports, socket.socket, socket.socket]:
    """Ports; the one that refuses is kept by sockets that are bound and do not listen."""
    refusing = free_port(OLD_ADDRESS, NEW_ADDRESS)
    first, second = socket.socket(), socket.socket()
    first.bind((OLD_ADDRESS, refusing))
    second.bind((NEW_ADDRESS, refusing))
    ports = Ports(free_port(OLD_ADDRESS, NEW_ADDRESS), free_port(OLD_ADDRESS, NEW_ADDRESS), refusing)
    return ports, first, second


class Side:
    """One gateway that runs, and its stage.

    Attributes:
        output: what the gateway has written, once it has stopped.
        code: with which it exited.
    """

    def __init__(self, host: str, port: int, process: asyncio.subprocess.Process) -> None:
        self.host, self.port = host, port
        self.stage = Stage()
        self.output, self.code = "", -1
        self._process = process

    async def page(self, path: str) -> bytes:
        """The body of one of the gateway's own pages."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    async def stop(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(START):
                self.code = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            self.code = await self._process.wait()


@asynccontextmanager
async def running(folder: Path, host: str, ports: Ports, settings: Mapping[str, str]) -> AsyncIterator[Side]:
    """Run the gateway of a folder with upstreams of its own; afterwards the side's output is complete.

    Raises:
        RuntimeError: the gateway does not listen; its output is in the text.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "hosts").write_text("".join(f"{host} {name}.test\n" for name in NAMES))
        env = {
            "PATH": os.environ.get("PATH", ""), "HOST": host, "PORT": str(ports.gateway), "UPSTREAMS": services(ports),
            "DNS_HOSTS": str(directory / "hosts"), "PYTHONDONTWRITEBYTECODE": "1", **STEADY, **settings,
        }  # fmt: skip
        output = stack.enter_context((directory / "log").open("w+b"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tornado_gateway", cwd=folder, env=env, stdout=output, stderr=output
        )
        side = Side(host, ports.gateway, process)
        listener = await asyncio.get_running_loop().create_server(
            lambda: UpstreamLine(side.stage), host, ports.upstreams, backlog=1024
        )
        try:
            await _listening(side, process, directory / "log")
            yield side
        finally:
            await side.stop()
            listener.close()
            for line in list(side.stage.lines):
                line.reset()
            await asyncio.sleep(0)
            side.output = (directory / "log").read_text(errors="replace")


async def _listening(side: Side, process: asyncio.subprocess.Process, log: Path) -> None:
    try:
        async with asyncio.timeout(START):
            while process.returncode is None:
                with suppress(OSError):
                    await side.page("/healthz")
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise RuntimeError(f"the gateway does not listen: {log.read_text(errors='replace')}")
