"""docs/cors.md, carried out: its commands on a gateway, its preflight, and its tables."""

import json

import pytest

from tests.conftest import Running, Serve
from tests.support.examples import environments
from tests.support.journeys import Start, ask
from tests.support.sockets import Upstream, echo, get
from tests.test_documents import code, documents, rows
from tornado_gateway.policy.http.cors import EXPOSED

PAGE = documents()["docs/cors.md"]
APP = b"https://app.example.com"


def block(name: str) -> bytes:
    """The text of the block of code between the marks of a name."""
    marked = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return "\r\n".join(marked.splitlines()[1:-1]).encode()


async def following(serve: Serve, up: Upstream, command: int) -> Running:
    """A gateway that a command of the page starts, with a service that answers."""
    env = dict(list(environments(PAGE))[command])
    services = json.loads(env.pop("UPSTREAMS").replace("http://10.0.0.7:9000", up.url))
    return await serve(services, **env)


@pytest.mark.gen_test
async def test_the_preflight_of_the_page_is_answered_as_the_page_says(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await following(serve, up, 0)
    answer = await ask(running, block("preflight") + b"\r\n\r\n", b"OPTIONS")
    start, *lines = block("permitted").split(b"\r\n")
    assert (answer.start, up.requests) == (start, [])
    assert set(lines) <= {b"%b: %b" % field for field in answer.fields}


@pytest.mark.parametrize("row", rows(PAGE, "origins"), ids=" ".join)
@pytest.mark.gen_test
async def test_the_origins_of_the_page_may_do_as_the_page_says(serve: Serve, upstream: Start, row: list[str]) -> None:
    running = await following(serve, upstream(echo), 0)
    origin = code(row[0])[0].encode()
    answer = await ask(running, get(b"/api/billing/x", b"Origin: " + origin))
    assert answer.get(b"access-control-allow-origin") == (origin if row[1] == "yes" else None)
    assert answer.status == 200


def test_the_page_names_what_a_page_reads() -> None:
    named = PAGE.partition("A page also reads")[2].partition("\n* ")[0]
    assert code(named) == list(EXPOSED)


@pytest.mark.gen_test
async def test_a_preflight_passes_to_the_service_that_answers_itself(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await following(serve, up, 1)
    lines = (b"Origin: " + APP, b"Access-Control-Request-Method: PUT")
    assert (await ask(running, get(b"/api/shop/x", *lines, method=b"OPTIONS"))).status == 200
    assert (await ask(running, get(b"/api/shop/x", *lines))).status == 401
    assert len(up.requests) == 1
