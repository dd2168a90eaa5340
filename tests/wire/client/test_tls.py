"""TLS to upstreams: the transport's contract, and that a cut connection never completes a response."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from tests.conftest import Serve
from tests.support.exchanges import Recorder, begin, exchange, upload, wire_client
from tests.support.sockets import Client, Ended, Peer, Script, eventually, get, reply
from tests.support.tls import Records, ca_file, server_context
from tornado_gateway.errors import ConnectFailed, TLSFailed, UpstreamError, UpstreamReset
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.tls import connect_tls
from tornado_gateway.wire.tls import RECORD

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
both_versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)

# Of all bytes to cut a connection behind, every so many-th is tried; in the last record, four times as many.
# TLS_CUTS=1 tries all.
STEP = int(os.environ.get("TLS_CUTS", "12"))

CLOSE_DELIMITED = {
    "until close": (b"HTTP/1.1 200 OK\r\n\r\n", b"one", b"two"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", b"one", b"two"),
    "empty": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",),
    "event stream": (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"data: one\n\n", b"data: two\n\n"),
}
FRAMED = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"one", b"two"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"),
    "no content": (b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Sealed = Callable[[Records, Peer], Awaitable[None]]


def over_tls(context: ssl.SSLContext, script: Sealed) -> Script:
    """A script for an upstream whose connections begin with a handshake and a request's head."""

    async def run(peer: Peer) -> None:
        records = Records(peer, context)
        await records.shake_hands()
        await records.head()
        await script(records, peer)

    return run


def https(up: Any) -> Origin:
    return Origin("https", "localhost", up.port)


# ---------------------------------------------------------------- cuts


@dataclass(frozen=True)
class Cut:
    """Where a connection is cut, and how: `end` is "FIN" or "RST"."""

    at: int
    end: str


