"""Whole requests through the cache: what is answered from memory, what is stored, and what never is."""

import asyncio

import jwt
import pytest

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, PATH, Each, Origin, age, ask, cache_of, frozen, kept, status_of
from tests.support.endpoints import REFUSING
from tests.support.journeys import Start, capture, only_line, problem
from tests.support.sockets import Message, Peer, chunked, eventually, get, reply

KEY = "k" * 32
LANGUAGE = b"Accept-Language: "


def bearer(subject: str) -> bytes:
    return b"Authorization: Bearer " + jwt.encode({"sub": subject}, KEY, "HS256").encode()


@pytest.mark.gen_test
async def test_the_second_request_is_answered_from_memory(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH, b"X-A: 1", b"x-a: 2", b'ETag: "1"'))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    first = await ask(running)
    assert (first.status, first.body, status_of(first)) == (200, b"answer 1", b"fwd=uri-miss; stored")
    assert first.get(b"age") is None
    second = await ask(running)
    assert (second.status, second.body, status_of(second)) == (200, b"answer 1", b"hit; ttl=60")
    assert (second.get(b"age"), second.all(b"x-a"), second.get(b"etag")) == (b"0", [b"1", b"2"], b'"1"')
    assert second.get(b"date") and second.get(b"content-length") == b"8"
    assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_a_hit_asks_no_endpoint_and_has_a_line_in_the_access_log(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    await ask(running)
    lines = capture(running)
    await ask(running)
    line = await only_line(lines)
    assert (line["status"], line["endpoint"], line["attempts"], line["reason"]) == (200, "", 0, "")


@pytest.mark.gen_test
async def test_the_age_of_a_hit_counts_the_age_on_arrival_and_the_time_since(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH, b"Age: 10")).url]}, **ON)
    assert (await ask(running)).get(b"age") == b"10"
    age(running, 20)
    answer = await ask(running)
    assert (answer.get(b"age"), status_of(answer)) == (b"30", b"hit; ttl=30")
    age(running, 30)
    answer = await ask(running)
    assert (answer.body, status_of(answer)) == (b"answer 2", b"fwd=stale; stored")


@pytest.mark.gen_test
async def test_head_is_answered_by_the_stored_answer_to_get(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    assert status_of(await ask(running, method=b"HEAD")) == b"fwd=uri-miss"
    await ask(running)
    client = await running.client()
    answer = await client.ask(get(PATH, method=b"HEAD"), b"HEAD")
    assert (status_of(answer), answer.get(b"content-length"), answer.body) == (b"hit; ttl=60", b"8", b"")
    assert (await client.ask(get(PATH))).body == b"answer 2"
    assert [each.method for each in up.requests] == [b"HEAD", b"GET"]


@pytest.mark.gen_test
async def test_a_chunked_answer_is_stored_whole_with_its_length(serve: Serve, upstream: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n\r\n" % FRESH
    up = upstream(Each(lambda _, number: head + chunked(b"ab", b"%d" % number)))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    assert (await ask(running)).body == b"ab1"
    answer = await ask(running)
    assert (answer.body, answer.get(b"content-length"), status_of(answer)) == (b"ab1", b"3", b"hit; ttl=60")


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 262144])
@pytest.mark.gen_test
async def test_a_body_of_any_size_is_replayed(serve: Serve, upstream: Start, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    running = await frozen(serve, {"svc": [upstream(Each(lambda *_: reply(fields=(FRESH,), body=body))).url]}, **ON)
    for wanted in (b"fwd=uri-miss; stored", b"hit; ttl=60"):
        answer = await ask(running)
        assert (answer.body == body, status_of(answer)) == (True, wanted)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Cache-Control: no-store",), b"200 OK"),
        ((b"Cache-Control: private, max-age=60",), b"200 OK"),
        ((FRESH, b"Set-Cookie: a=b"), b"200 OK"),
        ((FRESH, b"Vary: *"), b"200 OK"),
        ((FRESH, b"Content-Range: bytes 0-1/8"), b"206 Partial Content"),
        ((), b"500 Internal Server Error"),
        ((b"Cache-Control: max-age=0",), b"200 OK"),
    ],
)
@pytest.mark.gen_test
async def test_what_must_not_be_stored_is_not(
    serve: Serve, upstream: Start, lines: tuple[bytes, ...], status: bytes
) -> None:
    up = upstream(Origin(*lines, status=status))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    for number in (1, 2):
        answer = await ask(running)
        assert (answer.body, status_of(answer)) == (b"answer %d" % number, b"fwd=uri-miss")
    assert kept(running) == 0


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 9\r\n\r\npart" % FRESH,
        b"HTTP/1.1 200 OK\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n" % FRESH,
        b"HTTP/1.1 200 OK\r\n%b\r\n\r\nuntil the connection ends" % FRESH,
    ],
    ids=["short", "no last chunk", "without length"],
)
@pytest.mark.gen_test
async def test_a_body_without_its_end_is_not_stored(serve: Serve, upstream: Start, broken: bytes) -> None:
    async def breaks_off(peer: Peer) -> None:
        await peer.request()
        await peer.send(broken)

    running = await frozen(serve, {"svc": [upstream(breaks_off).url]}, **ON)
    answer = await ask(running)
    assert answer.status == 200
    assert kept(running) == 0
    assert status_of(await ask(running)).startswith(b"fwd=uri-miss")


