"""Names, addresses, TLS and unix sockets: failures, and what is cached. Scripted servers resolve the names."""

import asyncio
import socket
import ssl
import time
import zlib
from typing import Any

import pytest
import trustme

from tests.support.exchanges import begin, exchange, origin_of, wire_client
from tests.support.name_servers import NXDOMAIN, SERVFAIL, NameServer, resolver_config
from tests.support.sockets import Peer, eventually, get, reply
from tests.support.tls import ca_file, tls_upstream
from tornado_gateway.errors import (
    ConnectFailed,
    ConnectTimeout,
    NameNotResolved,
    NameTimeout,
    TLSFailed,
    UpstreamError,
    UpstreamReset,
)
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.policy.upstream.connection_config import UpstreamTLSConfig
from tornado_gateway.wire.client.connect import ConnectConfig, Connector
from tornado_gateway.wire.client.resolver import ResolverConfig

MEGABYTE = bytes(range(256)) * 4096


def named(upstream, host: str = "service.test") -> Origin:
    return Origin("http", host, upstream.port)


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# ---- TCP


@pytest.mark.gen_test
async def test_a_refused_connection_fails_at_once():
    async with wire_client() as client:
        with pytest.raises(ConnectFailed) as raised:
            await exchange(client, Origin("http", "127.0.0.1", unused_port()))
    assert type(raised.value) is ConnectFailed


