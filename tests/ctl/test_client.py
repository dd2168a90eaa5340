"""The connection of `ctl` to a gateway: what is asked, and what a failure says."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.journeys import Start
from tests.support.sockets import Peer, eventually, reply
from tornado_gateway.ctl.client import Failed, Gateway, read_events

JSON = (b"Content-Type: application/json",)


def answering(answer: bytes) -> "Start":
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        peer.close()

    return script  # type: ignore[return-value]


@pytest.mark.gen_test
async def test_a_url_is_asked_with_the_token_in_a_field(upstream: Start) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        request = await peer.request()
        seen.extend([request.start, request.get(b"authorization") or b"", request.body])
        await peer.send(reply(body=b'{"a": 1}'))
        await peer.ended()

    up = upstream(script)
    assert await asyncio.to_thread(Gateway(url=up.url, token="secret").ask, "/admin/api/drain", {"b": 2}) == {"a": 1}
    assert seen == [b"POST /admin/api/drain HTTP/1.1", b"Bearer secret", b'{"b": 2}']
    await eventually(lambda: not up.open)


@pytest.mark.parametrize(
    ("answer", "said", "is_refusal"),
    [
        (reply(b"403 Forbidden", JSON, body=json.dumps({"message": "no"}).encode()), "403: no", True),
        (reply(status=b"502 Bad Gateway", body=b"<html>"), "502: Bad Gateway", True),
        (reply(status=b"502 Bad Gateway", body=b"[1]"), "502: Bad Gateway", True),
        (reply(body=b"<html>"), "{url}: the answer is not that of a gateway", False),
        (b"SSH-2.0-OpenSSH\r\n", "{url}: the answer is not that of a gateway", False),
    ],
    ids=range(5),
)
@pytest.mark.gen_test
async def test_a_failure_is_told_in_a_line(upstream: Start, answer: bytes, said: str, is_refusal: bool) -> None:
    up = upstream(answering(answer))
    with pytest.raises(Failed) as failed:
        await asyncio.to_thread(Gateway(url=up.url).ask, "/")
    assert (str(failed.value), failed.value.is_refusal) == (said.format(url=up.url), is_refusal)
    await eventually(lambda: not up.open)


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "ctl.sock")
    with pytest.raises(Failed, match=f"{path}: No such file or directory"):
        Gateway(socket=path).ask("/")


def test_events_are_read_with_their_names() -> None:
    lines = b'retry: 1\nid: a\nevent: whole\ndata: {"a":\ndata: 1}\n\n:\n\ndata: 2\r\n\r\nevent: change\n'
    found = list(read_events(iter(lines.splitlines(keepends=True))))
    assert found == [("whole", {"a": 1}), ("message", 2)]
