"""docs/authentication.md: the commands that get a ticket and use the ticket."""

import asyncio
import json
import os
import re

import pytest

from tests.conftest import Serve
from tests.support.examples import environments
from tests.support.journeys import Start
from tests.support.sockets import Peer
from tests.support.tickets import token_of
from tests.test_documents import documents
from tornado_gateway.policy.tickets.allowance import MAX_OF_PRINCIPAL
from tornado_gateway.policy.tickets.memory import MAX_TICKETS
from tornado_gateway.policy.tickets.ticket import TTL

PAGE = documents()["docs/authentication.md"]


def block(name: str) -> str:
    """The text of the block of code between the marks of a name."""
    marked = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\n".join(marked.splitlines()[1:-1])


async def one_event(peer: Peer) -> None:
    await peer.request()
    body = b"data: hello\n\n"
    await peer.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


@pytest.mark.gen_test
async def test_the_commands_of_the_page_open_a_stream(serve: Serve, upstream: Start) -> None:
    (env,) = [each for each in environments(PAGE) if "ticket" in each.get("AUTH_TOKEN_SOURCES", "")]
    assert json.loads(env.pop("UPSTREAMS")) == {"chat": ["http://127.0.0.1:9000"]}
    running = await serve({"chat": [upstream(one_event).url]}, **env)
    script = re.sub(r"127\.0\.0\.1:8080", f"127.0.0.1:{running.port}", block("ticket"))
    variables = os.environ | {"TOKEN": token_of(env["JWT_SECRET"]).decode(), "no_proxy": "*"}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert await process.communicate() == (b"data: hello\n\n", b"")


def test_the_numbers_of_the_page_are_those_of_the_source() -> None:
    seconds = round(TTL)
    assert f"or after {seconds} seconds" in PAGE
    assert f'"expiresInMs": {seconds * 1000}}}' in PAGE
    assert f"A principal may make {MAX_OF_PRINCIPAL} tickets in {seconds} seconds" in PAGE
    assert f"room for {MAX_TICKETS:,} unused tickets" in PAGE
