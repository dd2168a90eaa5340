"""The MCP SDK on both sides, with both transports: streamable HTTP, and events with messages sent apart.

The first event of the transport by events names the path for messages. The path is root-relative, so below a prefix
the application must know the prefix. The program reads X-Forwarded-Prefix.
"""

from collections.abc import Iterator

import pytest

from tests.support.applications import BASES, PROGRAMS, PYTHON, Stage, base_url, staged

PATHS = {"streamable": "/mcp", "sse": "/sse"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, int]]:
    with staged(tmp_path_factory.mktemp("mcp")) as stage:
        yield stage, stage.gateway({"tools": [stage.asgi("mcp_server")], "bare": [stage.asgi("mcp_server", BARE="1")]})


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("transport", PATHS)
def test_a_tool_answers(running: tuple[Stage, int], transport: str, base: str) -> None:
    stage, port = running
    url = base_url(base, port, "tools") + PATHS[transport]
    seen = stage.client(PYTHON, PROGRAMS / "mcp_client.py", transport, url)
    assert seen == {"tools": ["add"], "result": "42", "progress": [1.0, 2.0], "wrong": True}


@pytest.mark.parametrize(("transport", "base"), [*(("streamable", base) for base in BASES), ("sse", "host")])
def test_what_needs_no_prefix_works_unconfigured(running: tuple[Stage, int], transport: str, base: str) -> None:
    stage, port = running
    url = base_url(base, port, "bare") + PATHS[transport]
    seen = stage.client(PYTHON, PROGRAMS / "mcp_client.py", transport, url)
    assert (seen["result"], seen["progress"]) == ("42", [1.0, 2.0])