@pytest.mark.parametrize("length", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
@pytest.mark.gen_test
async def test_a_body_that_a_reset_cuts_off_is_not_stored(serve: Serve, upstream: Start, length: bytes) -> None:
    body = b"part" if b"Length" in length else b"4\r\npart\r\n"
    seen = asyncio.Event()

    async def resets(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\n%b\r\n\r\n%b" % (FRESH, length, body))
        await seen.wait()
        peer.reset()

    running = await frozen(serve, {"svc": [upstream(resets).url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await client.until(b"part")
    seen.set()
    await client.ended()
    await eventually(lambda: not running.inflight)
    assert (kept(running), cache_of(running).flights) == (0, {})


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.gen_test
async def test_a_body_that_is_too_large_passes_and_is_not_stored(
    serve: Serve, upstream: Start, is_chunked: bool
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n\r\n%b" % (FRESH, chunked(b"12345", b"6"))
    answer = whole if is_chunked else reply(fields=(FRESH,), body=b"123456")
    running = await frozen(serve, {"svc": [upstream(Each(lambda *_: answer)).url]}, CACHE_MAX_BODY_BYTES="5", **ON)
    for _ in range(2):
        assert (await ask(running)).body == b"123456"
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_a_client_that_leaves_leaves_no_half_of_an_answer(serve: Serve, upstream: Start) -> None:
    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 9\r\n\r\npart" % FRESH)
        await peer.ended()

    up = upstream(endless)
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    client = await running.client()
    await client.send(get(PATH))
    await client.until(b"part")
    client.close()
    await eventually(lambda: not up.open)
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_vary_keeps_answers_apart(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH, b"Vary: Accept-Language"))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    assert (await ask(running, LANGUAGE + b"de, en")).body == b"answer 1"
    answer = await ask(running, LANGUAGE + b"fr")
    assert (answer.body, status_of(answer)) == (b"answer 2", b"fwd=vary-miss; stored")
    assert (await ask(running, LANGUAGE + b"EN,de")).body == b"answer 1"
    assert (await ask(running)).body == b"answer 3"
    assert len(up.requests) == 3


@pytest.mark.parametrize(
    "line", [b"Authorization: Basic eA==", b"Cookie: a=b", b"X-API-Key: k", b"Authorization: Bearer x"]
)
@pytest.mark.gen_test
async def test_what_a_credential_asked_for_is_shared_if_marked_so(serve: Serve, upstream: Start, line: bytes) -> None:
    def answer(request: Message, number: int) -> bytes:
        says = FRESH + b", public" if request.target == b"/shared" else FRESH
        return reply(fields=(says,), body=b"%d" % number)

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    own, shared = b"/api/svc/own", b"/api/svc/shared"
    assert [(await ask(running, line, path=own)).body for _ in range(2)] == [b"1", b"2"]
    assert [(await ask(running, path=own)).body for _ in range(2)] == [b"3", b"3"]
    assert (await ask(running, line, path=own)).body == b"4"  # not what anybody else got
    assert [(await ask(running, line, path=shared)).body for _ in range(2)] == [b"5", b"5"]
    assert (await ask(running, path=shared)).body == b"5"


@pytest.mark.gen_test
async def test_a_credential_gets_no_default_lifetime(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(b"Cache-Control: public")).url]}, **ON)
    assert [(await ask(running, b"Cookie: a=b")).body for _ in range(2)] == [b"answer 1", b"answer 2"]
    assert [(await ask(running)).body for _ in range(2)] == [b"answer 3", b"answer 3"]


@pytest.mark.gen_test
async def test_admission_comes_before_a_hit(serve: Serve, upstream: Start) -> None:
    says = FRESH + b", public"
    running = await frozen(serve, {"svc": [upstream(Origin(says)).url]}, AUTH_REQUIRED="true", JWT_SECRET=KEY, **ON)
    assert [(await ask(running, bearer(each))).body for each in ("ada", "bob")] == [b"answer 1", b"answer 1"]
    problem(await ask(running), 401, "unauthorized")


@pytest.mark.gen_test
async def test_each_principal_can_have_stored_answers_of_its_own(serve: Serve, upstream: Start) -> None:
    running = await frozen(
        serve,
        {"svc": {"endpoints": [upstream(Origin(FRESH)).url], "cacheScope": "principal"}},
        AUTH_REQUIRED="true", JWT_SECRET=KEY, **ON,
    )  # fmt: skip
    bodies = [(await ask(running, bearer(each))).body for each in ("ada", "bob", "ada", "bob")]
    assert bodies == [b"answer 1", b"answer 2", b"answer 1", b"answer 2"]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Cache-Control: no-cache",), b"fwd=request; stored"),
        ((b"Pragma: no-cache",), b"fwd=request; stored"),
        ((b"Cache-Control: max-age=0",), b"fwd=request; stored"),
        ((b"Cache-Control: min-fresh=60",), b"fwd=request; stored"),
        ((b"Cache-Control: no-cache, no-store",), b"fwd=request"),
        ((b"Cache-Control: no-store",), b"hit; ttl=59"),
    ],
)
@pytest.mark.gen_test
async def test_directives_of_a_client_count_unless_the_service_ignores_clients(
    serve: Serve, upstream: Start, lines: tuple[bytes, ...], status: bytes
) -> None:
    services = {"svc": [upstream(Origin(FRESH)).url], "deaf": {"endpoints": [upstream(Origin(FRESH)).url],
                                                               "cacheIgnoreClient": True}}  # fmt: skip
    running = await frozen(serve, services, **ON)
    await ask(running)
    age(running, 1)
    assert status_of(await ask(running, *lines)) == status
    await ask(running, path=b"/api/deaf/x")
    assert status_of(await ask(running, *lines, path=b"/api/deaf/x")) == b"hit; ttl=60"