@pytest.fixture
def full_backlog():
    """A port that completes no more handshakes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in waiting:
            sock.close()


@pytest.mark.gen_test
async def test_row_23_connecting_has_its_own_timeout(full_backlog):
    async with wire_client(timeout=30, connect_timeout=0.1) as client:
        with pytest.raises(ConnectTimeout):
            await exchange(client, Origin("http", "127.0.0.1", full_backlog))


@pytest.mark.gen_test
async def test_an_exchange_may_have_its_own_connect_timeout(full_backlog):
    async with wire_client() as client:
        with pytest.raises(ConnectTimeout):
            await exchange(client, Origin("http", "127.0.0.1", full_backlog), connect_timeout=0.1)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.gen_test
async def test_a_pause_of_the_event_loop_is_no_timeout_of_a_connection_that_was_made_meanwhile(upstream, turns):
    up = upstream()
    async with wire_client(connect_timeout=0.05) as client:
        asked = asyncio.create_task(exchange(client, origin_of(up)))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.2)
        assert (await asked).body == b"ok"


@pytest.mark.gen_test
async def test_slow_turns_of_the_event_loop_are_no_timeout_of_a_connection_that_is_made_at_once(upstream):
    up, loop = upstream(), asyncio.get_running_loop()

    def keep_busy() -> None:
        nonlocal next_turn
        time.sleep(0.03)
        next_turn = loop.call_soon(keep_busy)

    async with wire_client(connect_timeout=0.05) as client:
        next_turn = loop.call_soon(keep_busy)
        assert (await exchange(client, origin_of(up))).body == b"ok"
        next_turn.cancel()


@pytest.mark.gen_test
async def test_row_3_abort_of_a_connection_that_does_not_come_about(full_backlog):
    async with wire_client() as client:
        leaving, recorder = begin(client, Origin("http", "127.0.0.1", full_backlog), body=True)
        waiting = leaving.write(b"x")
        await asyncio.sleep(0.01)
        leaving.abort()
        await asyncio.wait_for(waiting, 5)
    assert recorder.calls == []


@pytest.mark.gen_test
async def test_row_27_unix_sockets(tmp_path):
    served = []

    async def serve(reader, writer):
        try:
            while True:
                served.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(reply())
        except asyncio.IncompleteReadError:
            writer.close()

    path = str(tmp_path / "app.sock")
    server = await asyncio.start_unix_server(serve, path)
    async with wire_client() as client:
        origin = Origin("http", "localhost", 0, path)
        for _ in range(2):
            assert (await exchange(client, origin)).body == b"ok"
        assert client.pool(origin).open == 1
    server.close()
    assert len(served) == 2


@pytest.mark.parametrize("path", ["missing.sock", "x" * 200], ids=["missing", "too long"])
@pytest.mark.gen_test
async def test_row_27_a_unix_socket_that_is_not_there(tmp_path, path):
    async with wire_client() as client:
        with pytest.raises(ConnectFailed):
            await exchange(client, Origin("http", "localhost", 0, str(tmp_path / path)))


# ---- names

QUICK = "search .\noptions timeout:1 attempts:1\n"


@pytest.fixture
def names(name_server, tmp_path):
    """A name server, and how a client asks it: `server, config = await names("127.0.0.1", ttl=0)`."""

    async def start(*addresses: str, **config: Any) -> tuple[NameServer, ResolverConfig]:
        server = await name_server({"service.test": list(addresses)})
        return server, resolver_config(tmp_path, server, **{"conf": QUICK, **config})

    return start


@pytest.mark.parametrize("host", ["localhost", "localhost.", "app.localhost"])
@pytest.mark.gen_test
async def test_names_of_this_host(upstream, host):
    up = upstream()
    async with wire_client() as client:
        assert (await exchange(client, named(up, host))).body == b"ok"


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("no-such-host.test", id="unknown"),
        pytest.param("two..dots.test", id="an empty label"),
        pytest.param("x" * 64 + ".test", id="a label of 64 bytes"),
    ],
)
@pytest.mark.gen_test
async def test_a_name_without_an_address(names, host):
    _, config = await names("127.0.0.1")
    async with wire_client(names=config) as client:
        with pytest.raises(NameNotResolved):
            await exchange(client, Origin("http", host, 80))


@pytest.mark.gen_test
async def test_addresses_are_not_looked_up(upstream, names):
    up = upstream()
    server, config = await names()
    async with wire_client(names=config) as client:
        assert (await exchange(client, origin_of(up))).body == b"ok"
    assert server.asked == []


@pytest.mark.parametrize(("ttl", "asked"), [(30.0, 1), (0.0, 3)])
@pytest.mark.gen_test
async def test_row_26_a_names_addresses_are_kept_for_a_while(upstream, names, ttl, asked):
    up = upstream()
    server, config = await names("127.0.0.1", ttl=ttl)
    async with wire_client(names=config) as client:
        for _ in range(3):
            await exchange(client, named(up), fresh=True)
    assert len(server.names()) == asked


@pytest.mark.gen_test
async def test_row_26_addresses_are_asked_for_again_after_their_time(upstream, names):
    up = upstream()
    server, config = await names("127.0.0.1", ttl=0.05)
    async with wire_client(names=config) as client:
        await exchange(client, named(up))
        await asyncio.sleep(0.06)
        await exchange(client, named(up), fresh=True)
        assert len(server.names()) == 2


@pytest.mark.parametrize("failure", [NXDOMAIN, SERVFAIL, (), None], ids=["NXDOMAIN", "SERVFAIL", "empty", "silent"])
@pytest.mark.gen_test
async def test_row_26_old_addresses_serve_while_the_name_server_fails(upstream, names, failure):
    up = upstream()
    server, config = await names("127.0.0.1", ttl=0)
    async with wire_client(names=config) as client:
        await exchange(client, named(up))
        server.zone["service.test"] = failure
        assert (await exchange(client, named(up), fresh=True, connect_timeout=3.0)).body == b"ok"
    assert len(server.names()) == 2


@pytest.mark.gen_test
async def test_row_26_a_failed_connection_asks_again_and_does_not_lose_the_old_addresses(upstream, names):
    up = upstream()
    server, config = await names("127.0.0.2")  # nobody listens there
    async with wire_client(names=config) as client:
        with pytest.raises(ConnectFailed):
            await exchange(client, named(up))
        server.zone["service.test"] = ("127.0.0.1",)
        await exchange(client, named(up))
        server.zone["service.test"] = NXDOMAIN
        await exchange(client, named(up), fresh=True)
        assert len(server.names()) == 2
        client.connector.resolver.forget("service.test")
        await exchange(client, named(up), fresh=True)
        assert len(server.names()) == 3


@pytest.mark.gen_test
async def test_an_upstream_that_accepts_only_to_close_fails_at_once():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with wire_client() as client:
        origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
        for _ in range(20):  # whether the end is seen before the request goes out is a matter of luck
            with pytest.raises((ConnectFailed, UpstreamReset)):
                await exchange(client, origin)
    server.close()


@pytest.mark.gen_test
async def test_row_26_concurrent_connections_share_a_look_up(upstream, names):
    up = upstream()
    server, config = await names("127.0.0.1")
    server.gate.clear()
    async with wire_client(names=config) as client:
        leaving, left = begin(client, named(up))
        recorders = [begin(client, named(up))[1] for _ in range(10)]
        await eventually(lambda: server.asked)
        leaving.abort()
        server.gate.set()
        for recorder in recorders:
            await recorder.ended()
    assert left.calls == []
    assert (len(server.names()), up.accepted) == (1, 10)


@pytest.mark.gen_test
async def test_row_26_a_look_up_that_fails_when_all_have_left_is_nobodys_error(names):
    server, config = await names()
    server.gate.clear()
    async with wire_client(names=config) as client:
        leaving, recorder = begin(client, Origin("http", "service.test", 80))
        await eventually(lambda: server.asked)
        leaving.abort()
        await asyncio.sleep(0)
        server.gate.set()
        await eventually(lambda: not client.connector.resolver._under_way)
    assert recorder.calls == []  # and io_loop checks that no exception was left unseen


@pytest.mark.gen_test
async def test_a_look_up_that_takes_too_long_is_no_timeout_of_the_service(names, full_backlog):
    server, config = await names()
    server.zone["service.test"] = None
    async with wire_client(names=config) as client:
        with pytest.raises(NameTimeout):
            await exchange(client, Origin("http", "service.test", 80), connect_timeout=0.05)
        with pytest.raises(ConnectTimeout) as raised:
            await exchange(client, Origin("http", "127.0.0.1", full_backlog), connect_timeout=0.05)
    assert type(raised.value) is ConnectTimeout


@pytest.mark.gen_test
async def test_a_hundred_names_that_hang_hold_up_neither_addresses_nor_other_names(upstream, names):
    up = upstream()
    server, config = await names("127.0.0.1", conf="search .\n")
    server.zone["*"] = None
    async with wire_client(names=config, connect_timeout=15.0) as client:
        hanging = [begin(client, Origin("http", f"name{number}.test", 80)) for number in range(100)]
        await eventually(lambda: len(server.names()) == 100)
        for host in ("127.0.0.1", "localhost", "service.test"):
            assert (await exchange(client, named(up, host))).body == b"ok"
        assert not any(recorder.calls for _, recorder in hanging)
        for leaving, _ in hanging:
            leaving.abort()


@pytest.mark.parametrize("addresses", [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1")])
@pytest.mark.gen_test
async def test_happy_eyeballs_a_dead_address_does_not_hide_a_live_one(upstream, names, addresses):
    up = upstream()  # listens on 127.0.0.1 only
    _, config = await names(*addresses)
    async with wire_client(names=config) as client:
        assert (await exchange(client, named(up))).body == b"ok"


@pytest.mark.gen_test
async def test_happy_eyeballs_a_silent_address_does_not_hide_a_live_one(full_backlog, names):
    live = Upstreamed(full_backlog)
    _, config = await names("127.0.0.1", "127.0.0.2")
    async with wire_client(timeout=30, names=config) as client, live:
        assert (await exchange(client, Origin("http", "service.test", full_backlog))).body == b"ok"


class Upstreamed:
    """A server on 127.0.0.2, at a given port."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self):
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply(fields=(b"Connection: close",)))
            writer.close()

        self._server = await asyncio.start_server(serve, "127.0.0.2", self._port)

    async def __aexit__(self, *_):
        self._server.close()


