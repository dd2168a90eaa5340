"""docs/getting-started.md: the commands of the page do what the page says."""

import functools
import json
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.examples import environments
from tests.support.journeys import ask, problem
from tests.support.sockets import get

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
STEPS = [part for part in PAGE.split("\n## ") if any(environments(part))]  # that start a gateway with a service

_CURL = re.compile(r"^curl http://127\.0\.0\.1:8080(/\S*)$", re.MULTILINE)


class Quiet(SimpleHTTPRequestHandler):
    """What `python3 -m http.server` serves with, without lines in the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def files() -> Iterator[str]:
    """The URL of a server of the repository's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(ROOT))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_two_steps_start_a_gateway() -> None:
    assert [len(_CURL.findall(step)) for step in STEPS] == [1, 3]


@pytest.mark.parametrize("step", STEPS, ids=["a service", "a path of its own"])
@pytest.mark.gen_test
async def test_each_step_serves_the_files_that_the_step_asks_for(serve: Serve, files: str, step: str) -> None:
    (env,) = environments(step)
    assert json.loads(env.pop("UPSTREAMS")) == {"files": ["http://127.0.0.1:9000"]}
    running = await serve({"files": [files]}, **env)
    for path in _CURL.findall(step):
        answer = await ask(running, get(path.encode(), b"Connection: close"))
        name = re.sub(r"^/(?:api/files|all)/", "", path).removeprefix("/")
        assert (answer.status, answer.body) == (200, (ROOT / name).read_bytes())


@pytest.mark.gen_test
async def test_a_service_that_is_away_is_the_502_of_the_page(serve: Serve) -> None:
    assert '502 of the type\n`application/problem+json`, with `"error": "upstream_unavailable"`' in PAGE
    running = await serve({"files": ["http://127.0.0.1:1"]})
    problem(await ask(running, get(b"/api/files/LICENSE")), 502, "upstream_unavailable")
