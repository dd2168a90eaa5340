"""The MCP SDK on both sides, with both transports: streamable HTTP, and events with messages sent apart.

The first event of the transport by events names the path for messages. The path is root-relative, so below a prefix
the application must know the prefix.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.applications.support import WAYS, documented
from tests.support.applications import PROGRAMS, PYTHON, Stage, port_of, staged
from tests.support.websockets import ROOT

PATHS = {"streamable": "/mcp", "sse": "/sse"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, dict[str, int]]]:
    """A stage, and the ports of a server that reads X-Forwarded-Prefix and of a server that does not."""
    with staged(tmp_path_factory.mktemp("mcp")) as stage:
        configured, bare = stage.asgi("mcp_server"), stage.asgi("mcp_server", BARE="1")
        yield stage, {"configured": port_of(configured), "bare": port_of(bare)}


def call(running: tuple[Stage, dict[str, int]], server: str, transport: str, way: str) -> dict[str, Any]:
    """What a client of the SDK saw."""
    stage, ports = running
    url = documented(stage, "MCP", way, ports[server]) + PATHS[transport]
    return stage.client(PYTHON, PROGRAMS / "mcp_client.py", transport, url)


SEEN = {"tools": ["add"], "result": "42", "progress": [1.0, 2.0], "wrong": True}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("transport", PATHS)
def test_a_tool_answers(running: tuple[Stage, dict[str, int]], transport: str, way: str) -> None:
    assert call(running, "configured", transport, way) == SEEN


@pytest.mark.parametrize(("transport", "way"), [*(("streamable", way) for way in WAYS), ("sse", "host")])
def test_what_needs_no_prefix_works_unconfigured(
    running: tuple[Stage, dict[str, int]], transport: str, way: str
) -> None:
    assert call(running, "bare", transport, way) == SEEN


def test_the_documented_lines_are_the_programs() -> None:
    document = (ROOT / "docs" / "applications.md").read_text(encoding="utf-8")
    found = re.search(r"^## MCP\n.*?```python\n(.*?)```", document, re.DOTALL | re.MULTILINE)
    assert found
    assert found[1] in (PROGRAMS / "mcp_server.py").read_text(encoding="utf-8")