# ---- one address of a name


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pinned(upstream, address: str, scheme: str = "http") -> Origin:
    return Origin(scheme, "service.test", upstream.port, address=address)


@pytest.mark.gen_test
async def test_an_origin_with_an_address_leads_there_and_nothing_is_looked_up(upstream, names):
    up = upstream()
    server, config = await names("127.0.0.1")
    async with wire_client(names=config) as client:
        assert (await exchange(client, pinned(up, "127.0.0.1"))).body == b"ok"
        with pytest.raises(ConnectFailed):  # though the name has another address, where somebody listens
            await exchange(client, pinned(up, "127.0.0.2"))
    assert server.asked == []


@pytest.mark.gen_test
async def test_addresses_of_a_name_share_no_connections(upstream):
    up = upstream()
    async with wire_client() as client, Upstreamed(up.port):
        await exchange(client, pinned(up, "127.0.0.1"))
        assert (await exchange(client, pinned(up, "127.0.0.2"))).body == b"ok"
        assert (len(client.pool(pinned(up, "127.0.0.1"))), up.accepted) == (1, 1)


@pytest.mark.gen_test
async def test_row_29_the_certificate_of_an_address_must_show_its_name(authority, tmp_path):
    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority, None, "service.test") as up, wire_client(tls_ca_file=trusted) as client:
        assert (await exchange(client, pinned(up, "127.0.0.1", "https"))).body == b"ok"
        assert up.names == ["service.test"]
    async with tls_upstream(authority, None, "127.0.0.1") as up, wire_client(tls_ca_file=trusted) as client:
        with pytest.raises(TLSFailed):
            await exchange(client, pinned(up, "127.0.0.1", "https"))


