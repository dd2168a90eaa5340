"""docs/observability.md, carried out: what the commands and tables of the page say of logs."""

import json

import pytest

from tests.conftest import Serve
from tests.support.examples import environments
from tests.support.journeys import ask, capture
from tests.support.sockets import eventually, get
from tests.test_documents import code, documents, rows
from tornado_gateway.app import redaction_of
from tornado_gateway.config.load import load_settings

PAGE = documents()["docs/observability.md"]
ENV = next(iter(environments(PAGE)))


@pytest.mark.gen_test
async def test_the_log_shows_queries_as_the_page_says(serve: Serve) -> None:
    env = dict(ENV)
    running = await serve(json.loads(env.pop("UPSTREAMS")), **env)
    settings = running.app.settings
    lines = capture(running, redaction=redaction_of(settings.logs, settings.auth.sources))
    pairs = [(code(asked)[0], code(shown)[0]) for asked, shown in rows(PAGE, "redacted")]
    assert len(pairs) == 4
    for asked, _ in pairs:
        await ask(running, get(f"/nothing?{asked}".encode()))
    await eventually(lambda: len(lines()) == len(pairs))
    assert [(line["query"], line["client"]) for line in lines()] == [(shown, "***") for _, shown in pairs]


def test_parameters_that_hold_credentials_are_hidden() -> None:
    env = {"AUTH_TOKEN_SOURCES": "header,query:Pass-Me,ticket:admit", "LOG_QUERY": "true"}
    settings = load_settings({**ENV, **env})
    redaction = redaction_of(settings.logs, settings.auth.sources)
    assert (
        redaction.query(b"/?pass-me=a&Pass-Me=b&admit=c&header=d&d=e")
        == "pass-me=***&Pass-Me=***&admit=***&header=d&d=e"
    )
