"""A gateway whose variables stand in a file, for tests of reloads."""

import json
from pathlib import Path
from typing import Any

from tests.conftest import Running, Serve
from tests.support.journeys import ask
from tests.support.sockets import Message, get
from tornado_gateway.config.env_file import EnvFile, read_env_file
from tornado_gateway.config.load import load_settings
from tornado_gateway.reload import Configuration, reloader_of

QUIET = {
    "HOST": "127.0.0.1", "PORT": "0", "ACCESS_LOG": "false", "LOG_LEVEL": "info",
    "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS": "0",
}  # fmt: skip


class Reloading:
    """A gateway, and the file with its variables.

    Attributes:
        file: read by each reload.
        environment: variables that precede those of the file.
    """

    def __init__(self, running: Running, file: Path, environment: dict[str, str]) -> None:
        self.running, self.file, self.environment = running, file, environment
        variables, _ = self._read()
        configuration = Configuration(load_settings(variables), variables, self._read, str(file))
        self.reloader = reloader_of(running.app, configuration)

    @classmethod
    async def start(
        cls, serve: Serve, file: Path, services: dict[str, Any], environment: dict[str, str] | None = None, **lines: str
    ) -> "Reloading":
        """Start a gateway whose file has UPSTREAMS and these lines."""
        first = {"UPSTREAMS": json.dumps(services), **lines}
        write(file, first)
        given = QUIET | (environment or {})
        return cls(await serve({}, **{**first, **{name: text for name, text in given.items() if text}}), file, given)

    def _read(self) -> tuple[dict[str, str], EnvFile]:
        found = read_env_file(str(self.file))
        return {name: text for name, text in {**found.values, **self.environment}.items() if text}, found

    def write(self, services: dict[str, Any], **lines: str) -> None:
        """Write other variables into the file, instead of all variables there."""
        write(self.file, {**({"UPSTREAMS": json.dumps(services)} if services else {}), **lines})

    async def post(self, *lines: bytes) -> Message:
        """The answer to an operator's order to reload; without lines, of somebody on the machine."""
        order = get(b"/admin/api/reload", *lines, method=b"POST", body=b"{}")
        return await ask(self.running, order if lines else order.replace(b"gateway.example", b"127.0.0.1"), b"POST")

    async def reload(self, *lines: bytes) -> dict[str, Any]:
        """Reload, which must succeed; return what has changed."""
        answer = await self.post(*lines)
        assert answer.status == 200, answer.body
        said: dict[str, Any] = json.loads(answer.body)
        return said


def write(file: Path, lines: dict[str, str]) -> None:
    """Write a .env file; no value has a single quote."""
    file.write_text("".join(f"{name}='{text}'\n" for name, text in lines.items()), encoding="utf-8")