@pytest.mark.parametrize("failure", ["refused", "silent", "TLS", "name", "socket"])
@pytest.mark.gen_test
async def test_on_failure_is_called_for_each_failed_connection(upstream, full_backlog, tmp_path, names, failure):
    async def plain(peer: Peer) -> None:
        await peer.more()
        await peer.send(reply())

    origin = {
        "refused": Origin("http", "service.test", unused_port(), address="127.0.0.1"),
        "silent": Origin("http", "127.0.0.1", full_backlog),
        "TLS": Origin("https", "127.0.0.1", upstream(plain).port),
        "name": Origin("http", "service.test", 80),
        "socket": Origin("http", "localhost", 0, str(tmp_path / "missing.sock")),
    }[failure]
    failed = []
    _, config = await names()
    async with wire_client(names=config) as client:
        client.connector.on_failure = failed.append
        with pytest.raises(UpstreamError):
            await exchange(client, origin, connect_timeout=0.1 if failure == "silent" else 5.0)
        assert failed == [origin]


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.gen_test
async def test_a_connection_cancelled_while_it_opens_is_counted_out(upstream, turns):
    up = upstream()
    async with wire_client() as client:
        for _ in range(5):
            leaving, _ = begin(client, origin_of(up), body=True)
            for _ in range(turns):
                await asyncio.sleep(0)
            leaving.abort()
        await eventually(lambda: client.pool(origin_of(up)).open == 0)
        await eventually(lambda: not up.open)


@pytest.mark.gen_test
async def test_on_failure_is_not_called_for_opened_or_cancelled_connections(upstream, full_backlog):
    failed = []
    async with wire_client() as client:
        client.connector.on_failure = failed.append
        await exchange(client, origin_of(upstream()))
        leaving, _ = begin(client, Origin("http", "127.0.0.1", full_backlog))
        await asyncio.sleep(0.01)
        leaving.abort()
        await asyncio.sleep(0)
    assert failed == []


# ---- TLS (row 29)


def https(up, host: str = "localhost") -> Origin:
    return Origin("https", host, up.port)


@pytest.mark.gen_test
async def test_row_29_an_unknown_authority_is_refused(authority):
    async with tls_upstream(authority) as up, wire_client() as client:
        with pytest.raises(TLSFailed) as raised:
            await exchange(client, https(up))
        assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
        assert up.heads == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.gen_test
async def test_row_29_a_certificate_for_another_host_is_refused(authority, tmp_path, host):
    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority, None, "other.test") as up, wire_client(tls_ca_file=trusted) as client:
        with pytest.raises(TLSFailed) as raised:
            await exchange(client, https(up, host))
        assert "mismatch" in str(raised.value.__cause__)
        assert up.heads == []


@pytest.mark.gen_test
async def test_row_29_a_server_that_does_not_speak_tls(upstream):
    async def script(peer: Peer) -> None:
        await peer.more()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    up = upstream(script)
    async with wire_client() as client:
        with pytest.raises(TLSFailed):
            await exchange(client, Origin("https", "127.0.0.1", up.port))


@pytest.mark.gen_test
async def test_row_29_an_authority_from_a_file_is_trusted_and_the_name_sent(authority, tmp_path):
    trusted = ca_file(authority, tmp_path)
    async with tls_upstream(authority) as up, wire_client(tls_ca_file=trusted) as client:
        for _ in range(3):
            assert (await exchange(client, https(up))).body == b"ok"
        assert (await exchange(client, https(up, "127.0.0.1"))).body == b"ok"
        assert up.names == ["localhost", None]  # an address is not a name (RFC 6066 §3)
        assert up.accepted == 2


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("service.test.", "service.test"),  # the dot is the look-up's alone (RFC 6066 §3)
        ("service_1.a.test", "service_1.a.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("127.0.0.1", None),  # an address is not a name (RFC 6066 §3)
        ("::1", None),
        ("::1%lo", None),
    ],
)
@pytest.mark.gen_test
async def test_row_29_the_name_that_is_sent_and_that_the_certificate_must_show(names, authority, tmp_path, host, sent):
    server, config = await names()
    server.zone = {"*": ("127.0.0.1",)}
    trusted = ca_file(authority, tmp_path)
    verifies = "_" not in host  # no certificate shows such a name
    shown = (sent or host.partition("%")[0]) if verifies else "localhost"
    address = shown if ":" in shown else "127.0.0.1"
    async with tls_upstream(authority, None, shown, address=address) as up:
        async with wire_client(tls_ca_file=trusted, tls_verify=verifies, names=config) as client:
            origin = Origin("https", host, up.port)
            assert (await exchange(client, origin)).body == b"ok"
        assert up.names == [sent]
    assert {query.name for query in server.asked} == ({host.removesuffix(".")} if sent else set())


