"""The demo's services, on a real event loop with real clients."""

import asyncio
import contextlib
import gc
import json
import re
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.support.demos import (
    LONG_LINE,
    MANY,
    Scripted,
    Services,
    address,
    ended,
    enter,
    enter_without_reading,
    hear,
    hear_many,
    other_tasks,
    playing,
)
from tornado_gateway.demo import upstreams

# ---- api


@playing()
async def test_both_api_instances_describe_themselves(services: Services, http: httpx.AsyncClient) -> None:
    answers = [(await http.get(url)).json() for url in services["api"]]
    assert [answer["instance"] for answer in answers] == ["api-1", "api-2"]
    assert {"GET /items", "POST /echo", "?delay=<ms>", "?status=<code>"} <= answers[0]["ask"].keys()
    assert answers[0]["ask"] == answers[1]["ask"]


@playing()
async def test_items_are_listed_and_found_by_number(services: Services, http: httpx.AsyncClient) -> None:
    url = services["api"][0]
    items = (await http.get(f"{url}/items")).json()["items"]
    last = (await http.get(f"{url}/items/{len(items)}")).json()
    assert {"id": last["id"], "name": last["name"]} == items[-1]


@pytest.mark.parametrize("path", ["/items/0", "/items/9", "/items/x", "/items/99999999999", "/nowhere"])
@playing()
async def test_what_does_not_exist_is_a_404_in_json(services: Services, http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(services["api"][0] + path)
    assert response.status_code == 404
    assert response.json()["error"] == "Not Found"


@playing()
async def test_head_answers_as_get_without_the_body(services: Services, http: httpx.AsyncClient) -> None:
    url = f"{services['api'][0]}/items"
    get, head = await http.get(url), await http.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@playing()
async def test_echo_returns_the_request_as_it_arrived(services: Services, http: httpx.AsyncClient, method: str) -> None:
    url = f"{services['api'][0]}/echo?a=b%20c&a"
    echo = (await http.request(method, url, headers={"X-Two": "2"}, content="grüße".encode())).json()
    assert (echo["method"], echo["path"], echo["query"], echo["body"]) == (method, "/echo", "a=b%20c&a", "grüße")
    assert echo["headers"]["X-Two"] == "2"


@pytest.mark.parametrize("path", ["/", "/items", "/items/3", "/echo", "/bytes/5", "/nowhere"])
@pytest.mark.parametrize("status", [200, 204, 304, 418, 503, 599])
@playing()
async def test_any_path_answers_with_a_status_on_demand(
    services: Services, http: httpx.AsyncClient, path: str, status: int
) -> None:
    response = await http.get(f"{services['api'][0]}{path}?status={status}")
    assert response.status_code == status
    assert status in (204, 304) or response.json()["status"] == status


@playing()
async def test_any_path_answers_late_on_demand(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    assert (await http.get(f"{services['api'][0]}/items/1?delay=60")).json()["id"] == 1
    assert time.monotonic() - began >= 0.06


@pytest.mark.parametrize(
    "target",
    [
        *("/?delay=30001", "/?delay=-1", "/?delay=", "/?delay=soon", "/?delay=٣"),
        *("/?status=199", "/?status=600", "/?status=ok"),
        *("/bytes/1073741825", "/bytes/-1", "/bytes/many", f"/bytes/{'9' * 5000}"),
    ],
)
@playing()
async def test_a_number_out_of_bounds_is_a_400_that_says_so(
    services: Services, http: httpx.AsyncClient, target: str
) -> None:
    response = await http.get(services["api"][0] + target)
    assert response.status_code == 400
    assert "is a whole number from" in response.json()["error"]


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
@playing()
async def test_bytes_sends_as_many_as_asked(services: Services, http: httpx.AsyncClient, size: int) -> None:
    url = f"{services['api'][0]}/bytes/{size}"
    assert len((await http.get(url)).content) == size
    assert (await http.head(url)).headers["Content-Length"] == str(size)


@playing()
async def test_bytes_writes_no_faster_than_it_is_read(services: Services, http: httpx.AsyncClient) -> None:
    written = 0
    send = upstreams.Upstream.send

    async def counted(self: upstreams.Upstream, chunk: bytes) -> None:
        nonlocal written
        written += len(chunk)
        await send(self, chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstreams.Upstream, "send", counted)
        reader, writer = await asyncio.open_connection(*address(services["api"][0]))
        writer.write(b"GET /bytes/1073741824 HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(2**20)
        assert written < 2**26  # what was read, plus what the kernel and this reader buffer
        handlers = other_tasks()
        writer.close()
        await ended(handlers)


@playing()
async def test_a_report_names_the_time_for_which_a_cache_may_keep_the_report(
    services: Services, http: httpx.AsyncClient
) -> None:
    assert (await http.get(f"{services['api'][0]}/report")).headers["Cache-Control"] == "max-age=10"


# ---- slow, flaky


@playing()
async def test_slow_has_a_fast_and_a_slow_instance(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    assert (await http.get(services["slow"][0])).json()["delay"] == 0.02
    between = time.monotonic()
    assert (await http.get(f"{services['slow'][1]}/any/path")).json()["delay"] == 0.3
    assert between - began >= 0.02
    assert time.monotonic() - between >= 0.3


@playing(rng=Scripted(0.49, 0.5))
async def test_the_second_flaky_instance_fails_as_chance_has_it(services: Services, http: httpx.AsyncClient) -> None:
    assert [(await http.get(services["flaky"][1])).status_code for _ in range(4)] == [503, 200, 503, 200]


@playing(rng=Scripted(0.0))
async def test_the_first_flaky_instance_never_fails(services: Services, http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{services['flaky'][0]}/any")).json() == {"instance": "flaky-1", "ok": True}


@playing()
async def test_the_third_flaky_instance_refuses_connections(services: Services, http: httpx.AsyncClient) -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address(services["flaky"][2]))


# ---- clock


async def first_blocks(services: Services, count: int, path: str = "/events", last: str = "") -> list[dict[str, str]]:
    """The stream's first blocks, each as its fields; then the client leaves and its handler with it."""
    reader, writer = await asyncio.open_connection(*address(services["clock"][0]))
    writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\nLast-Event-ID: {last}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"Content-Type: text/event-stream\r\n" in head
    blocks = [(await reader.readuntil(b"\n\n")).decode().split("\n")[:-2] for _ in range(count)]
    handlers = other_tasks()
    assert handlers
    writer.close()
    await ended(handlers)
    return [dict(line.split(": ", 1) for line in block) for block in blocks]


@playing(tick=0.001)
async def test_clock_counts_its_ticks(services: Services, http: httpx.AsyncClient) -> None:
    retry, *ticks = await first_blocks(services, 4)
    assert retry == {"retry": "1000"}
    assert [(tick["event"], tick["id"]) for tick in ticks] == [("tick", "1"), ("tick", "2"), ("tick", "3")]
    assert [json.loads(tick["data"])["tick"] for tick in ticks] == [1, 2, 3]


@pytest.mark.parametrize(("last", "following"), [("41", "42"), ("", "1"), ("x", "1"), ("-1", "1"), ("9" * 5000, "1")])
@playing(tick=0.001)
async def test_clock_continues_after_the_last_event_id(
    services: Services, http: httpx.AsyncClient, last: str, following: str
) -> None:
    assert (await first_blocks(services, 2, last=last))[1]["id"] == following


@pytest.mark.parametrize(
    ("query", "last", "following"),
    [
        pytest.param("?last_event_id=41", "", "42", id="only the query"),
        pytest.param("?last_event_id=41", "70", "71", id="the newer field too"),
        pytest.param("?last_event_id=x", "", "1", id="not a number"),
        pytest.param("?last_event_id=", "", "1", id="empty"),
    ],
)
@playing(tick=0.001)
async def test_clock_takes_the_last_event_id_from_the_query_too(
    services: Services, http: httpx.AsyncClient, query: str, last: str, following: str
) -> None:
    assert (await first_blocks(services, 2, f"/events{query}", last))[1]["id"] == following


@playing(tick=60.0)
async def test_clock_ticks_at_the_interval_asked_for(services: Services, http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    await first_blocks(services, 3, "/events?every=50")
    assert 0.05 <= time.monotonic() - began < 60


@pytest.mark.parametrize("every", ["49", "60001", "x"])
@playing()
async def test_clock_refuses_other_intervals(services: Services, http: httpx.AsyncClient, every: str) -> None:
    assert (await http.get(f"{services['clock'][0]}/events?every={every}")).status_code == 400


@playing()
async def test_clock_answers_head_without_a_stream(services: Services, http: httpx.AsyncClient) -> None:
    response = await http.head(f"{services['clock'][0]}/events")
    assert response.headers["Content-Type"] == "text/event-stream"


@pytest.mark.parametrize(("service", "path"), [("clock", "GET /events"), ("chat", "WebSocket /room")])
@playing()
async def test_clock_and_chat_say_what_they_are(
    services: Services, http: httpx.AsyncClient, service: str, path: str
) -> None:
    assert path in (await http.get(services[service][0])).json()["ask"]


# ---- page


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@playing()
async def test_only_a_browser_gets_the_page(services: Services, http: httpx.AsyncClient) -> None:
    url = services["chat"][0]
    page, head, other = await http.get(url, headers=BROWSER), await http.head(url, headers=BROWSER), await http.get(url)
    assert page.headers["Content-Type"] == head.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert head.headers["Content-Length"] == page.headers["Content-Length"]
    refusing = await http.get(url, headers={"Accept": "text/html;q=0, */*"})
    assert other.json()["instance"] == refusing.json()["instance"] == "chat-1"
    assert page.headers["Vary"] == other.headers["Vary"] == "Accept"


@playing()
async def test_the_page_needs_nothing_from_elsewhere_and_may_not_ask_for_it(
    services: Services, http: httpx.AsyncClient
) -> None:
    page = await http.get(services["chat"][0], headers=BROWSER)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert re.findall(r'(?:src|href)=(?!"data:|"/live/"|"/api/chat/").*', page.text) == []
    assert "@import" not in page.text
    assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write", page.text)


@playing()
async def test_without_its_file_the_page_is_what_other_clients_get(
    services: Services, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstreams, "PAGE", tmp_path / "demo.html")
        assert (await http.get(services["chat"][0], headers=BROWSER)).json()["instance"] == "chat-1"


# ---- chat


@playing()
async def test_the_echo_keeps_text_and_binary_apart(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/echo", origin="https://gateway.example") as client:
        for message in ("grüße", b"\x00\xff", "", b"", "x" * 200_000):
            await client.send(message)
            assert await hear(client) == message


@playing()
async def test_all_members_of_the_room_hear_arrivals_lines_and_departures(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter(services, "/room") as one:
        assert await hear(one) == "* guest-1 joined"
        async with enter(services, "/room") as two:
            assert [await hear(one), await hear(two)] == ["* guest-2 joined"] * 2
            await two.send("hello")
            assert [await hear(one), await hear(two)] == ["guest-2: hello"] * 2
            await one.send(b"bytes \xff")
            assert [await hear(one), await hear(two)] == ["guest-1: bytes \ufffd"] * 2
        assert await hear(one) == "* guest-2 left"


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ("Ada", "Ada"),
        ("J%C3%BCrgen%20O.-2", "Jürgen O.-2"),
        ("x" * 24, "x" * 24),
        *[(bad, "guest-1") for bad in ("", "x" * 25, "*%20Ada", "Ada:", "a%0Ab", "%20", "%3Cb%3E")],
    ],
)
@playing()
async def test_a_member_is_called_as_it_asks_if_that_is_a_name(
    services: Services, http: httpx.AsyncClient, asked: str, called: str
) -> None:
    async with enter(services, f"/room?name={asked}") as member:
        assert await hear(member) == f"* {called} joined"
        await member.send("hello")
        assert await hear(member) == f"{called}: hello"


@playing()
async def test_the_room_and_the_echo_do_not_hear_each_other(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/echo") as echo, enter(services, "/room") as member:
        await hear(member)
        await echo.send("mine")
        assert await hear(echo) == "mine"
        await member.send("ours")
        assert await hear(member) == "guest-1: ours"


@playing()
async def test_a_long_line_is_cut(services: Services, http: httpx.AsyncClient) -> None:
    async with enter(services, "/room") as member:
        await hear(member)
        await member.send("x" * 10_000)
        assert await hear(member) == f"guest-1: {'x' * upstreams.ROOM_LINE}"


@playing()
async def test_a_burst_longer_than_the_backlog_reaches_everybody(services: Services, http: httpx.AsyncClient) -> None:
    lines = [f"guest-1: {n}" for n in range(4 * upstreams.ROOM_BACKLOG)]
    async with enter(services, "/room") as one, enter(services, "/room") as two:
        assert [await hear(one), await hear(one), await hear(two)] == [
            *("* guest-1 joined", "* guest-2 joined"),
            "* guest-2 joined",
        ]
        sending = asyncio.gather(*(one.send(line.removeprefix("guest-1: ")) for line in lines))
        for line in lines:
            assert [await hear(one), await hear(two)] == [line, line]
        await sending


async def said(member: ClientConnection) -> str:
    """Have a member say a long line; what it hears next."""
    await member.send(LONG_LINE)
    return await hear(member)


@playing()
async def test_a_member_that_does_not_read_is_dropped_without_delaying_others(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
        await hear(fast)
        heard = [await said(fast) for _ in range(MANY)]
        lines = 0
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await hear(slow)
                lines += 1
        assert lines < MANY
        if closed.value.rcvd:  # a busy machine takes longer than the Close waits for a reader
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "too slow")
        heard.append(await hear(fast))
    assert Counter(heard) == {f"guest-2: {LONG_LINE}": MANY, "* guest-1 left": 1}


@playing()
async def test_a_member_that_vanishes_with_unsent_lines_counts_as_departed(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
        await hear(fast)
        heard = [await said(fast) for _ in range(MANY)]
        slow.transport.abort()
        heard.append(await hear(fast))
    assert Counter(heard) == {f"guest-2: {LONG_LINE}": MANY, "* guest-1 left": 1}
    gc.collect()  # would log an exception that nobody has seen


@playing()
async def test_a_member_that_speaks_without_reading_waits_for_its_own_copy(
    services: Services, http: httpx.AsyncClient
) -> None:
    async with enter(services, "/room") as two:
        await hear(two)
        async with enter_without_reading(services, write_limit=2**24) as one:
            await hear(two)
            for _ in range(MANY):
                await one.send(LONG_LINE)
            heard = 0
            with contextlib.suppress(TimeoutError):  # as far as the room goes while "one" does not listen
                while True:
                    await asyncio.wait_for(two.recv(), 0.3)
                    heard += 1
            assert heard < MANY
            assert await hear(one) == "* guest-2 joined"
            to_one, to_two = await asyncio.gather(hear_many(one, MANY), hear_many(two, MANY - heard))
            assert to_one | to_two == {f"guest-2: {LONG_LINE}"}
