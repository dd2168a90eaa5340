"""A gateway in a process of its own, for tests of several gateways and of memory."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.sockets import PATIENCE, Client, get


def memory_of(pid: int) -> int:
    """Resident memory in bytes, of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    statuses = [Path(f"/proc/{each}/status").read_text() for each in (pid, *children)]
    return sum(int(size) * 1024 for each in statuses for size in re.findall(r"VmRSS:\s*(\d+) kB", each))


class GatewayProcess:
    """A gateway that listens."""

    def __init__(self, popen: "subprocess.Popen[bytes]", port: int) -> None:
        self._popen, self.port = popen, port

    @property
    def memory(self) -> int:
        """Resident memory in bytes, of all processes of the gateway."""
        return memory_of(self._popen.pid)

    async def figure(self, name: str) -> float:
        """A figure of /metrics without labels."""
        client = await Client.connect(self.port)
        text = (await client.ask(get(b"/metrics"))).body.decode()
        client.close()
        return float(re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)[0])


@asynccontextmanager
async def gateway_process(services: dict[str, Any], **variables: str) -> AsyncIterator[GatewayProcess]:
    """Start a gateway, which must end well when it is told to."""
    port = free_port()
    quiet = {"HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false", "LOG_LEVEL": "fatal"}
    env = os.environ | quiet | {"UPSTREAMS": json.dumps(services)} | variables
    popen = subprocess.Popen([sys.executable, "-m", "tornado_gateway"], env=env)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(ConnectionRefusedError):
                    (await Client.connect(port)).close()
                    break
                await asyncio.sleep(0.02)
    except BaseException:  # a gateway that is told to end while it starts cannot end well, and the cause is to be shown
        popen.kill()
        popen.wait(PATIENCE)
        raise
    try:
        yield GatewayProcess(popen, port)
    finally:
        popen.terminate()
        assert popen.wait(PATIENCE) == 0
