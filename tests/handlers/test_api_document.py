"""The OpenAPI document: valid, complete, and true of the answers."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import cache_of
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask
from tests.support.openapi import complaints, mistakes, resolve
from tests.support.operators import AUTH, bearer
from tests.support.sockets import Message, eventually, get
from tornado_gateway import __version__
from tornado_gateway.adapters import logs
from tornado_gateway.handlers.router import PAGES
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms

OPERATOR = bearer(scope="admin")
URL = "http://10.0.0.7:9000"
PLACE = {"service": "billing", "endpoint": URL}

ORDERS: dict[str, list[dict[str, Any]]] = {
    "/admin/api/drain": [PLACE],
    "/admin/api/undrain": [PLACE],
    "/admin/api/weight": [PLACE | {"weight": 3}],
    "/admin/api/breaker": [PLACE | {"act": "open", "forMs": 5}, PLACE | {"act": "reset"}],
    "/admin/api/streams/close": [{"ids": [1]}, {"service": "billing", "overMs": 0}, PLACE],
    "/admin/api/cache/purge": [
        {"service": "billing", "url": "/a?b"},
        {"service": "billing", "prefix": "/", "soft": True},
        {"tags": ["a"], "service": "billing"},
        {"tags": ["a", "b"]},
    ],
    "/admin/api/log-level": [{"level": "error"}],
    "/admin/api/revocations": [{"jti": "7"}, {"subject": "id|eve", "expiresInMs": 1.5}],
}

WRONG: dict[str, list[Any]] = {
    "/admin/api/drain": [
        {},
        [],
        PLACE | {"more": 1},
        {"service": "", "endpoint": URL},
        {"service": 1, "endpoint": URL},
    ],
    "/admin/api/weight": [PLACE, PLACE | {"weight": -1}, PLACE | {"weight": 1_000_001}, PLACE | {"weight": True}],
    "/admin/api/breaker": [PLACE, PLACE | {"act": "close"}, PLACE | {"act": "open", "forMs": 0}],
    "/admin/api/streams/close": [{}, {"ids": []}, {"ids": [1], "service": "a"}, {"ids": [1], "endpoint": "a"}],
    "/admin/api/cache/purge": [
        {},
        {"url": "/a"},
        {"service": "billing"},
        {"service": "billing", "url": "/a", "prefix": "/"},
        {"tags": []},
        {"tags": [""]},
        {"tags": ["a"], "soft": 1},
    ],
    "/admin/api/log-level": [{"level": "loud"}, {}],
    "/admin/api/revocations": [{}, {"jti": "7", "subject": "a"}, {"jti": "7", "expiresInMs": 0}, {"jti": ""}],
}


async def document_of(running: Running) -> dict[str, Any]:
    answer = await ask(running, get(b"/admin/api/openapi.json", OPERATOR))
    assert (answer.status, answer.get(b"content-type")) == (200, b"application/json")
    result: dict[str, Any] = json.loads(answer.body)
    return result


def is_true(document: dict[str, Any], path: str, method: str, answer: Message) -> None:
    """Check an answer against the document."""
    responses = document["paths"][path][method]["responses"]
    assert str(answer.status) in responses, (path, method, answer.status)
    content = resolve(document, responses[str(answer.status)])["content"]
    kind = (answer.get(b"content-type") or b"").decode()
    assert kind in content
    assert list(complaints(document, content[kind]["schema"], json.loads(answer.body))) == []


async def act(running: Running, path: str, order: object, *fields: bytes) -> Message:
    body = json.dumps(order).encode()
    return await ask(running, get(path.encode(), *(fields or (OPERATOR,)), method=b"POST", body=body), b"POST")


@pytest.fixture
def level() -> Iterator[None]:
    before = logs.level()
    yield
    logs.set_level(before)


@pytest.mark.gen_test
async def test_the_document_is_valid_and_names_every_page_and_method(serve: Serve) -> None:
    document = await document_of(await serve({"billing": [URL]}, **AUTH))
    assert list(mistakes(document)) == []
    assert document["info"]["version"] == __version__
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    served = {
        (page.path.replace("<", "{").replace(">", "}"), method.lower())
        for page in PAGES
        for method in page.allowed
        if page.path.startswith("/admin/api/") and method not in ("HEAD", "OPTIONS")
    }
    assert described == served


@pytest.mark.usefixtures("level")
@pytest.mark.gen_test
async def test_every_answer_is_as_the_document_says(serve: Serve, upstream: Start) -> None:
    running = await serve({"billing": [URL], "news": [upstream(Source()).url]}, CACHE_ENABLED="true", **AUTH)
    document = await document_of(running)
    keep(running)
    await Listener.ask(running, get(b"/sse/news/x", bearer(sub="ada")))
    await eventually(lambda: running.app.gateway.streams.open)
    for path, orders in ORDERS.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        for order in orders:
            assert list(complaints(document, schema, order)) == []
            answer = await act(running, path, order)
            assert answer.status in (200, 201)
            is_true(document, path, "post", answer)
        for wrong in WRONG.get(path, []):
            assert list(complaints(document, schema, wrong)) != [], wrong
            answer = await act(running, path, wrong)
            assert answer.status == 400, wrong
            is_true(document, path, "post", answer)
        is_true(document, path, "post", await act(running, path, {}, b"Accept: application/json"))
    asked = [(path, path) for path, item in document["paths"].items() if "get" in item]
    for path, target in [*asked, ("/admin/api/streams", "/admin/api/streams?limit=0")]:
        is_true(document, path, "get", await ask(running, get(target.encode(), OPERATOR)))
    await lifted(running, document)


def keep(running: Running) -> None:
    """Have a response in the cache, so that its pages have entries."""
    response = Stored(200, b"", 1, b"", {}, b"", Terms(60.0), (), running.app.gateway.now(), tags=b" t ")
    assert cache_of(running).store.keep((b"billing /kept", b""), response)


async def lifted(running: Running, document: dict[str, Any]) -> None:
    listed = json.loads((await ask(running, get(b"/admin/api/revocations", OPERATOR))).body)
    for status in (200, 404):
        path = f"/admin/api/revocations/{listed['revocations'][0]['id']}"
        answer = await ask(running, get(path.encode(), OPERATOR, method=b"DELETE"), b"DELETE")
        assert answer.status == status
        is_true(document, "/admin/api/revocations/{id}", "delete", answer)


@pytest.mark.gen_test
async def test_refusals_are_as_the_document_says(serve: Serve) -> None:
    document = await document_of(await serve({"billing": [URL]}, **AUTH))
    scoped = await serve({"billing": [URL]}, **AUTH, ADMIN_SCOPE="admin")
    read_only = await serve({"billing": [URL]}, **AUTH, ADMIN_READ_ONLY="true")
    for path, (order, *_) in ORDERS.items():
        for running, status in ((scoped, 403), (read_only, 405)):
            answer = await act(running, path, order, bearer(scope="read"))
            assert answer.status == status
            is_true(document, path, "post", answer)
    for path in ("/admin/api/drain", "/admin/api/breaker"):
        answer = await act(scoped, path, PLACE | {"service": "mail"} | ({"act": "reset"} if "breaker" in path else {}))
        assert answer.status == 404
        is_true(document, path, "post", answer)


@pytest.mark.gen_test
async def test_a_document_that_is_wrong_is_found(serve: Serve) -> None:
    document = await document_of(await serve({"billing": [URL]}, **AUTH))

    def wrong(change: str) -> list[str]:
        spoiled = copy.deepcopy(document)
        exec(change, {"d": spoiled})
        return list(mistakes(spoiled))

    drain = "d['paths']['/admin/api/drain']['post']"
    for change in (
        "d['openapi'] = '3.0.3'", "d['components']['schemas'].pop('Problem')", f"{drain}['operationId'] = 'weight'",
        f"{drain}['summary'] = ''", f"{drain}['responses']['2xx'] = {drain}['responses']['200']",
        "d['components']['schemas']['Level']['pattern'] = 'x'", "d['paths']['/{x}'] = d['paths']['/admin/api/drain']",
    ):  # fmt: skip
        assert wrong(change), change
