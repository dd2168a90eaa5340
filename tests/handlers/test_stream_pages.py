"""The list of open streams and their end by an operator, on real sockets."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from tests.conftest import Running, Serve
from tests.support.event_streams import Listener, Source
from tests.support.journeys import Start, ask, capture, problem
from tests.support.operators import AUTH, bearer
from tests.support.sockets import Message, Peer, echo, eventually, get
from tests.support.websockets import accepting

OPERATOR = bearer(scope="admin")
PAGE = "/admin/api/streams"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")


async def listed(running: Running, query: str = "") -> dict[str, Any]:
    answer = await ask(running, get(f"{PAGE}{query}".encode(), OPERATOR))
    assert answer.status == 200
    result: dict[str, Any] = json.loads(answer.body)
    return result


async def close(running: Running, **said: object) -> Message:
    body = json.dumps(said).encode()
    return await ask(running, get(f"{PAGE}/close".encode(), OPERATOR, method=b"POST", body=body), b"POST")


async def closing(running: Running, **said: object) -> dict[str, int]:
    answer = await close(running, **said)
    assert answer.status == 200
    result: dict[str, int] = json.loads(answer.body)
    return result


async def handshaking(peer: Peer) -> None:
    """An endpoint that accepts a WebSocket, and answers the Close."""
    await peer.send(accepting(await peer.request()))
    await peer.exactly(1)


async def opened(running: Running) -> Any:
    headers = [tuple(OPERATOR.decode().split(": ", 1))]
    return await websockets.connect(
        f"ws://127.0.0.1:{running.port}/ws/chat/room", additional_headers=headers, proxy=None
    )


async def listening(running: Running, count: int, *fields: bytes) -> list[Listener]:
    """So many open event streams."""
    streams, before = running.app.gateway.streams, len(running.app.gateway.streams.open)
    path = b"/sse/billing/news?secret=1"
    found = [await Listener.ask(running, get(path, *(fields or (OPERATOR,)))) for _ in range(count)]
    await eventually(lambda: len(streams.open) == before + count)
    return found


@pytest.mark.gen_test
async def test_the_list_shows_what_each_stream_has_carried(serve: Serve, upstream: Start) -> None:
    source = Source()
    up = upstream(source)
    running = await serve({"billing": [up.url], "chat": [upstream(handshaking).url]}, **AUTH)
    (listener,) = await listening(running, 1, bearer(sub="eve"))
    socket = await opened(running)
    await source.say(b"data: 1\n\ndata: 2\n\n")
    await listener.hear(b"data: 1\n\ndata: 2\n\n")
    said = await listed(running)
    stream, other = said["streams"]
    assert stream.pop("ageMs") >= 0
    assert stream.pop("requestId").encode() == listener.head.get(b"x-request-id")
    assert stream == {
        "id": 1, "kind": "eventStream", "service": "billing", "endpoint": up.url, "client": "127.0.0.1",
        "principal": "id|eve", "path": "/sse/billing/news", "messages": {"up": 0, "down": 2},
        "bytes": {"up": 0, "down": 18}, "waitingBytes": 0,
    }  # fmt: skip
    assert (other["kind"], other["path"], other["principal"]) == ("webSocket", "/ws/chat/room", "id|ada")
    assert (said["open"], said["matching"], said["next"]) == (2, 2, None)
    assert [each["id"] for each in (await listed(running, "?kind=webSocket&text=ADA"))["streams"]] == [2]
    assert [each["id"] for each in (await listed(running, "?limit=1&after=1"))["streams"]] == [2]
    assert (await listed(running, "?limit=1"))["next"] == 1
    assert (await closing(running, ids=[2])) == {"closing": 1, "overMs": 0}
    with pytest.raises(ConnectionClosed):
        await socket.recv()


@pytest.mark.gen_test
async def test_a_closed_event_stream_ends_between_two_events(serve: Serve, upstream: Start) -> None:
    source = Source()
    running = await serve({"billing": [upstream(source).url]}, **AUTH)
    lines = capture(running)
    first, second = await listening(running, 2)
    await source.peers[0].send(b"6\r\ndata: \r\n")
    await first.hear(b"data: ")
    assert await closing(running, ids=[1]) == {"closing": 1, "overMs": 0}
    await source.peers[0].send(b"3\r\n1\n\n\r\n")
    await first.all()
    assert (first.end, re.sub(rb"\d{2,}", b"N", first.body)) == ("complete", b"data: 1\n\nretry: N\n\n")
    await eventually(lambda: any(line["reason"] == "closed_by_operator" for line in lines()))
    assert [each["id"] for each in (await listed(running))["streams"]] == [2]
    assert second.end == ""
    await closing(running, ids=[2])
    await second.all()


@pytest.mark.parametrize(("variables", "code"), [({}, 1001), ({"WS_DRAIN_CODE": "1012"}, 1012)])
@pytest.mark.gen_test
async def test_a_closed_websocket_gets_a_close(
    serve: Serve, upstream: Start, variables: dict[str, str], code: int
) -> None:
    running = await serve({"chat": [upstream(handshaking).url]}, **AUTH, **variables)
    lines = capture(running)
    socket = await opened(running)
    await closing(running, ids=[1])
    with pytest.raises(ConnectionClosed) as ended:
        await socket.recv()
    assert ended.value.rcvd and (ended.value.rcvd.code, ended.value.rcvd.reason) == (code, "closed")
    await eventually(lambda: any(line["reason"] == "closed_by_operator" for line in lines()))


@pytest.mark.gen_test
async def test_the_streams_of_an_endpoint_end_and_no_others(serve: Serve, upstream: Start) -> None:
    ups = [upstream(Source()), upstream(Source())]
    running = await serve({"billing": [each.url for each in ups]}, **AUTH, BALANCER="round_robin")
    await listening(running, 6)
    said = await closing(running, service="billing", endpoint=ups[0].url, overMs=100)
    assert said == {"closing": 3, "overMs": 100}
    await eventually(lambda: len(running.app.gateway.streams.open) == 3)
    assert {each["endpoint"] for each in (await listed(running))["streams"]} == {ups[1].url}
    assert await closing(running, service="billing", endpoint=ups[0].url) == {"closing": 0, "overMs": 0}
    assert (await closing(running, service="billing", overMs=0))["closing"] == 3
    await eventually(lambda: not running.app.gateway.streams.open)


@pytest.mark.gen_test
async def test_a_closing_has_a_line_in_the_log(serve: Serve, upstream: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = await serve({"billing": [upstream(Source()).url]}, **AUTH)
    await listening(running, 2)
    with caplog.at_level(logging.INFO, "tornado_gateway.audit"):
        await closing(running, service="billing", endpoint="\u202e\n")
        await closing(running, ids=[*range(1, 13)], overMs=50)
        await closing(running, service="billing")
    lines = [each.getMessage().partition(": ")[2] for each in caplog.records if each.name == "tornado_gateway.audit"]
    assert lines == [
        '200 (closed 0 streams over 0 ms: "\\u202e\\n" of "billing")',
        "200 (closed 2 streams over 50 ms: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more)",
        lines[2],
    ]
    assert re.fullmatch(r'200 \(closed [01] streams over 0 ms: "billing"\)', lines[2])
    await eventually(lambda: not running.app.gateway.streams.open)


# ---------------------------------------------------------------- wrong questions and orders


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("?limit=0", 'limit is "0", and must be a whole number from 1 to 1000'),
        ("?limit=1001", 'limit is "1001", and must be a whole number from 1 to 1000'),
        ("?after=-1", 'after is "-1", and must be a whole number from 0 to 9007199254740992'),
        ("?after=%D9%A3", 'after is "\\u0663", and must be a whole number from 0 to 9007199254740992'),
        ("?after=" + "9" * 5000, None),
        ("?kind=sse", 'kind is "sse", and must be one of eventStream, webSocket'),
        ("?limits=1", '"limits" is no parameter of this page; '
                      "kind, service, endpoint, client, principal, text, after, limit are"),
        ("?text=a&text=b", "a parameter stands twice"),
    ],
    ids=range(8),
)  # fmt: skip
@pytest.mark.gen_test
async def test_a_wrong_question_is_told_what_is_allowed(serve: Serve, query: str, complaint: str | None) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    said = problem(await ask(running, get(f"{PAGE}{query}".encode(), OPERATOR)), 400, "bad_request")
    assert complaint is None or said["message"] == complaint


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "either ids or service must be given; endpoint only with service"),
        ({"ids": [1], "service": "a"}, "either ids or service must be given; endpoint only with service"),
        ({"ids": [1], "endpoint": "a"}, "either ids or service must be given; endpoint only with service"),
        ({"endpoint": "a"}, "either ids or service must be given; endpoint only with service"),
        ({"ids": []}, "ids is [], and must be a list of 1 to 1000 numbers of streams"),
        ({"ids": ["1"]}, 'ids is ["1"], and must be a list of 1 to 1000 numbers of streams'),
        ({"ids": [1], "overMs": 600_001}, "overMs is 600001, and must be a whole number from 0 to 600000"),
    ],
    ids=range(7),
)
@pytest.mark.gen_test
async def test_a_wrong_order_is_told_what_is_allowed(serve: Serve, said: dict[str, object], complaint: str) -> None:
    running = await serve({"svc": ["http://127.0.0.1:1"]}, **AUTH)
    assert problem(await close(running, **said), 400, "bad_request")["message"] == complaint


# ---------------------------------------------------------------- the document

COMMAND = re.compile(
    r"curl -H \"Authorization: Bearer \$TOKEN\" '?http://127\.0\.0\.1:8080([^\s']+)'?(?: (?:\\\n +)?-d '([^']+)')?"
)


@pytest.mark.gen_test
async def test_the_commands_of_the_page_work(serve: Serve, upstream: Start) -> None:
    running = await serve({"billing": [upstream(Source()).url], "svc": [upstream(echo).url]}, **AUTH)
    await listening(running, 2)
    commands = COMMAND.findall(DOCUMENT.partition("<!-- streams -->")[2].partition("<!-- /streams -->")[0])
    assert len(commands) == 3
    for path, body in commands:
        method = b"POST" if body else b"GET"
        assert (await ask(running, get(path.encode(), OPERATOR, method=method, body=body.encode()))).status == 200
    await closing(running, service="billing", overMs=0)
    await eventually(lambda: not running.app.gateway.streams.open)
