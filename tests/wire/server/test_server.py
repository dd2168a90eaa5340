"""The server as a whole, on real sockets: limits, drain, and that any Tornado Application runs on it."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import ClassVar

import pytest
import trustme
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from tests.support.serving import MEGABYTE, Delegate, Listen, Request, is_open, nothing, watch
from tests.support.sockets import Client, Ended, eventually, get
from tests.support.tls import certificates, server_context, talk
from tornado_gateway.policy.draining import IdleEnds
from tornado_gateway.wire.server.lingering import LINGER, QUIET
from tornado_gateway.wire.server.server import ACCEPTS, HANDLES, Listener

PIECE = bytes(64 * 1024)
GRACE = IdleEnds().grace


# ---------------------------------------------------------------- room


@pytest.mark.gen_test
async def test_too_many_connections_are_refused_until_there_is_room(listen: Listen) -> None:
    serving = await listen(Delegate(), max_connections=2)
    first, second = await serving.client(), await serving.client()
    for client in (first, second):
        assert (await client.ask(get(b"/"))).status == 200
    for _ in range(5):
        refused = await serving.client()
        response = await refused.ask(get(b"/"))
        assert (response.status, response.get(b"retry-after"), response.get(b"connection")) == (503, b"1", b"close")
    assert (await second.ask(get(b"/"))).status == 200
    first.close()
    await eventually(lambda: len(serving.server.connections) - serving.server.refused == 1)
    # Those that were refused are still there, reading their answer; they must not take the room.
    assert serving.server.refused == 5
    third = await serving.client()
    assert (await third.ask(get(b"/"))).status == 200


EXHAUSTED = """
import asyncio, os, resource, sys, time
sys.path.insert(0, os.getcwd())
from tests.support.serving import Delegate, Serving
from tornado_gateway.__main__ import loop_factory

held = []

def answer(request):
    if request.target == "/exhaust":
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
    elif request.target == "/release":
        while held:
            os.close(held.pop())
    request.answer(str(time.process_time()).encode())

async def main():
    serving = await Serving.start(Delegate(answer))
    print(serving.port, flush=True)
    await serving.server.context.loop.create_future()

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
    runner.run(main())
"""


@pytest.mark.gen_test
async def test_without_descriptors_the_server_rests_and_accepts_again_after(io_loop: IOLoop) -> None:
    loop_name = type(io_loop.asyncio_loop).__module__.partition(".")[0]
    command = [sys.executable, "-c", EXHAUSTED, loop_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        clients = []
        try:
            port = int(await asyncio.to_thread(process.stdout.readline))
            control = await Client.connect(port)
            before = float((await control.ask(get(b"/exhaust"))).body)
            clients = [await Client.connect(port) for _ in range(10)]
            await asyncio.sleep(1.5)  # what is measured is what happens while nothing does
            spent = float((await control.ask(get(b"/"))).body) - before
            assert (await control.ask(get(b"/release"))).status == 200
            for _ in range(50):
                late = await Client.connect(port)
                clients.append(late)
                with suppress(Ended):
                    assert (await late.ask(get(b"/"))).status == 200
                    break
            else:
                pytest.fail("it never accepted again")
        finally:
            process.send_signal(signal.SIGKILL)
            for client in [*clients, control]:
                client.close()
        complaints = process.stderr.read().count(b"Too many open files")
    assert spent < 0.5
    assert complaints < 100


# ---------------------------------------------------------------- accepting


@pytest.mark.gen_test
async def test_a_turn_of_the_loop_accepts_many_connections(listen: Listen) -> None:
    """uvloop's own server accepts one. While the turns are long, further connections would wait for seconds."""
    serving, count = await listen(Delegate()), 64
    at_once = HANDLES if "uvloop" in type(serving.server.context.loop).__module__ else ACCEPTS
    with ExitStack() as stack:
        for _ in range(count):  # without a turn of the loop
            stack.enter_context(socket.create_connection(("127.0.0.1", serving.port)))
        turns = 0
        while len(serving.server.connections) < count:
            turns += 1
            await asyncio.sleep(0)
    assert turns <= count // at_once + 8  # the loops take a few turns from accept() to connection_made()
    await eventually(lambda: not serving.server.connections)


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.gen_test
async def test_a_pause_and_a_drain_leave_no_descriptor_behind(listen: Listen) -> None:
    await (await listen(Delegate())).close()  # uvloop opens a descriptor in reserve with the first server of a loop
    before = descriptors()
    serving = await listen(Delegate())
    for _ in range(3):
        await serving.server.pause()
        await serving.server.resume()
    await serving.server.pause()
    serving.server.drain()
    await eventually(lambda: descriptors() == before)