@pytest.mark.gen_test
async def test_only_if_cached_asks_no_service(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    answer = await ask(running, b"Cache-Control: only-if-cached")
    problem(answer, 504, "not_cached")
    assert status_of(answer) == b"detail=only-if-cached"
    await ask(running)
    assert (await ask(running, b"Cache-Control: only-if-cached")).body == b"answer 1"
    assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_an_event_stream_is_not_stored(serve: Serve, upstream: Start) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n%b\r\n\r\n" % FRESH
    running = await frozen(
        serve, {"svc": [upstream(Each(lambda _, number: head + chunked(b"data: %d\n\n" % number))).url]}, **ON
    )
    bodies = [(await ask(running)).body for _ in range(2)]
    assert [body[:7] for body in bodies] == [b"data: 1", b"data: 2"]
    assert kept(running) == 0


@pytest.mark.gen_test
async def test_sse_does_not_touch_the_cache(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    for number in (1, 2):
        answer = await ask(running, path=b"/sse/svc/x")
        assert (answer.body, answer.get(b"cache-status")) == (b"answer %d" % number, None)


@pytest.mark.gen_test
async def test_paths_that_a_poisoner_would_mix_up_are_apart(serve: Serve, upstream: Start) -> None:
    up = upstream(Each(lambda request, _: reply(fields=(FRESH,), body=request.target)))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    targets = [b"/x", b"/x;a", b"/x/", b"/X", b"/%78", b"/x?", b"/x%2fy", b"/x/y", b"/x.css"]
    targets += [b"/x%00", b"/x%00.css", b"/x%2500", b"/x?a=%00", b"/x?a=%00b"]
    for _ in range(2):
        for target in targets:
            assert (await ask(running, path=b"/api/svc" + target)).body == target
    assert len(up.requests) == len(targets)


@pytest.mark.parametrize("path", [b"/account/x.css", b"/account/x.css?v=1", b"/account%2fx.css", b"/account;x.css"])
@pytest.mark.parametrize("says", [(), (FRESH,)], ids=["nothing", "max-age"])
@pytest.mark.parametrize(
    "line", [b"Cookie: session=1", b"Authorization: Basic eA==", b"X-API-Key: k"], ids=lambda line: line.split(b":")[0]
)
@pytest.mark.gen_test
async def test_a_page_of_one_user_is_nobody_elses_by_the_name_of_a_style_sheet(
    serve: Serve, upstream: Start, line: bytes, says: tuple[bytes, ...], path: bytes
) -> None:
    """Web cache deception: who lures a user to such a path reads what the cache has kept."""

    def answer(request: Message, _: int) -> bytes:
        return reply(fields=says, body=request.get(line.partition(b":")[0].lower()) or b"anybody")

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    assert (await ask(running, line, path=b"/api/svc" + path)).body == line.partition(b": ")[2]
    assert kept(running) == 0
    assert (await ask(running, path=b"/api/svc" + path)).body == b"anybody"


@pytest.mark.parametrize("path", [b"/x//y", b"/x/./y", b"/x/../y", b"/x/%2e%2e/y", b"/x/%2E/y", b"/x/..%2fy", b"//x/y"])
@pytest.mark.gen_test
async def test_paths_that_servers_read_differently_answer_for_no_other_path(
    serve: Serve, upstream: Start, path: bytes
) -> None:
    up = upstream(Each(lambda request, _: reply(fields=(FRESH,), body=request.target)))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    answer = await ask(running, path=b"/api/svc" + path)
    assert answer.status == 400 or answer.body == path
    assert kept(running) == (answer.status == 200)
    for other in (b"/y", b"/x/y"):
        assert (await ask(running, path=b"/api/svc" + other)).body == other


@pytest.mark.parametrize("size", [9_000, 80_000])  # too large for the service, too large for the gateway
@pytest.mark.gen_test
async def test_a_refused_field_takes_nothing_from_others(serve: Serve, upstream: Start, size: int) -> None:
    def answer(request: Message, _: int) -> bytes:
        status = b"400 Bad Request" if len(request.get(b"x-large") or b"") > 8_000 else b"200 OK"
        return reply(status, (), b"answer")

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    for lines, wanted in (((b"X-Large: " + b"a" * size,), (400, 431)), ((), (200,)), ((), (200,))):
        assert (await ask(running, *lines)).status in wanted
    assert kept(running) == 1
    refused = await ask(running, b"X-Large: " + b"a" * size)  # a hit for the service's limit, never for the gateway's
    assert refused.status == (200 if size < 64 * 1024 else 431)


@pytest.mark.gen_test
async def test_a_rewritten_location_is_stored_as_the_clients_path(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, _: int) -> bytes:
        url = b"http://" + (request.get(b"host") or b"") + b"/y"
        return reply(b"301 Moved Permanently", (FRESH, b"Location: " + url))

    running = await frozen(serve, {"svc": [upstream(Each(answer)).url]}, **ON)
    assert [(await ask(running)).get(b"location") for _ in range(2)] == [b"/api/svc/y"] * 2


@pytest.mark.gen_test
async def test_a_client_with_the_answer_already_gets_304(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH, b'ETag: "1"', b"Vary: X-A", b"Content-Type: text/plain"))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    answer = await ask(running, b'If-None-Match: "0", W/"1"')
    assert (answer.status, answer.body, status_of(answer)) == (304, b"", b"hit; ttl=60")
    assert (answer.get(b"etag"), answer.get(b"vary"), answer.get(b"cache-control")) == (b'"1"', b"X-A", b"max-age=60")
    assert answer.get(b"date") and answer.get(b"age") == b"0"
    assert answer.get(b"content-length") is answer.get(b"content-type") is None
    answer = await ask(running, b'If-None-Match: "2"')
    assert (answer.status, answer.body) == (200, b"answer 1")
    assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_date_stands_in_for_last_modified(serve: Serve, upstream: Start) -> None:
    date = b"Thu, 01 Jan 2026 00:00:00 GMT"
    up = upstream(Origin(b"Cache-Control: max-age=2000000000", b"Date: " + date))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    await ask(running)
    assert (await ask(running, b"If-Modified-Since: " + date)).status == 304
    assert (await ask(running, b"If-Modified-Since: Wed, 31 Dec 2025 23:59:59 GMT")).status == 200


@pytest.mark.gen_test
async def test_a_service_can_give_a_cookie_to_everybody(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH, b"Set-Cookie: a=b", b"Set-Cookie: c=d"))
    running = await frozen(serve, {"svc": {"endpoints": [up.url], "cacheSetCookie": True}}, **ON)
    await ask(running)
    assert (await ask(running)).all(b"set-cookie") == [b"a=b", b"c=d"]
    assert len(up.requests) == 1