@pytest.mark.gen_test
async def test_row_29_verification_can_be_turned_off(authority):
    async with tls_upstream(authority, None, "other.test") as up, wire_client(tls_verify=False) as client:
        assert (await exchange(client, https(up))).body == b"ok"
        assert up.names == ["localhost"]


def test_a_ca_file_that_cannot_be_read_is_told_when_it_is_loaded(io_loop, tmp_path):
    async def make(path) -> None:
        Connector(ConnectConfig()).load_contexts([UpstreamTLSConfig(ca_file=str(path))])

    (tmp_path / "empty.pem").write_text("nothing")
    for path, error in ((tmp_path / "missing.pem", FileNotFoundError), (tmp_path / "empty.pem", ssl.SSLError)):
        with pytest.raises(error):
            io_loop.run_sync(lambda path=path: make(path))


@pytest.mark.gen_test
async def test_a_connection_that_ends_before_the_request_goes_out_is_no_connection(authority):
    # TLS 1.2: the server speaks last in the handshake, so what it says and its end arrive with it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    authority.issue_cert("localhost").configure_cert(context)

    def refuse(_, writer):
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0, ssl=context)
    async with wire_client(tls_verify=False) as client:
        origin = Origin("https", "localhost", server.sockets[0].getsockname()[1])
        try:  # uvloop is done with its handshake a turn sooner, and sends the request
            assert (await exchange(client, origin)).head.status == 408
        except UpstreamError as error:
            assert isinstance(error, ConnectFailed)
    server.close()


@pytest.mark.gen_test
async def test_row_29_an_idle_tls_connection_that_the_upstream_ends_is_forgotten_at_once(authority):
    async def once(_, writer):
        writer.write(reply())
        await writer.drain()
        await may_end.wait()
        writer.close()

    may_end = asyncio.Event()
    async with tls_upstream(authority, once) as up, wire_client(tls_verify=False) as client:
        await exchange(client, https(up))
        pool = client.pool(https(up))
        assert len(pool) == 1
        may_end.set()
        await eventually(lambda: (len(pool), pool.open) == (0, 0))


@pytest.mark.parametrize("phase", ["handshake", "before the head", "in the body"])
@pytest.mark.gen_test
async def test_row_3_abort_over_tls(authority, upstream, phase):
    async def script(_, writer):
        if phase == "in the body":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await asyncio.Event().wait()

    async with tls_upstream(authority, script) as up, wire_client(tls_verify=False) as client:
        if phase == "handshake":
            mute = upstream(lambda peer: peer.ended())
            leaving, recorder = begin(client, Origin("https", "localhost", mute.port))
            await eventually(lambda: mute.open)
            leaving.abort()
            await eventually(lambda: not mute.open)
            return
        leaving, recorder = begin(client, https(up))
        await eventually(lambda: up.heads if phase == "before the head" else recorder.body)
        pool, seen = client.pool(https(up)), list(recorder.calls)
        leaving.abort()
        await eventually(lambda: pool.open == 0)
        assert recorder.calls == seen


@pytest.mark.gen_test
async def test_row_29_large_bodies_over_tls_both_ways(authority):
    count, checksum = 16, 0
    for _ in range(count):
        checksum = zlib.crc32(MEGABYTE, checksum)
    received = 0

    async def script(reader, writer):
        nonlocal received
        for _ in range(count):
            received = zlib.crc32(await reader.readexactly(len(MEGABYTE)), received)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * len(MEGABYTE)))
        for _ in range(count):
            writer.write(MEGABYTE)
            await writer.drain()

    async with tls_upstream(authority, script) as up, wire_client(tls_verify=False) as client:
        for _ in range(2):
            received = 0
            head = get(b"/", b"Content-Length: %d" % (count * len(MEGABYTE)), method=b"PUT")
            sending, recorder = begin(client, https(up), head, body=True)
            for _ in range(count):
                if waiting := sending.write(MEGABYTE):
                    await waiting
            sending.finish()
            assert zlib.crc32((await recorder.ended()).body) == checksum
            assert received == checksum
        assert up.accepted == 1