# ---------------------------------------------------------------- sweeping


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("how", "half_close_aborts", "leaves"),
    [("reset", False, True), ("close", True, True), ("half_close", True, True), ("half_close", False, False)],
)
async def test_a_client_that_leaves_while_it_is_not_read_is_found_by_a_sweep(
    listen: Listen, how: str, half_close_aborts: bool, leaves: bool
) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delegate = Delegate(on_chunk=lambda _: gate)
    serving = await listen(delegate, half_close_aborts=half_close_aborts)
    client = await serving.client()
    await client.send(get(b"/", method=b"POST", body=b"abc"))
    await eventually(lambda: delegate.requests and serving.connection.is_paused)
    getattr(client, how)()
    if leaves:
        await eventually(lambda: serving.sweep_after(0) or not serving.server.connections)
    else:
        for _ in range(20):
            await asyncio.sleep(0.001)
            serving.sweep_after(0)
        gate.set_result(None)
        assert (await client.response()).status == 200


# ---------------------------------------------------------------- stopping


@pytest.mark.gen_test
async def test_draining_ends_idle_connections_after_a_grace_and_others_after_their_response(listen: Listen) -> None:
    delegate = Delegate(lambda request: None if request.target == "/slow" else request.answer())
    serving = await listen(delegate)
    idle, busy, fresh = await serving.client(), await serving.client(), await serving.client()
    await idle.ask(get(b"/"))
    await busy.send(get(b"/slow"))
    await eventually(lambda: len(delegate.requests) == 2 and len(serving.server.connections) == 3)
    serving.server.drain()
    closed = asyncio.ensure_future(serving.server.closed())
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(serving.port)
    serving.sweep_after(GRACE - 0.1)
    assert await is_open(idle)
    response = await fresh.ask(get(b"/"))  # it was accepted before: what it has sent on the way is answered
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await fresh.ended()
    fresh.close()
    assert not closed.done()
    serving.sweep_after(GRACE + 0.1)
    assert await idle.ended()
    idle.close()
    assert serving.server.busy == 1
    delegate.requests[1].answer()
    assert (await busy.response()).get(b"connection") == b"close"
    assert await busy.ended()
    busy.close()
    await closed
    assert serving.server.busy == 0