@pytest.mark.gen_test
async def test_the_key_is_told_on_request(serve: Serve, upstream: Start) -> None:
    up = upstream(Origin(FRESH))
    running = await frozen(serve, {"svc": [up.url]}, CACHE_STATUS_KEY="true", **ON)
    for wanted in (b"fwd=uri-miss; stored; key=", b"hit; ttl=60; key="):
        assert status_of(await ask(running)).startswith(wanted + b'"svc /x ')


@pytest.mark.gen_test
async def test_an_answer_without_date_gets_the_date_of_its_arrival(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]}, **ON)
    first = await ask(running)
    age(running, 30)
    second = await ask(running)
    assert second.get(b"date") == first.get(b"date")


@pytest.mark.gen_test
async def test_an_answer_that_says_nothing_lives_for_the_default(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin()).url]}, CACHE_DEFAULT_TTL_MS="2000", **ON)
    assert [(await ask(running)).body for _ in range(2)] == [b"answer 1", b"answer 1"]
    age(running, 2)
    assert (await ask(running)).body == b"answer 2"


@pytest.mark.gen_test
async def test_a_failure_of_the_service_tells_that_the_cache_was_asked(serve: Serve) -> None:
    running = await frozen(serve, {"svc": [REFUSING]}, **ON)
    answer = await ask(running)
    assert (answer.status, status_of(answer)) == (502, b"fwd=uri-miss")


