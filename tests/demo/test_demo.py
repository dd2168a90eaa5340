"""The demo as a whole: what start() begins, what stop() ends, and what the banner says."""

import asyncio
import json
import re

import httpx
import pytest
from tornado.websocket import WebSocketProtocol13
from websockets.exceptions import ConnectionClosed

from tests.support.demos import (
    LONG_LINE,
    MANY,
    Services,
    address,
    ended,
    enter,
    enter_without_reading,
    hear,
    other_tasks,
    playing,
    refuses,
)
from tests.support.sockets import eventually
from tornado_gateway.config.load import load_settings
from tornado_gateway.demo.demo import CONFIGS, Demo, banner, upstreams_of


@playing()
async def test_every_service_has_its_instances_on_ports_of_their_own(
    services: Services, http: httpx.AsyncClient
) -> None:
    assert {name: len(urls) for name, urls in services.items()} == {
        "api": 2,
        "slow": 2,
        "flaky": 3,
        "clock": 1,
        "chat": 1,
    }
    urls = [url for urls in services.values() for url in urls]
    assert len(set(urls)) == len(urls)
    assert all(url.startswith("http://127.0.0.1:") for url in urls)


@playing()
async def test_the_values_of_services_are_those_that_a_configuration_may_have(
    services: Services, http: httpx.AsyncClient
) -> None:
    settings = load_settings({"UPSTREAMS": json.dumps(upstreams_of(services))})
    assert {each.name for each in settings.services} == set(services) >= set(CONFIGS)


# ---- stop


def test_stop_ends_whatever_is_under_way() -> None:
    async def scenario() -> None:
        demo = Demo(tick=60.0, slow=(60.0,))
        services = await demo.start()
        demo.start_traffic(services["api"][0])
        busy = [
            (services["api"][0], b"GET /items?delay=30000"),
            (services["api"][1], b"GET /bytes/1073741824"),
            (services["slow"][0], b"GET /"),
            (services["clock"][0], b"GET /events"),
            (services["api"][0], b"POST /echo HTTP/1.1\r\nContent-Length: 9"),
        ]
        writers = []
        for url, head in busy:
            reader, writer = await asyncio.open_connection(*address(url))
            rest = b"\r\nHost: x\r\n\r\n" if b"HTTP/1.1" in head else b" HTTP/1.1\r\nHost: x\r\n\r\n"
            writer.write(head + rest)
            writers.append(writer)
            if b"bytes" in head or b"events" in head:
                await reader.readline()
        async with enter(services, "/echo") as echo, enter(services, "/room") as one, enter(services, "/room") as two:
            await hear(one)
            await asyncio.wait_for(demo.stop(), 2)
            for client in (echo, one, two):
                with pytest.raises(ConnectionClosed):
                    while True:
                        await hear(client)
        for writer in writers:
            writer.close()
        assert not other_tasks()
        assert all([await refuses(url) for urls in services.values() for url in urls])

    asyncio.run(scenario())


def test_stop_does_not_wait_for_a_member_that_was_let_go() -> None:
    async def scenario() -> None:
        demo = Demo()
        services = await demo.start()
        async with enter_without_reading(services) as slow, enter(services, "/room") as fast:
            await hear(fast)
            for _ in range(MANY):
                await fast.send(LONG_LINE)
                await hear(fast)
            await asyncio.wait_for(demo.stop(), 2)
            slow.transport.abort()
        assert not other_tasks()

    asyncio.run(scenario())


def test_stop_may_come_twice_or_before_start_and_start_may_follow() -> None:
    async def scenario() -> None:
        demo = Demo()
        await demo.stop()
        for _ in range(2):
            services = await demo.start()
            assert not await refuses(services["api"][0])
            await demo.stop()
            await demo.stop()
            assert await refuses(services["api"][0])

    asyncio.run(scenario())


def test_stop_does_not_wait_for_an_answer_to_its_goodbye() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()
        greeted = asyncio.Event()

        async def accept_and_ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if key := re.search(rb"(?i)sec-websocket-key: (.*)\r\n", head):
                answer = WebSocketProtocol13.compute_accept_value(key[1])
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: %b\r\n\r\n" % answer.encode()
                )
                await reader.readexactly(1)
                greeted.set()
                await reader.read()
                gone.set()
            writer.close()

        demo = Demo(visitors=0)
        async with await asyncio.start_server(accept_and_ignore, "127.0.0.1", 0) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await asyncio.wait_for(greeted.wait(), 5)
            await asyncio.wait_for(demo.stop(), 2)
            await asyncio.wait_for(gone.wait(), 2)
        await ended(other_tasks())

    asyncio.run(scenario())


def test_stop_does_not_wait_for_a_gateway_that_does_not_answer() -> None:
    async def scenario() -> None:
        asked: list[asyncio.StreamWriter] = []
        demo = Demo(visitors=1)
        async with await asyncio.start_server(lambda _, writer: asked.append(writer), "127.0.0.1", 0) as server:
            demo.start_traffic(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await eventually(lambda: len(asked) == 3)
            await asyncio.wait_for(demo.stop(), 2)
            assert other_tasks() == set()
            for writer in asked:
                writer.close()

    asyncio.run(scenario())


# ---- banner


def test_the_banner_names_only_routes_that_this_release_has() -> None:
    text = banner("http://127.0.0.1:8080/")
    routes = set(re.findall(r"http://127\.0\.0\.1:8080/([a-z]+)", text))
    assert routes == {"admin", "live", "api", "sse", "healthz", "readyz"}
    lines = text.partition("\n\n")[2].splitlines()
    assert lines[0].startswith("  open http://127.0.0.1:8080/admin in a browser ")
    assert re.search("  open http://127.0.0.1:8080/live/ in a browser .* on one route; ", lines[1])
    assert any(line.startswith("  python -m websockets 'ws://127.0.0.1:8080/live/room' ") for line in lines)
    assert any(line.startswith("  python -m websockets 'ws://127.0.0.1:8080/ws/chat?path=/echo' ") for line in lines)


@playing()
async def test_every_request_of_the_banner_works(services: Services, http: httpx.AsyncClient) -> None:
    text = banner("http://gateway").replace("delay=2000", "delay=1").replace("gateway/live/", "gateway/api/chat/")
    asked = re.findall(r"http://gateway/(?:api|sse)/([a-z]+)(/[^\s']*)", text)
    assert {service for service, _ in asked} == {"api", "slow", "flaky", "clock", "chat"}
    for service, target in asked:
        async with http.stream("POST" if "echo" in target else "GET", services[service][0] + target) as response:
            assert response.status_code == (503 if "status=503" in target else 200)
