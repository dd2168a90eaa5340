"""Hits that are sent at once, beside hits that are replayed: the same answer, and the same records."""

import json

import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, ask, cache_of, frozen, status_of
from tests.support.endpoints import service_of
from tests.support.journeys import Start, capture
from tests.support.sockets import Message, eventually, get, reply
from tornado_gateway.handlers.caching import AT_ONCE

SIZES = (0, 1, AT_ONCE, AT_ONCE + 1)  # the last is replayed


def sized(request: Message, number: int) -> bytes:
    size = int(request.target.rpartition(b"?")[2])
    body = b"x" * size
    fields = (b"Cache-Control: max-age=60", b'ETag: "1"', b"X-Own: a", b"Via: 1.0 inner", b"X-Own: b")
    return reply(b"203 Own", fields, body)


@pytest.mark.gen_test
async def test_an_answer_that_is_sent_at_once_is_as_an_answer_that_is_replayed(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Each(sized)).url]}, VIA_NAME="gw", **ON)
    for size in SIZES:
        path = PATH + b"?%d" % size
        first = await ask(running, path=path)
        client = await running.client()
        for method in (b"GET", b"HEAD", b"GET"):
            again = await client.ask(get(path, method=method), method)
            assert again.start == b"HTTP/1.1 203 Own"
            assert again.body == (b"" if method == b"HEAD" else first.body)
            assert again.get(b"cache-status") == b"gw; hit; ttl=60"
            assert again.get(b"content-length") == b"%d" % size
            own = (b"age", b"x-request-id", b"cache-status")
            assert sorted(each for each in again.fields if each[0].lower() not in own) == sorted(
                each for each in first.fields if each[0].lower() not in own
            )
            assert again.all(b"x-own") == [b"a", b"b"]


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.gen_test
async def test_a_hit_is_recorded_like_every_request(serve: Serve, upstream: Start, size: int) -> None:
    up = upstream(Each(sized))
    running = await serve({"svc": [up.url]}, **ON)
    lines, path = capture(running), PATH + b"?%d" % size
    for _ in range(2):
        await ask(running, path=path)
    totals = cache_of(running).totals
    assert (totals.results["svc", "hit"], totals.saved) == (1, size)
    assert service_of(running).heads.count == 2
    await eventually(lambda: len(lines()) == 2)
    miss, hit = lines()
    assert (miss["attempts"], miss["endpoint"]) == (1, up.url)
    assert (hit["status"], hit["attempts"], hit["endpoint"], hit["bytesOut"]) == (203, 0, "", size)
    assert not running.inflight


@pytest.mark.gen_test
async def test_a_success_of_an_unsafe_method_invalidates_whatever_the_client_accepts(
    serve: Serve, upstream: Start
) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    await ask(running)
    assert status_of(await ask(running)) == b"hit; ttl=60"
    await ask(running, b"Accept: text/event-stream", method=b"PUT")
    assert (await ask(running)).body == b"answer 3"


@pytest.mark.gen_test
async def test_a_request_for_an_event_stream_alone_does_not_look(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    await ask(running)
    answer = await ask(running, b"Accept: text/event-stream")
    assert (answer.body, answer.get(b"cache-status")) == (b"answer 2", None)


ROUTES = [
    {"path": "/kept/*", "service": "svc", "strip": True, "cache": {"enabled": True, "ttlMs": 9000}},
    {"path": "/not/*", "service": "svc", "strip": True},
]


@pytest.mark.gen_test
async def test_a_route_may_cache_what_its_service_does_not(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(b"Cache-Tag: a"))
    running = await frozen(serve, {"svc": [up.url]}, ROUTES=json.dumps(ROUTES))
    for _ in range(2):
        kept, not_kept = await ask(running, path=b"/kept/x"), await ask(running, path=b"/not/x")
        assert (kept.body, kept.get(b"cache-tag")) == (b"answer 1", None)
        assert (not_kept.get(b"cache-status"), not_kept.get(b"cache-tag")) == (None, b"a")
    assert status_of(kept) == b"hit; ttl=9"
    assert len(up.requests) == 3
    # An unsafe method invalidates what another route has stored.
    await ask(running, path=b"/not/x", method=b"PUT")
    assert (await ask(running, path=b"/kept/x")).body == b"answer 5"


@pytest.mark.gen_test
async def test_a_route_may_not_cache_what_its_service_does(serve: Serve, upstream: Start) -> None:
    routes = [{"path": "/not/*", "service": "svc", "strip": True, "cache": {"enabled": False}}]
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, ROUTES=json.dumps(routes), **ON)
    answers = [await ask(running, path=path) for path in (b"/not/x", b"/api/svc/x", b"/not/x", b"/api/svc/x")]
    assert [each.body for each in answers] == [b"answer 1", b"answer 2", b"answer 3", b"answer 2"]