@pytest.mark.gen_test
async def test_a_service_can_keep_out_of_the_cache_or_be_alone_in_the_cache(serve: Serve, upstream: Start) -> None:
    out = {"endpoints": [upstream(Origin(FRESH)).url], "cacheEnabled": False}
    running = await frozen(serve, {"svc": out, "in": [upstream(Origin(FRESH)).url]}, **ON)
    assert [(await ask(running)).get(b"cache-status") for _ in range(2)] == [None, None]
    assert [(await ask(running, path=b"/api/in/x")).body for _ in range(2)] == [b"answer 1", b"answer 1"]
    alone = {"endpoints": [upstream(Origin(FRESH)).url], "cacheEnabled": True}
    running = await frozen(serve, {"svc": alone})
    assert [(await ask(running)).body for _ in range(2)] == [b"answer 1", b"answer 1"]


@pytest.mark.gen_test
async def test_without_the_cache_nothing_is_told_and_nothing_stored(serve: Serve, upstream: Start) -> None:
    running = await frozen(serve, {"svc": [upstream(Origin(FRESH)).url]})
    assert running.app.gateway.cache is None
    answers = [await ask(running) for _ in range(2)]
    assert [(each.body, each.get(b"cache-status")) for each in answers] == [(b"answer 1", None), (b"answer 2", None)]


@pytest.mark.gen_test
async def test_parts_come_from_a_stored_whole_and_are_never_stored_as_one(serve: Serve, upstream: Start) -> None:
    def answer(request: Message, _: int) -> bytes:
        if request.get(b"range"):
            return reply(b"206 Partial Content", (FRESH, b"Content-Range: bytes 0-1/10"), b"01")
        return reply(fields=(FRESH, b'ETag: "1"', b"Content-Type: a/b"), body=b"0123456789")

    up = upstream(Each(answer))
    running = await frozen(serve, {"svc": [up.url]}, **ON)
    first = await ask(running, b"Range: bytes=0-1")
    assert (first.status, first.body, status_of(first)) == (206, b"01", b"fwd=uri-miss")
    assert (await ask(running)).body == b"0123456789"
    one = await ask(running, b"Range: bytes=2-4", b'If-Range: "1"')
    assert (one.status, one.body, one.get(b"content-range")) == (206, b"234", b"bytes 2-4/10")
    assert status_of(one) == b"hit; ttl=60"
    several = await ask(running, b"Range: bytes=0-0,-1")
    assert (several.status, several.body.count(b"Content-Range")) == (206, 2)
    beyond = await ask(running, b"Range: bytes=10-")
    assert (beyond.status, beyond.body, beyond.get(b"content-range")) == (416, b"", b"bytes */10")
    other = await ask(running, b"Range: bytes=0-1", b'If-Range: "2"')
    assert (other.status, other.body) == (200, b"0123456789")
    head = await ask(running, b"Range: bytes=0-1", method=b"HEAD")
    assert (head.status, head.get(b"content-length")) == (200, b"10")
    assert (await ask(running, b"Range: bytes=0-1", b'If-None-Match: "1"')).status == 304
    assert len(up.requests) == 2
