"""The receivers of a response: which receiver is called, and how a body is handed over."""

import asyncio
from collections.abc import Callable

import pytest

from tests.support.exchanges import Recorder, begin, origin_of, saying, wire_client
from tests.support.sockets import Peer, Script, Upstream, eventually, reply
from tornado_gateway.errors import UpstreamError, UpstreamReset
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource, HeadReceiver
from tornado_gateway.wire.http1 import ResponseHead

Start = Callable[[Script], Upstream]

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\nX-Sum: 7\r\n\r\n"


class Body:
    """A BodyReceiver that records its calls."""

    def __init__(self) -> None:
        self.bytes = b""
        self.told: list[object] = []

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self.bytes += chunk
        return None

    def on_end(self, trailers: list[Field]) -> None:
        self.told.append(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        self.told.append(type(error))


class Head:
    """A HeadReceiver, and nothing else; the body goes to a receiver of the test's choice."""

    def __init__(self, body: BodyReceiver | None) -> None:
        self._body = body
        self.told: list[object] = []
        self.source: BodySource | None = None

    def on_interim(self, head: ResponseHead) -> None:
        self.told.append(head.status)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        self.told.append(head.status)
        self.source = source
        return self._body

    def on_failure(self, error: UpstreamError) -> None:
        self.told.append(type(error))


class Tee:
    """A BodyReceiver that passes everything on, and keeps a copy of a body that came whole."""

    def __init__(self, receiver: BodyReceiver, keep: Callable[[bytes, list[Field]], None]) -> None:
        self._receiver, self._keep = receiver, keep
        self._copy = b""

    def on_chunk(self, chunk: bytes) -> "asyncio.Future[None] | None":
        self._copy += chunk
        return self._receiver.on_chunk(chunk)

    def on_end(self, trailers: list[Field]) -> None:
        self._keep(self._copy, trailers)
        self._receiver.on_end(trailers)

    def on_failure(self, error: UpstreamError) -> None:
        self._receiver.on_failure(error)


class TeedHead:
    """A HeadReceiver that passes everything on, and puts a Tee in front of whichever receiver takes the body."""

    def __init__(self, receiver: HeadReceiver, keep: Callable[[bytes, list[Field]], None]) -> None:
        self._receiver, self._keep = receiver, keep

    def on_interim(self, head: ResponseHead) -> None:
        self._receiver.on_interim(head)

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver | None:
        receiver = self._receiver.on_head(head, source)
        return receiver and Tee(receiver, self._keep)

    def on_failure(self, error: UpstreamError) -> None:
        self._receiver.on_failure(error)


@pytest.mark.gen_test
async def test_a_response_is_told_to_the_receiver_of_its_head_and_then_to_that_of_its_body(upstream: Start) -> None:
    up = upstream(saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD, b"3\r\nabc\r\n" + END))
    body = Body()
    head = Head(body)
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=head)
        await eventually(lambda: body.told)
    assert head.told == [103, 200]
    assert (body.bytes, body.told) == (b"abc", [[(b"X-Sum", b"7")]])


@pytest.mark.parametrize("pieces", [[b""], [b"HTTP/1.1 2"], [b"HTTP/1.1 103 Early Hints\r\n\r\n"]])
@pytest.mark.gen_test
async def test_a_failure_before_the_head_goes_to_the_receiver_of_the_head(upstream: Start, pieces: list[bytes]) -> None:
    up = upstream(saying(*pieces, then="reset"))
    body = Body()
    head = Head(body)
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=head)
        await eventually(lambda: UpstreamReset in head.told)
    assert (body.bytes, body.told) == (b"", [])


@pytest.mark.gen_test
async def test_a_failure_after_the_head_goes_to_the_receiver_of_the_body(upstream: Start) -> None:
    up = upstream(saying(HEAD, b"3\r\nabc\r\n", then="reset"))
    body = Body()
    head = Head(body)
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=head)
        await eventually(lambda: UpstreamReset in body.told)
    assert (head.told, body.bytes, body.told) == ([200], b"abc", [UpstreamReset])


@pytest.mark.parametrize(("answers", "kept"), [([reply(), reply()], 1), ([HEAD + b"3\r\nabc\r\n"], 0)])
@pytest.mark.gen_test
async def test_a_body_that_no_receiver_takes_is_discarded(upstream: Start, answers: list[bytes], kept: int) -> None:
    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    up = upstream(script)
    head = Head(None)
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=head)
        await eventually(lambda: head.told and not client.active)
        assert head.told == [200]  # nothing of how the body ended
        if kept:  # a whole response leaves a connection that can be used again
            exchange, recorder = begin(client, origin_of(up))
            await recorder.ended()
            assert exchange.reused


@pytest.mark.gen_test
async def test_the_rest_of_a_body_can_be_handed_to_another_receiver(upstream: Start) -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"3\r\nabc\r\n")
        await may_go_on.wait()
        await peer.send(b"3\r\ndef\r\n" + END)
        await peer.ended()

    up = upstream(script)
    first, second = Body(), Body()
    head = Head(first)
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=head)
        await eventually(lambda: first.bytes == b"abc")
        assert head.source
        head.source.hand_to(second)
        may_go_on.set()
        await eventually(lambda: second.told)
    assert (first.bytes, first.told) == (b"abc", [])
    assert (second.bytes, second.told) == (b"def", [[(b"X-Sum", b"7")]])


# ---------------------------------------------------------------- a tee


@pytest.mark.gen_test
async def test_a_tee_keeps_a_copy_of_a_body_and_changes_nothing_else(upstream: Start) -> None:
    copies: list[tuple[bytes, list[Field]]] = []
    up = upstream(saying(HEAD, b"3\r\nabc\r\n", b"3\r\ndef\r\n" + END))
    recorder = Recorder()
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=TeedHead(recorder, lambda *whole: copies.append(whole)))
        await recorder.ended()
    assert (recorder.body, recorder.trailers) == (b"abcdef", [(b"X-Sum", b"7")])
    assert copies == [(b"abcdef", [(b"X-Sum", b"7")])]


@pytest.mark.gen_test
async def test_a_tee_keeps_nothing_of_a_body_that_broke(upstream: Start) -> None:
    copies: list[tuple[bytes, list[Field]]] = []
    up = upstream(saying(HEAD, b"3\r\nabc\r\n", then="reset"))
    recorder = Recorder()
    async with wire_client() as client:
        begin(client, origin_of(up), recorder=TeedHead(recorder, lambda *whole: copies.append(whole)))
        with pytest.raises(UpstreamReset):
            await recorder.ended()
    assert (recorder.body, copies) == (b"abc", [])


@pytest.mark.gen_test
async def test_a_tee_leaves_the_flow_control_to_the_receiver_behind_it(upstream: Start) -> None:
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"3\r\nabc\r\n")
        await may_go_on.wait()
        await peer.send(b"3\r\ndef\r\n" + END)
        await peer.ended()

    up = upstream(script)
    recorder = Recorder(hold=True)
    async with wire_client() as client:
        exchange, _ = begin(client, origin_of(up), recorder=TeedHead(recorder, lambda *_: None))
        await eventually(lambda: exchange.is_held)
        may_go_on.set()
        recorder.take()
        await recorder.ended()
    assert recorder.body == b"abcdef"
