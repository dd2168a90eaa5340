"""The pages about the cache: what is purged, what is made stale, what is shown, and who may purge."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Running, Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, age, ask, cache_of, frozen, kept, status_of
from tests.support.endpoints import Gate
from tests.support.journeys import Start, problem
from tests.support.operators import AUTH, bearer
from tests.support.sockets import Message, Peer, eventually, get, reply
from tornado_gateway.handlers.cache_pages import LONGEST_TAG

LOCAL = b"127.0.0.1"  # whom anybody on this machine may act for


async def purge(running: Running, **order: object) -> Message:
    client = await running.client()
    body = json.dumps(order).encode()
    return await client.ask(get(b"/admin/api/cache/purge", method=b"POST", body=body, host=LOCAL), b"POST")


async def purged(running: Running, **order: object) -> int:
    answer = await purge(running, **order)
    assert answer.status == 200
    said = json.loads(answer.body)
    assert said["soft"] is order.get("soft", False)
    assert bool(said["bytes"]) is bool(said["responses"])
    return int(said["responses"])


async def page_of(running: Running) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((await ask(running, path=b"/admin/api/cache", host=LOCAL)).body)
    return said


def tagged(*lines: bytes) -> Each:
    """A service that names the last segment of the path as the tag of each answer."""

    def answer(request: Message, number: int) -> bytes:
        tag = b"Cache-Tag: all," + request.target.rpartition(b"/")[2]
        return reply(fields=(FRESH, tag, *lines), body=b"answer %d" % number)

    return Each(answer)


async def filled(serve: Serve, upstream: Start, *lines: bytes, **variables: str) -> Running:
    """A gateway that has /x, /x/a and /x/b."""
    running = await frozen(serve, {"svc": [upstream(tagged(*lines)).url]}, **ON, **variables)
    for path in (b"", b"/a", b"/b"):
        await ask(running, path=PATH + path)
    assert kept(running) == 3
    return running


@pytest.mark.parametrize(
    ("order", "count", "left"),
    [
        ({"service": "svc", "url": "/x"}, 1, [b"/a", b"/b"]),
        ({"service": "svc", "url": "/x?y"}, 0, [b"", b"/a", b"/b"]),
        ({"service": "svc", "prefix": "/x/"}, 2, [b""]),
        ({"service": "svc", "prefix": "/"}, 3, []),
        ({"tags": ["A", "none"]}, 1, [b"", b"/b"]),
        ({"tags": ["all"], "service": "svc"}, 3, []),
        ({"tags": ["all"], "service": "other"}, 0, [b"", b"/a", b"/b"]),
    ],
    ids=range(7),
)
@pytest.mark.gen_test
async def test_a_purge_takes_what_the_order_names_and_tells_the_number(
    serve: Serve, upstream: Start, order: dict[str, Any], count: int, left: list[bytes]
) -> None:
    services = {"svc": [upstream(tagged()).url], "other": ["http://127.0.0.1:1"]}
    running = await frozen(serve, services, **ON)
    for path in (b"", b"/a", b"/b"):
        await ask(running, path=PATH + path)
    assert await purged(running, **order) == count
    assert kept(running) == 3 - count
    for path in (b"", b"/a", b"/b"):
        status = status_of(await ask(running, path=PATH + path))
        assert status.startswith(b"hit") is (path in left)


@pytest.mark.gen_test
async def test_a_purge_by_url_takes_all_hosts_and_variants(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH, b"Vary: Accept")).url]}, **ON)
    for host in (b"a", b"b"):
        for accepted in (b"Accept: a/a", b"Accept: b/b"):
            await ask(running, accepted, host=host)
    assert await purged(running, service="svc", url="/x") == 4
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_a_purge_by_tag_takes_one_variant_and_leaves_the_other(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, number: int) -> bytes:
        tag = b"xkey: " + (request.get(b"accept") or b"")[:1]
        return reply(fields=(FRESH, tag, b"Vary: Accept"), body=b"answer %d" % number)

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    await ask(running, b"Accept: a/a")
    await ask(running, b"Accept: b/b")
    assert await purged(running, tags=["a"]) == 1
    assert (await ask(running, b"Accept: b/b")).body == b"answer 2"
    assert (await ask(running, b"Accept: a/a")).body == b"answer 3"


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.gen_test
async def test_a_purge_by_tag_takes_all_variants_that_have_the_tag(serve: Serve, upstream: Start, soft: bool) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH, b"xkey: a b", b"Vary: Accept")).url]}, **ON)
    for number in (1, 2):
        assert (await ask(running, b"Accept: a/%d" % number)).body == b"answer %d" % number
    assert await purged(running, tags=["a"], soft=soft) == 2
    for number in (1, 2):
        answer = await ask(running, b"Accept: a/%d" % number)
        assert answer.body == b"answer %d" % (number + 2)
        assert status_of(answer).startswith(b"fwd=stale" if soft else b"fwd=")


@pytest.mark.gen_test
async def test_a_soft_purge_makes_stale_and_the_stale_answer_may_answer_meanwhile(
    serve: Serve, upstream: Start
) -> None:
    up = upstream(Origin(FRESH + b", stale-while-revalidate=9"))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 5)
    assert await purged(running, service="svc", prefix="/", soft=True) == 1
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"answer 1", b"hit; ttl=0")
    await eventually(lambda: len(up.requests) == 2 and not cache_of(running).refreshing)
    assert (await ask(running)).body == b"answer 2"


@pytest.mark.gen_test
async def test_what_was_purged_softly_is_validated(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, number: int) -> bytes:
        if request.get(b"if-none-match"):
            return b"HTTP/1.1 304 Not Modified\r\nSurrogate-Key: late\r\nCache-Control: max-age=60\r\n\r\n"
        return reply(fields=(FRESH, b'ETag: "1"', b"Surrogate-Key: early"), body=b"answer")

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    await ask(running)
    assert await purged(running, tags=["early"], soft=True) == 1
    assert status_of(await ask(running)) == b"fwd=stale; fwd-status=304; stored"
    assert status_of(await ask(running)) == b"hit; ttl=60"
    assert (await purged(running, tags=["early"]), await purged(running, tags=["late"])) == (0, 1)


@pytest.mark.parametrize("order", [{"service": "svc", "url": "/x"}, {"service": "svc", "prefix": "/"}, {"tags": ["a"]}])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.gen_test
async def test_an_answer_from_before_the_purge_is_not_stored_after_the_purge(
    serve: Serve, upstream: Start, order: dict[str, Any], soft: bool
) -> None:
    gate = Gate(reply(fields=(FRESH, b"Cache-Tag: a"), body=b"old"))

    async def script(peer: Peer) -> None:
        if len(up.peers) == 1:
            await gate(peer)
        else:
            await Origin(FRESH)(peer)

    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    assert await purged(running, **order, soft=soft) == 0
    assert (await ask(running)).body == b"answer 1"  # does not wait for the old answer
    assert await purged(running, service="svc", prefix="/") == 1
    await gate.open()
    assert (await client.response()).body == b"old"
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_an_answer_is_stored_that_a_purge_meanwhile_does_not_name(serve: Serve, upstream: Start) -> None:
    gate = Gate(reply(fields=(FRESH, b"Cache-Tag: a"), body=b"good"))
    running = await frozen(serve, {"svc": [upstream(gate).url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    await purged(running, tags=["b"])
    await purged(running, service="svc", prefix="/y")
    await gate.open()
    assert (await client.response()).body == b"good"
    assert kept(running) == 1


@pytest.mark.parametrize("change", [{"method": b"PUT"}, {}])
@pytest.mark.gen_test
async def test_a_validation_from_before_a_change_or_a_purge_keeps_nothing(
    serve: Serve, upstream: Start, change: dict[str, bytes]
) -> None:
    gate = Gate(b"HTTP/1.1 304 Not Modified\r\n" + FRESH + b"\r\n\r\n")

    async def script(peer: Peer) -> None:
        if len(up.peers) == 2:
            await gate(peer)
        else:
            await Origin(FRESH, b'ETag: "1"', b"Connection: close")(peer)

    up = upstream(script)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    age(running, 60)
    client = await running.client()
    await client.send(get(PATH))
    await eventually(lambda: gate.waiting)
    if change:
        assert (await ask(running, **change)).status == 200
    else:
        assert await purged(running, service="svc", url="/x") == 1
    await gate.open()
    assert (await client.response()).body == b"answer 1"
    assert kept(running) == 0


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.gen_test
async def test_clients_get_tags_only_if_configured(serve: Serve, upstream: Start, passes: bool) -> None:
    more = (b"Surrogate-Key: b", b"xkey: c", b"X-Tag: d")
    running = await frozen(serve, {"svc": [upstream(tagged(*more)).url]}, CACHE_PASS_TAGS=str(passes).lower(), **ON)
    for answer in (await ask(running), await ask(running), await ask(running, method=b"OPTIONS")):
        names = [name.lower() for name, _ in answer.fields]
        assert [each in names for each in (b"cache-tag", b"surrogate-key", b"xkey")] == [passes] * 3
        assert b"x-tag" in names
    assert await purged(running, tags=["b"]) == 1


@pytest.mark.gen_test
async def test_without_a_cache_tags_pass_and_a_purge_purges_nothing(serve: Serve, upstream: Start) -> None:
    running = await serve({"svc": [upstream(tagged()).url]})
    assert (await ask(running)).get(b"cache-tag") == b"all,x"
    assert await purged(running, tags=["all"]) == 0
    assert await page_of(running) == {"enabled": False}


@pytest.mark.gen_test
async def test_the_page_has_rates_and_the_largest_and_the_hottest_entries(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, number: int) -> bytes:
        size = int(request.target.rpartition(b"/")[2])
        return reply(fields=(FRESH, b"Cache-Tag: t"), body=b"x" * size)

    running = await serve({"svc": [upstream(Each(answer)).url]}, **ON)
    for size, count in ((10, 4), (3000, 2), (20, 1)):
        for _ in range(count):
            await ask(running, path=b"/api/svc/%d" % size)
    said = await page_of(running)
    assert [said[each] for each in ("enabled", "looks", "hits", "hitRate", "keys", "responses")] == [
        True, 7, 4, 0.5714, 3, 3,
    ]  # fmt: skip
    assert said["savedBytes"] == 3 * 10 + 3000
    assert said["results"] == {"uri-miss": 3, "hit": 4}
    assert said["services"] == [{"service": "svc", "looks": 7, "hits": 4, "hitRate": 0.5714}]
    assert [each["url"] for each in said["largest"]] == ["/3000", "/20", "/10"]
    assert [(each["url"], each["hits"]) for each in said["hottest"]] == [("/10", 3), ("/3000", 1), ("/20", 0)]
    assert said["largest"][0]["bytes"] > 3000
    assert {each["service"] for each in said["largest"]} == {"svc"}
    assert said["hottest"][0]["tags"] == ["t"]
    assert said["bytes"] == sum(each["bytes"] for each in said["largest"]) <= said["maxBytes"]


@pytest.mark.gen_test
async def test_each_purge_has_a_line_in_the_log_and_is_counted(
    serve: Serve, upstream: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = await filled(serve, upstream)
    with caplog.at_level(logging.INFO, "tornado_gateway.audit"):
        await purged(running, service="svc", url="/x")
        await purged(running, tags=["a", "\u202e"], soft=True)
        await purged(running, service="svc", prefix="/x/")
        assert (await purge(running, tags=[])).status == 400
    start = 'POST /admin/api/cache/purge by "anybody" from 127.0.0.1:'
    assert [each.getMessage() for each in caplog.records if each.name == "tornado_gateway.audit"] == [
        f'{start} 200 (purged 1 responses: url "/x" of svc)',
        f'{start} 200 (made stale 1 responses: tags ["a", "\\u202e"])',
        f'{start} 200 (purged 2 responses: prefix "/x/" of svc)',
        f"{start} 400",
    ]
    totals = cache_of(running).totals
    assert (totals.purges, totals.purged) == (3, 4)


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ({}, "either url or prefix, with service, or tags must be given"),
        ({"url": "/x"}, "either url or prefix, with service, or tags must be given"),
        ({"service": "svc"}, "either url or prefix, with service, or tags must be given"),
        ({"service": "svc", "url": "/x", "prefix": "/"}, "either url or prefix, with service, or tags must be given"),
        ({"service": "svc", "url": "x"},
         '"x" must be a path of the service, from / on, as requests have it: encoded'),
        ({"service": "svc", "url": "/\u00e4"},
         '"/\\u00e4" must be a path of the service, from / on, as requests have it: encoded'),
        ({"tags": ["a b"]},
         f'tags is ["a b"], and must be a list of 1 to 256 words of 1 to {LONGEST_TAG} characters, without blanks and '
         "commas"),
        ({"tags": ["a"], "soft": 1}, "soft is 1, and must be true or false"),
    ],
    ids=range(8),
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_wrong_order_is_told_what_is_allowed(serve: Serve, order: dict[str, Any], complaint: str) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **ON)
    assert problem(await purge(running, **order), 400, "bad_request")["message"] == complaint


@pytest.mark.gen_test
async def test_an_unknown_service_is_told_which_there_are(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **ON)
    said = problem(await purge(running, service="shop", url="/x"), 404, "not_found")
    assert said["message"] == 'service is "shop", and must be one of svc'


@pytest.mark.gen_test
async def test_a_purge_needs_the_scope(serve: Serve) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **ON, **AUTH, ADMIN_SCOPE="admin")
    body = b'{"tags": ["a"]}'
    for lines, status in (((), 401), ((bearer(scope="read"),), 403), ((bearer(scope="admin"),), 200)):
        client = await running.client()
        request = get(b"/admin/api/cache/purge", *lines, method=b"POST", body=body)
        assert (await client.ask(request, b"POST")).status == status


@pytest.mark.gen_test
async def test_a_gateway_that_is_read_only_purges_nothing(serve: Serve, upstream: Start) -> None:
    running = await filled(serve, upstream, ADMIN_READ_ONLY="true")
    assert (await purge(running, tags=["all"])).status == 405
    assert kept(running) == 3


COMMAND = re.compile(r"curl -H \"Authorization: Bearer \$TOKEN\" http://127\.0\.0\.1:8080(/\S+) \\\n +-d '([^']+)'")


@pytest.mark.gen_test
async def test_the_commands_of_the_page_purge(serve: Serve) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
    running = await serve({"shop": ["http://127.0.0.1:1"]}, **ON)
    commands = COMMAND.findall(page.partition("<!-- purge -->")[2].partition("<!-- /purge -->")[0])
    assert len(commands) == 3
    for path, body in commands:
        client = await running.client()
        answer = await client.ask(get(path.encode(), method=b"POST", body=body.encode(), host=LOCAL), b"POST")
        assert (answer.status, json.loads(answer.body)["responses"]) == (200, 0)