def cuts(length: int, last: int) -> list[Cut]:
    """Offsets at which to cut a response; denser near the end."""
    closely = range(length - last, length, max(1, STEP // 4))
    places = sorted({*range(0, length, STEP), length - last - 1, *closely, length - 1})
    return [Cut(at, ("FIN", "RST")[index % 2]) for index, at in enumerate(places)] + [
        Cut(length, "FIN"),
        Cut(length, "RST"),
    ]


class Cutter:
    """A script: say a response over TLS with its closure alert, but only up to a place.

    Attributes:
        length, proven, last: bytes of all records, of those that prove the response's end, and of the closure's.
    """

    def __init__(self, context: ssl.SSLContext, pieces: tuple[bytes, ...], *, by_close: bool) -> None:
        self._context, self._pieces, self._by_close = context, pieces, by_close
        self.cut = Cut(0, "FIN")
        self.length = self.proven = self.last = 0

    async def __call__(self, peer: Peer) -> None:
        records = Records(peer, self._context)
        await records.shake_hands()
        await records.head()
        sealed, closure = records.seal(*self._pieces), records.closure()
        self.length, self.last = len(sealed + closure), len(closure)
        self.proven = self.length if self._by_close else len(sealed)
        await peer.send((sealed + closure)[: self.cut.at])
        peer.reset() if self.cut.end == "RST" else peer.close()


@both_versions
@pytest.mark.parametrize("framing", [*CLOSE_DELIMITED, *FRAMED])
@pytest.mark.gen_test(timeout=60)
async def test_a_response_is_whole_only_if_its_end_was_proven(authority, upstream, framing, version):  # RFC 9112 §9.8
    pieces, by_close = CLOSE_DELIMITED.get(framing) or FRAMED[framing], framing in CLOSE_DELIMITED
    cutter = Cutter(server_context(authority, version), pieces, by_close=by_close)
    up = upstream(cutter)
    async with wire_client(tls_verify=False) as client:
        with pytest.raises(UpstreamReset):  # nothing at all; the lengths are known from then on
            await exchange(client, https(up), fresh=True)
        for cut in cuts(cutter.length, cutter.last):
            cutter.cut = cut
            recorder = await _outcome(begin(client, https(up), fresh=True)[1])
            assert (recorder.error is None) == (cut.at >= cutter.proven), (cut, cutter.proven, recorder.calls)
            if recorder.error:
                assert isinstance(recorder.error, UpstreamReset)
            else:
                assert recorder.body in (b"onetwo", b"data: one\n\ndata: two\n\n", b"")


async def _outcome(recorder: Recorder) -> Recorder:
    try:
        return await recorder.ended()
    except UpstreamError:
        return recorder


@pytest.mark.parametrize("framing", ["until close", "event stream", "chunks"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.gen_test(timeout=60)
async def test_no_client_takes_a_cut_response_for_a_whole_one(
    authority, tmp_path, serve: Serve, upstream, framing, version
):
    pieces, by_close = CLOSE_DELIMITED.get(framing) or FRAMED[framing], framing in CLOSE_DELIMITED
    cutter = Cutter(server_context(authority), pieces, by_close=by_close)
    url = f"https://localhost:{upstream(cutter).port}"
    variables = {"UPSTREAM_TLS_CA_FILE": ca_file(authority, tmp_path), "BREAKER_FAILURES": "0", "RETRY_ON": "off"}
    running = await serve({"svc": [url]}, **variables)
    request = get(b"/api/svc/x", b"Connection: close").replace(b"HTTP/1.1", b"HTTP/" + version)
    assert await _answered(await running.client(), request) is None
    for cut in cuts(cutter.length, cutter.last)[:: 1 if STEP == 1 else 4]:
        cutter.cut = cut
        body = await _answered(await running.client(), request)
        assert (body is not None) == (cut.at >= cutter.proven), (cut, cutter.proven, body)


async def _answered(client: Client, request: bytes) -> bytes | None:
    """The body of an answer of the service's that looks complete; else None."""
    try:
        answer = await client.ask(request)
    except Ended:
        return None
    return answer.body if answer.complete and answer.status == 200 else None


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.gen_test
async def test_a_missing_closure_alert_can_be_tolerated_by_configuration(authority, upstream, end):
    pieces = CLOSE_DELIMITED["until close"]
    cutter = Cutter(server_context(authority), pieces, by_close=True)
    up = upstream(cutter)
    async with wire_client(tls_verify=False, tls_closure=False) as client:
        with pytest.raises(UpstreamReset):
            await exchange(client, https(up), fresh=True)
        cutter.cut = Cut(cutter.length - cutter.last, end)
        recorder = await _outcome(begin(client, https(up), fresh=True)[1])
        assert (recorder.error is None, recorder.body) == (end == "FIN", b"onetwo")


@pytest.mark.gen_test
async def test_a_forged_record_ends_the_connection_behind_what_came_before(authority, upstream):
    async def forging(records: Records, peer: Peer) -> None:
        sealed = records.seal(b"HTTP/1.1 200 OK\r\n\r\n", b"good")
        forged = bytearray(records.seal(b"evil"))
        forged[-1] ^= 1
        await peer.send(sealed + bytes(forged) + records.closure())
        await peer.ended()

    up = upstream(over_tls(server_context(authority), forging))
    async with wire_client(tls_verify=False) as client:
        recorder = await _outcome(begin(client, https(up))[1])
        assert (recorder.body, type(recorder.error)) == (b"good", UpstreamReset)
        await eventually(lambda: up.open == 0)


@both_versions
@pytest.mark.gen_test
async def test_a_slow_reader_gets_what_came_before_the_end(authority, upstream, version):
    body = bytes(range(256)) * 400  # less than fills the buffers: the end has come long before it is read

    async def quick(records: Records, peer: Peer) -> None:
        pieces = [body[at : at + RECORD] for at in range(0, len(body), RECORD)]
        await peer.send(records.seal(b"HTTP/1.1 200 OK\r\n\r\n"))
        await eventually(lambda: recorder.held)
        await peer.send(records.seal(*pieces) + records.closure())

    up = upstream(over_tls(server_context(authority, version), quick))
    async with wire_client(tls_verify=False) as client:
        recorder = Recorder(hold=True)
        begin(client, https(up), recorder=recorder)
        await eventually(lambda: up.accepted and not up.open)
        await asyncio.sleep(0.02)  # for the end to arrive, where nobody reads
        recorder.take()
        assert (await recorder.ended()).body == body


# ---------------------------------------------------------------- early answers


@both_versions
@pytest.mark.parametrize("closure", [True, False])
@pytest.mark.gen_test(timeout=30)
async def test_an_early_answer_arrives_although_the_request_can_no_longer_be_written(  # RFC 9112 §9.6
    authority, upstream, version, closure
):
    async def refuses(records: Records, peer: Peer) -> None:
        answer = records.seal(reply(b"413 Content Too Large", body=b"too large"))
        await peer.send(answer + records.closure() if closure else answer)
        peer.close()  # on unread bytes: a reset follows

    up = upstream(over_tls(server_context(authority, version), refuses))
    async with wire_client(tls_verify=False) as client:
        for _ in range(20):
            head = upload(b"/", b"Content-Length: 1000000")
            sending, recorder = begin(client, https(up), head, body=True)
            await eventually(lambda sending=sending, recorder=recorder: sending.connection or recorder.head)
            for _ in range(20):
                sending.write(bytes(50_000))
                await asyncio.sleep(0)
            response = await recorder.ended()
            assert (response.head.status, response.body) == (413, b"too large")


# ---------------------------------------------------------------- handshakes


@pytest.mark.parametrize("at", [0, 1, 40, 400])
@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.gen_test
async def test_a_handshake_that_is_cut_is_no_connection(authority, upstream, at, end):
    async def cut(peer: Peer) -> None:
        hello = Records(peer, server_context(authority))
        peer.send, send = hold, peer.send
        with pytest.raises(Held) as held:
            await hello.shake_hands()
        await send(held.value.data[:at])
        peer.reset() if end == "RST" else peer.close()

    up = upstream(cut)
    async with wire_client(tls_verify=False) as client:
        with pytest.raises(ConnectFailed) as raised:
            await exchange(client, https(up))
        assert not isinstance(raised.value, TLSFailed)


class Held(Exception):
    """What was to be sent."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


async def hold(data: bytes) -> None:
    if data:
        raise Held(data)


@pytest.mark.gen_test
async def test_a_server_that_refuses_in_the_handshake_is_told_why(authority, upstream):
    heard = []

    async def strange(peer: Peer) -> None:
        records = Records(peer, server_context(authority, ssl.TLSVersion.TLSv1_3, "other.test"))
        with pytest.raises(ssl.SSLError, match="alert"):
            await records.shake_hands()
            await records.head()
        heard.append(True)

    up = upstream(strange)
    async with wire_client() as client:
        with pytest.raises(TLSFailed):
            await exchange(client, https(up))
        await eventually(lambda: heard)


# ---------------------------------------------------------------- the transport


class Collector(asyncio.Protocol):
    """A protocol above a TLSTransport.

    Attributes:
        calls: what was called, with connection_lost()'s argument.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.heard = b""
        self.calls: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def eof_received(self) -> bool:
        self.calls.append("end")
        return False

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append(error)


async def connected(authority: trustme.CA, up: Any) -> Collector:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    sock = socket.create_connection(("127.0.0.1", up.port))
    sock.setblocking(False)
    return await connect_tls(sock, Collector, context, "localhost")


@both_versions
@pytest.mark.gen_test
async def test_closing_says_so_behind_all_that_was_written(authority, upstream, version):
    async def listening(peer: Peer) -> None:
        records = Records(peer, server_context(authority, version))
        await records.shake_hands()
        heard = b""
        while data := await records.read():
            heard += data
        said.append(heard)

    said: list[bytes] = []
    mine = await connected(authority, upstream(listening))
    transport = mine.transport
    assert (transport.can_write_eof(), transport.get_protocol(), transport.is_closing()) == (False, mine, False)
    big = bytes(range(256)) * 200
    transport.writelines([b"one", bytearray(b"two"), memoryview(big)])
    transport.write(b"")
    transport.close()
    transport.close()
    transport.write(b"too late")
    await eventually(lambda: said)
    assert said == [b"onetwo" + big]
    await eventually(lambda: mine.calls == [None])


@pytest.mark.gen_test
async def test_a_writer_is_told_when_to_wait(authority, upstream):
    async def slow(peer: Peer) -> None:
        records = Records(peer, server_context(authority))
        await records.shake_hands()
        await may_read.wait()
        heard = 0
        while heard < len(big):
            heard += len(await records.read())
        await peer.send(records.seal(b"ok") + records.closure())

    may_read, big = asyncio.Event(), bytes(8_000_000)
    mine = await connected(authority, upstream(slow))
    mine.transport.set_write_buffer_limits(high=10_000)
    mine.transport.write(big)
    assert (mine.calls, mine.transport.get_write_buffer_size() > 10_000) == (["pause"], True)
    may_read.set()
    await eventually(lambda: mine.calls == ["pause", "resume", "end", None])
    assert mine.heard == b"ok"


@pytest.mark.gen_test
async def test_a_protocol_can_be_replaced(authority, upstream):
    async def greets(peer: Peer) -> None:
        records = Records(peer, server_context(authority))
        await records.shake_hands()
        await records.read()
        await peer.send(records.seal(b"hello"))
        await peer.ended()

    first, second = await connected(authority, upstream(greets)), Collector()
    first.transport.set_protocol(second)
    first.transport.write(b"x")
    await eventually(lambda: second.heard)
    first.transport.abort()
    await eventually(lambda: second.calls)
    assert (first.heard, first.calls, second.heard, second.calls) == (b"", [], b"hello", [None])


class Renegotiating:
    """An SSLObject in a renegotiation begun by the server (TLS 1.2), which cannot write before the end."""

    def __init__(self, inner: ssl.SSLObject) -> None:
        self._inner, self.is_over = inner, False

    def write(self, data: bytes) -> int:
        if not self.is_over:
            raise ssl.SSLWantReadError
        return self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.gen_test
async def test_bytes_written_during_a_renegotiation_wait_for_its_end(authority, upstream):
    async def talks(peer: Peer) -> None:
        records = Records(peer, server_context(authority, ssl.TLSVersion.TLSv1_2))
        await records.shake_hands()
        await may_talk.wait()
        await peer.send(records.seal(b"hello"))
        heard.append(await records.read())
        await peer.ended()

    may_talk, heard = asyncio.Event(), []
    mine = await connected(authority, upstream(talks))
    renegotiating = mine.transport._ssl = Renegotiating(mine.transport._ssl)
    mine.transport.write(b"one")
    mine.transport.write(b"two")
    assert mine.transport.get_write_buffer_size() == 6
    renegotiating.is_over = True
    may_talk.set()
    await eventually(lambda: heard)
    assert (heard, mine.transport.get_write_buffer_size()) == ([b"onetwo"], 0)
    mine.transport.abort()
    await eventually(lambda: mine.calls)


@pytest.mark.gen_test
async def test_a_cancelled_handshake_leaves_no_connection(authority, upstream):
    mute = upstream(lambda peer: peer.ended())
    connecting = asyncio.ensure_future(connected(authority, mute))
    await eventually(lambda: mute.open)
    connecting.cancel()
    await eventually(lambda: not mute.open)
    assert connecting.cancelled()