@pytest.mark.parametrize("drains", [True, False])
@pytest.mark.gen_test
async def test_a_request_on_its_way_to_an_idle_connection_is_answered_and_told_to_be_the_last(  # RFC 9112 §9.6
    listen: Listen, drains: bool
) -> None:
    serving = await listen(Delegate())
    clients = [await serving.client() for _ in range(3)]
    for client in clients:
        assert (await client.ask(get(b"/"))).get(b"connection") is None
    serving.server.drain() if drains else serving.server.announce_close()
    for client, version in zip(clients, (b"1.1", b"1.1", b"1.0"), strict=True):
        request = get(b"/", b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/" + version)
        response = await client.ask(request)
        assert (response.status, response.get(b"connection")) == (200, b"close")
        assert await client.ended()
    assert serving.server.context.draining is drains


@pytest.mark.gen_test
async def test_a_request_that_the_kernel_holds_is_in_time(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/1"))
    serving.server.drain()
    client.sock.send(get(b"/2"))
    serving.sweep_after(GRACE + 0.1)  # within the same turn of the loop: nothing of it was read
    assert (await client.response()).get(b"connection") == b"close"
    assert await client.ended()


@pytest.mark.gen_test
async def test_an_idle_connection_is_ended_by_a_fin_and_read_on(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/1"))
    serving.server.drain()
    serving.sweep_after(GRACE + 0.1)
    with pytest.raises(Ended) as end:
        await client.more()
    assert end.value.clean
    await client.send(get(b"/2"))  # too late: but it must not meet a reset, which may take an earlier response with it
    with pytest.raises(Ended) as end:
        await client.more()
    assert (end.value.clean, len(serving.server.connections)) == (True, 1)
    serving.sweep_after(LINGER + 0.1)
    await eventually(lambda: not serving.server.connections)


@pytest.mark.gen_test
async def test_draining_ends_idle_connections_one_by_one_the_longest_idle_first(listen: Listen) -> None:
    serving = await listen(Delegate())
    first, second = await serving.client(), await serving.client()
    await first.ask(get(b"/"))
    await asyncio.sleep(0.01)  # uvloop's clock counts whole milliseconds
    await second.ask(get(b"/"))
    serving.server.drain(IdleEnds(grace=10.0, spread=20.0))
    serving.sweep_after(10.1)
    assert await first.ended()
    assert await is_open(second)
    serving.sweep_after(20.1)
    assert await second.ended()


@pytest.mark.gen_test
async def test_connections_wait_while_a_server_pauses(listen: Listen) -> None:
    serving = await listen(Delegate())
    await serving.server.pause()
    waiting = await serving.client()
    await waiting.send(get(b"/"))
    assert await is_open(waiting)
    assert not serving.server.connections
    await serving.server.resume()
    assert (await waiting.response()).status == 200


@pytest.mark.gen_test
async def test_draining_gives_a_connection_without_a_request_a_moment(listen: Listen) -> None:
    serving = await listen(Delegate())
    fresh = await serving.client()
    await eventually(lambda: serving.server.connections)
    serving.server.drain()
    serving.sweep_after(GRACE - 0.1)
    assert await is_open(fresh)
    serving.sweep_after(GRACE + 0.1)
    assert await fresh.ended()


@pytest.mark.gen_test
async def test_draining_finishes_a_response_that_was_begun_to_stay(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(2), request.exchange.write(b"")))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/1") + get(b"/2"))
    assert (await client.head()).get(b"connection") is None
    serving.server.drain()
    delegate.requests[0].exchange.write(b"ok")
    delegate.on_request = Request.answer
    delegate.requests[0].exchange.finish()
    assert await client.exactly(2) == b"ok"
    assert (await client.response()).get(b"connection") == b"close"  # the client could not know when it sent this one
    assert await client.ended()


@pytest.mark.gen_test
async def test_draining_lets_a_half_read_head_come_whole(listen: Listen) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.ask(get(b"/1"))
    await client.send(get(b"/2")[:10])
    await eventually(lambda: serving.connection._buffer)
    serving.server.drain()
    response = await client.ask(get(b"/2")[10:])
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await client.ended()


@pytest.mark.gen_test
async def test_a_connection_that_comes_about_while_the_server_stops_accepting_has_its_request_answered(
    listen: Listen,
) -> None:
    serving = await listen(Delegate())
    client = await serving.client()
    await client.send(get(b"/"))
    serving.server.drain()  # within the same turn of the loop: the server has not heard of the connection
    await eventually(lambda: serving.server.connections)
    response = await client.response()
    assert (response.status, response.get(b"connection")) == (200, b"close")
    assert await client.ended()


@pytest.mark.gen_test
async def test_all_is_answered_when_each_client_has_its_last_answer_though_it_stays(listen: Listen) -> None:
    """RFC 9112 §9.6: the client's acknowledgement of the last answer is enough."""
    delegate = Delegate(nothing)
    serving = await listen(delegate)
    first, second = await serving.client(), await serving.client()
    await first.send(get(b"/"))
    await second.send(get(b"/"))
    await eventually(lambda: len(delegate.requests) == 2)
    serving.server.drain()
    answered = asyncio.ensure_future(serving.server.answered())
    await asyncio.sleep(0)
    delegate.requests[0].answer()
    assert (await first.response()).body == b"ok"
    assert await first.ended()
    serving.sweep_after(0)
    assert not answered.done()  # the second one is not
    delegate.requests[1].answer()
    assert (await second.response()).body == b"ok"
    assert await second.ended()
    await eventually(lambda: (serving.sweep_after(QUIET + 0.1), answered.done())[1])
    assert len(serving.server.connections) == 2
    serving.server.abort()
    await serving.server.closed()
    for client in (first, second):  # ended by the FIN that it has had, and by no reset
        assert client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.gen_test
async def test_a_client_that_has_not_taken_its_last_answer_is_waited_for(listen: Listen) -> None:
    body = bytes(16 * MEGABYTE)
    delegate = Delegate(lambda request: request.answer(body))
    serving = await listen(delegate)
    client = await serving.client()
    await client.send(get(b"/", b"Connection: close"))
    await eventually(lambda: delegate.requests)
    answered = asyncio.ensure_future(serving.server.answered())
    await asyncio.sleep(0)
    serving.sweep_after(0)
    await asyncio.sleep(0)
    assert not answered.done()
    assert (await client.response()).body == body
    await eventually(lambda: (serving.sweep_after(QUIET + 0.1), answered.done())[1])


@pytest.mark.gen_test
async def test_a_client_that_still_sends_behind_its_last_answer_is_waited_for(listen: Listen) -> None:
    serving = await listen(Delegate(on_head=lambda request: request.answer(b"early")))
    client = await serving.client()
    await client.send(get(b"/", b"Content-Length: 999", method=b"PUT"))
    assert (await client.response()).body == b"early"
    answered = asyncio.ensure_future(serving.server.answered())
    connection = serving.connection
    await eventually(lambda: connection.is_answered)
    lingering = connection._lingering
    ended_at = lingering._dropped_at = lingering._dropped_at - 1.0  # as if a second had passed since
    await client.send(b"more")
    await eventually(lambda: lingering._dropped)
    serving.server.sweep(ended_at + QUIET + 0.1)
    await asyncio.sleep(0)
    assert not answered.done()
    serving.server.sweep(lingering._dropped_at + QUIET + 0.1)
    await answered
    assert await client.ended()


@pytest.mark.gen_test
async def test_all_is_answered_when_there_is_no_connection(listen: Listen) -> None:
    serving = await listen(Delegate())
    answered = asyncio.ensure_future(serving.server.answered())
    await asyncio.sleep(0)
    serving.sweep_after(0)
    await answered


@pytest.mark.gen_test
async def test_aborting_resets_every_connection(listen: Listen) -> None:
    delegate = Delegate(lambda request: (request.begin(), request.exchange.write(b"abc")))
    serving = await listen(delegate)
    client, idle = await serving.client(), await serving.client()
    await client.send(get(b"/"))
    await client.until(b"abc")
    await eventually(lambda: len(serving.server.connections) == 2)
    serving.server.abort()
    assert not await client.ended()
    assert not await idle.ended()
    await serving.server.closed()
    assert delegate.requests[0].is_left


@pytest.mark.gen_test
async def test_an_address_in_use_is_an_error(listen: Listen) -> None:
    serving = await listen(Delegate())
    with pytest.raises(OSError):
        await serving.server.listen(Listener(host="127.0.0.1", port=serving.port))


@pytest.mark.gen_test
async def test_servers_share_a_port_if_both_say_so(listen: Listen) -> None:
    first = await listen(Delegate(), Listener(host="127.0.0.1", port=0, reuse_port=True))
    second = await listen(Delegate(), Listener(host="127.0.0.1", port=first.port, reuse_port=True))
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await first.server.listen(Listener(host="127.0.0.1", port=first.port))
    for _ in range(64):  # the kernel chooses by a hash of both addresses
        client = await first.client()
        assert (await client.ask(get(b"/"))).status == 200
    assert first.server.connections
    assert second.server.connections


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def secure(authority: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Listener:
    return Listener(host="127.0.0.1", port=0, tls=certificates(server_context(authority, version)))


@VERSIONS
@pytest.mark.gen_test
async def test_requests_come_over_tls_and_the_last_response_ends_with_a_closure_alert(
    listen: Listen, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    delegate = Delegate()
    serving = await listen(delegate, secure(authority, version))
    requests = get(b"/1"), get(b"/2"), get(b"/3", b"Connection: close")
    answer = await asyncio.to_thread(talk, serving.port, authority, *requests)
    assert [request.target for request in delegate.requests] == ["/1", "/2", "/3"]
    assert {request.exchange.context.protocol for request in delegate.requests} == {"https"}
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.endswith(b"\r\n\r\nok")
    await eventually(lambda: not serving.server.connections)


@VERSIONS
@pytest.mark.gen_test
async def test_bodies_pass_over_tls_both_ways(listen: Listen, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    serving = await listen(Delegate(lambda request: request.answer(request.body)), secure(authority, version))
    body = bytes(range(256)) * (4 * MEGABYTE // 256)
    request = get(b"/", b"Connection: close", method=b"POST", body=body)
    answer = await asyncio.to_thread(talk, serving.port, authority, request)
    assert answer.partition(b"\r\n\r\n")[2] == body


@pytest.mark.gen_test
async def test_a_response_without_a_length_ends_by_the_closure_alert(listen: Listen, authority: trustme.CA) -> None:
    def answer(request: Request) -> None:
        request.begin()
        request.exchange.write(b"to the end")
        request.exchange.finish()

    serving = await listen(Delegate(answer), secure(authority))
    answered = await asyncio.to_thread(talk, serving.port, authority, b"GET / HTTP/1.0\r\n\r\n")
    assert answered.endswith(b"\r\n\r\nto the end")


@pytest.mark.gen_test
async def test_an_upload_over_tls_that_is_answered_early_is_read_on(listen: Listen, authority: trustme.CA) -> None:
    """A close in the middle of an upload would reset the connection, and destroy the answer."""
    serving = await listen(Delegate(on_head=lambda request: request.answer(b"early")), secure(authority))
    head = get(b"/", b"Content-Length: %d" % (8 * MEGABYTE), method=b"PUT")
    talks = asyncio.to_thread(talk, serving.port, authority, head, bytes(8 * MEGABYTE), last_behind=b"early")
    talking = asyncio.create_task(talks)
    await eventually(lambda: serving.server.connections and serving.connection._lingering)
    lingering = serving.connection._lingering
    await eventually(lambda: lingering._dropped > 8 * MEGABYTE)  # ciphertext
    serving.sweep_after(LINGER + 0.1)
    assert (await talking).endswith(b"\r\n\r\nearly")


@pytest.mark.gen_test
async def test_a_closure_alert_before_the_response_means_that_the_client_has_left(
    listen: Listen, authority: trustme.CA
) -> None:
    delegate = Delegate(nothing)
    serving = await listen(delegate, secure(authority))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    _, writer = await asyncio.open_connection("127.0.0.1", serving.port, ssl=context, server_hostname="localhost")
    writer.write(get(b"/"))
    await eventually(lambda: delegate.requests)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    await eventually(lambda: delegate.requests[0].is_left and not serving.server.connections)


# ---------------------------------------------------------------- Tornado's own Applications, unchanged


class Plain(RequestHandler):
    def get(self) -> None:
        self.set_cookie("seen", "yes")
        self.write(
            {
                "arguments": {name: self.get_arguments(name) for name in self.request.arguments},
                "cookie": self.get_cookie("a", ""),
                "host": self.request.host,
                "address": self.request.remote_ip,
                "protocol": self.request.protocol,
                "x": self.request.headers.get_list("x-many"),
            }
        )

    head = get

    def post(self) -> None:
        files = {name: [each.body.decode() for each in parts] for name, parts in self.request.files.items()}
        self.write(
            {"arguments": {name: self.get_body_arguments(name) for name in self.request.body_arguments}, **files}
        )

    def delete(self) -> None:
        self.set_status(204)


class Prepared(RequestHandler):
    async def prepare(self) -> None:
        await asyncio.sleep(0)
        if self.get_argument("token", "") != "1":
            raise HTTPError(401)

    def get(self) -> None:
        self.write("admitted")


class Pieces(RequestHandler):
    async def get(self) -> None:
        for piece in ("one", "two", "three"):
            self.write(piece)
            await self.flush()
            await asyncio.sleep(0)


class Endless(RequestHandler):
    ended: asyncio.Future[str]

    async def get(self) -> None:
        try:
            while True:
                self.write(PIECE)
                await self.flush()
        except StreamClosedError:
            self.ended.set_result("closed")
            raise


@stream_request_body
class Upload(RequestHandler):
    sizes: ClassVar[list[int]] = []
    gate: asyncio.Event

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.size = 0
        if self.get_argument("refuse", ""):
            raise HTTPError(403)

    async def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sizes.append(self.size)
        await self.gate.wait()
        if self.get_argument("fail", ""):
            raise ZeroDivisionError

    def put(self) -> None:
        self.write(str(self.size))


class Broken(RequestHandler):
    def get(self) -> None:
        raise ZeroDivisionError("a secret")


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


@pytest.fixture
def application(tmp_path: Path) -> Application:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * (16 * 1024))
    return Application(
        [
            ("/", Plain),
            ("/prepared", Prepared),
            ("/pieces", Pieces),
            ("/endless", Endless),
            ("/upload", Upload),
            ("/broken", Broken),
            ("/ws", Echo),
            ("/static/(.*)", StaticFileHandler, {"path": str(tmp_path)}),
        ],
        cross_origin_protection=False,
    )


@pytest.mark.gen_test
async def test_a_handler_reads_arguments_cookies_and_fields(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    request = get(b"/?a=1&a=%C3%A9&b=", b"Cookie: a=%22x; z=1", b"X-Many: 1", b"x-many: 2", host=b"h.example:81")
    response = await client.ask(request)
    assert json.loads(response.body) == {
        "arguments": {"a": ["1", "é"], "b": [""]},
        "cookie": "%22x",
        "host": "h.example:81",
        "address": "127.0.0.1",
        "protocol": "http",
        "x": ["1", "2"],
    }
    assert response.get(b"set-cookie") == b"seen=yes; Path=/"
    assert response.get(b"date")
    head = await client.ask(get(b"/", method=b"HEAD"), b"HEAD")
    assert int(head.get(b"content-length") or 0) > 0
    assert (await client.ask(get(b"/", method=b"DELETE"))).status == 204
    assert (await client.ask(get(b"/", method=b"PATCH"))).status == 405
    assert (await client.ask(get(b"/nowhere"))).status == 404


@pytest.mark.gen_test
async def test_a_handler_reads_forms_and_files(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    form = get(b"/", b"Content-Type: application/x-www-form-urlencoded", method=b"POST", body=b"a=1&a=2")
    assert json.loads((await client.ask(form)).body) == {"arguments": {"a": ["1", "2"]}}
    body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\ncontent\r\n--x--\r\n'
    files = get(b"/", b"Content-Type: multipart/form-data; boundary=x", method=b"POST", body=body)
    assert json.loads((await client.ask(files)).body) == {"arguments": {}, "f": ["content"]}


@pytest.mark.gen_test
async def test_a_handler_serves_old_clients(listen: Listen, application: Application) -> None:
    serving = await listen(application)
    response = await (await serving.client()).ask(b"GET / HTTP/1.0\r\n\r\n")
    assert (response.status, json.loads(response.body)["host"]) == (200, "127.0.0.1")
    response = await (await serving.client()).ask(b"GET /pieces HTTP/1.0\r\n\r\n")
    assert (response.body, response.complete) == (b"onetwothree", True)


@pytest.mark.gen_test
async def test_a_handler_may_prepare_slowly(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    assert (await client.ask(get(b"/prepared"))).status == 401
    assert (await client.ask(get(b"/prepared?token=1"))).body == b"admitted"


@pytest.mark.gen_test
async def test_a_handler_that_flushes_answers_in_chunks(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    await client.send(get(b"/pieces"))
    assert (await client.head()).get(b"transfer-encoding") == b"chunked"
    assert await client.until(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.gen_test
async def test_a_handler_that_never_ends_is_told_when_its_client_leaves(
    listen: Listen, application: Application
) -> None:
    Endless.ended = asyncio.get_running_loop().create_future()
    client = await (await listen(application)).client(receive_buffer=64 * 1024)
    await client.send(get(b"/endless"))
    await client.until(b"\r\n\r\n")
    client.reset()
    assert await Endless.ended == "closed"


@pytest.mark.gen_test
async def test_a_streaming_handler_is_given_no_more_than_it_takes(listen: Listen, application: Application) -> None:
    Upload.gate = asyncio.Event()
    Upload.sizes.clear()
    serving = await listen(application)
    client = await serving.client()
    sent = asyncio.ensure_future(client.send(get(b"/upload", method=b"PUT", body=bytes(32 * MEGABYTE))))
    await eventually(lambda: Upload.sizes)
    await asyncio.sleep(0.05)
    assert not serving.connection.transport.is_reading()
    assert len(Upload.sizes) == 1
    Upload.gate.set()
    assert (await client.response()).body == b"%d" % (32 * MEGABYTE)
    await sent


@pytest.mark.gen_test
async def test_a_streaming_handler_may_refuse_before_the_body_is_sent(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    request = get(b"/upload?refuse=1", b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT")
    response = await client.ask(request)
    assert (response.status, response.interim) == (403, [])


@pytest.mark.gen_test
async def test_a_streaming_handler_that_fails_resets_its_client_and_is_reported(
    io_loop: IOLoop, listen: Listen, application: Application
) -> None:
    seen = watch(io_loop)
    Upload.gate = asyncio.Event()
    Upload.gate.set()
    client = await (await listen(application)).client()
    await client.send(get(b"/upload?fail=1", method=b"PUT", body=b"abc"))
    assert not await client.ended()
    assert [type(each) for each in seen] == [ZeroDivisionError]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"X: y", 200, b"0123456789"),
        (b"Range: bytes=2-4", 206, b"234"),
        (b"Range: bytes=-2", 206, b"89"),
        (b"Range: bytes=20-", 416, b""),
    ],
)
async def test_static_files_are_served_whole_and_in_ranges(
    listen: Listen, application: Application, line: bytes, status: int, body: bytes
) -> None:
    client = await (await listen(application)).client()
    for _ in range(2):
        response = await client.ask(get(b"/static/a.txt", line))
        assert (response.status, response.body, response.complete) == (status, body, True)
    head = await client.ask(get(b"/static/a.txt", method=b"HEAD"), b"HEAD")
    assert head.get(b"content-length") == b"10"


@pytest.mark.gen_test
async def test_a_large_static_file_arrives_whole(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    assert (await client.ask(get(b"/static/large.bin"))).body == bytes(range(256)) * (16 * 1024)


@pytest.mark.gen_test
async def test_a_static_file_that_is_known_is_not_sent_again(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    etag = (await client.ask(get(b"/static/a.txt"))).get(b"etag") or b""
    for _ in range(2):
        response = await client.ask(get(b"/static/a.txt", b"If-None-Match: " + etag))
        assert (response.status, response.all(b"content-length")) == (304, [])
    assert client.buffer == b""


@pytest.mark.gen_test
async def test_a_handler_that_fails_is_a_500_that_tells_nothing(listen: Listen, application: Application) -> None:
    client = await (await listen(application)).client()
    for _ in range(2):
        response = await client.ask(get(b"/broken"))
        assert (response.status, response.complete, response.get(b"connection")) == (500, True, None)
        assert b"secret" not in response.body


@pytest.mark.gen_test
@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_more_arguments_than_tornado_reads_are_a_400(
    listen: Listen, application: Application, method: bytes
) -> None:
    serving = await listen(application)
    query = b"&".join(b"a%d=" % number for number in range(1001))
    client = await serving.client()
    response = await client.ask(get(b"/?" + query, method=method, body=b"abc" if method == b"POST" else b""))
    assert (response.status, response.get(b"connection")) == (400, b"close")
    assert await client.ended()
    assert (await (await serving.client()).ask(get(b"/"))).status == 200


@pytest.mark.gen_test
async def test_a_stock_websockethandler_cannot_take_the_connection_and_says_why(
    listen: Listen, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    """WebSocketHandler needs an IOStream, but a transport keeps its socket; see wire/server/server.py."""
    serving = await listen(application)
    client = await serving.client()
    request = get(
        b"/ws",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    await client.send(request)
    with pytest.raises(Ended):
        await client.until(b"\r\n\r\n")
    assert client.buffer == b""  # above all no 101, whose frames would then be read as requests
    assert "cannot be detached" in caplog.text
    assert (await (await serving.client()).ask(get(b"/"))).status == 200
