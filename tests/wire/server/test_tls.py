"""The server's side of TLS: handshakes that fail or never end, names, tickets, replaced certificates."""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.support.serving import Delegate, Listen, Request, nothing
from tests.support.sockets import Ended, eventually, get
from tests.support.tls import ca_file, pem_files
from tornado_gateway.wire.server.certificates import Certificates, TLSConfig, load
from tornado_gateway.wire.server.server import Listener

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def config(
    directory: Path, authority: trustme.CA, *names: str, ca: str | None = None, required: bool = True
) -> TLSConfig:
    pairs = [pem_files(authority.issue_cert(each), directory, each) for each in names]
    return TLSConfig(tuple(each[0] for each in pairs), tuple(each[1] for each in pairs), ca)


def secure(certificates: Certificates) -> Listener:
    return Listener(host="127.0.0.1", port=0, tls=certificates)


def trusting(authority: trustme.CA, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.maximum_version = version
    authority.configure_trust(context)
    return context


class Caller:
    """A client of TLS.

    Attributes:
        tls: OpenSSL's state.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.tls: ssl.SSLObject = writer.get_extra_info("ssl_object")

    @classmethod
    async def call(cls, port: int, context: ssl.SSLContext, name: str = "a.test") -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))

    async def ask(self, request: bytes = get(b"/")) -> bytes:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return await self._reader.readexactly(2)

    def close(self) -> None:
        self._writer.transport.abort()


@VERSIONS
@pytest.mark.gen_test
async def test_a_client_gets_the_certificate_of_its_name_and_alpn(
    listen: Listen, authority: trustme.CA, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    certificates = Certificates(load(config(tmp_path, authority, "a.test", "b.test")))
    serving = await listen(Delegate(), secure(certificates))
    context = trusting(authority, version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name in ("a.test", "b.test"):
        caller = await Caller.call(serving.port, context, name)  # which checks the certificate's name
        assert await caller.ask() == b"ok"
        assert (caller.tls.selected_alpn_protocol(), caller.tls.version()) == (
            "http/1.1",
            version.name.replace("_", "."),
        )
        caller.close()
    assert serving.server.context.tls.handshakes == 2
    await eventually(lambda: not serving.server.connections)


@pytest.mark.gen_test
async def test_replaced_certificates_are_for_new_connections_and_tickets_still_count(
    listen: Listen, authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(load(config(tmp_path, authority, "a.test")))
    serving = await listen(Delegate(), secure(certificates))
    other = trustme.CA()
    old = await Caller.call(serving.port, trusting(authority))
    assert await old.ask() == b"ok"
    await asyncio.to_thread(_resume, serving.port, trusting(authority), other, certificates, tmp_path)
    new = await Caller.call(serving.port, trusting(other))
    assert (await old.ask(), await new.ask()) == (b"ok", b"ok")
    assert serving.server.context.tls.resumed == 1
    for each in (old, new):
        each.close()
    await eventually(lambda: not serving.server.connections)


def _resume(port: int, context: ssl.SSLContext, other: trustme.CA, certificates: Certificates, directory: Path) -> None:
    """Get a ticket, replace the certificates, and resume the session. Blocks."""

    def connect(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        with context.wrap_socket(raw, server_hostname="a.test", session=session) as sock:
            sock.sendall(get(b"/"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
            assert sock.session_reused is (session is not None)
            return sock.session

    session = connect(None)
    folder = directory / "other"
    folder.mkdir()
    certificates.use(load(config(folder, other, "a.test")))
    connect(session)


@pytest.mark.gen_test
async def test_plain_http_gets_a_400_as_plain_text(listen: Listen, authority: trustme.CA, tmp_path: Path) -> None:
    serving = await listen(Delegate(), secure(Certificates(load(config(tmp_path, authority, "a.test")))))
    client = await serving.client()
    response = await client.ask(get(b"/"))
    assert (response.status, response.get(b"content-type")) == (400, b"text/plain")
    assert response.body == b"The plain HTTP request was sent to an HTTPS port.\n"
    assert await client.ended()
    client.close()
    await eventually(lambda: not serving.server.arriving)
    assert serving.server.context.tls.plain == 1


@pytest.mark.parametrize("said", [bytes(range(16)), b"\x16\x03\x01\x00\x05hello"], ids=["no", "garbage"])
@pytest.mark.gen_test
async def test_what_is_not_tls_ends(listen: Listen, authority: trustme.CA, tmp_path: Path, said: bytes) -> None:
    serving = await listen(Delegate(), secure(Certificates(load(config(tmp_path, authority, "a.test")))))
    client = await serving.client()
    await client.send(said)
    with pytest.raises(Ended):
        await client.until(b"\n" * 99)
    await eventually(lambda: not serving.server.arriving)
    assert serving.server.context.tls.failed == 1


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "begun"])
@pytest.mark.gen_test
async def test_a_handshake_that_is_never_complete_ends_at_its_deadline(
    listen: Listen, authority: trustme.CA, tmp_path: Path, said: bytes
) -> None:
    certificates = Certificates(load(config(tmp_path, authority, "a.test")))
    serving = await listen(Delegate(), secure(certificates), header_timeout=60)
    client = await serving.client()
    await client.send(said)
    await eventually(lambda: serving.server.arriving)
    serving.sweep_after(59)
    assert serving.server.arriving
    serving.sweep_after(61)
    with pytest.raises(Ended):
        await client.more()
    await eventually(lambda: not serving.server.arriving)
    assert serving.server.context.tls.abandoned == 1


@pytest.mark.gen_test
async def test_each_handshake_is_counted_once(listen: Listen, authority: trustme.CA, tmp_path: Path) -> None:
    serving = await listen(Delegate(), secure(Certificates(load(config(tmp_path, authority, "a.test")))))
    caller = await Caller.call(serving.port, trusting(authority))
    assert await caller.ask() == b"ok"
    leaving = await serving.client()
    await leaving.send(b"\x16\x03\x01\x02\x00\x01")
    leaving.close()
    for text in (get(b"/"), bytes(16)):
        client = await serving.client()
        await client.send(text)
        with suppress(Ended):
            await client.until(b"\n" * 99)
        client.close()
    caller.close()
    await eventually(lambda: not serving.server.connections and not serving.server.arriving)
    expected = {"full": 1, "resumed": 0, "failed": 1, "abandoned": 1, "plain": 1}
    assert serving.server.context.tls.by_outcome == expected


@pytest.mark.gen_test
async def test_a_drain_waits_for_handshakes_and_no_longer_than_for_idle_clients(
    listen: Listen, authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(load(config(tmp_path, authority, "a.test")))
    serving = await listen(Delegate(), secure(certificates), header_timeout=60)
    client = await serving.client()
    await eventually(lambda: serving.server.arriving)
    serving.server.drain()
    answered = asyncio.ensure_future(serving.server.answered())
    await asyncio.sleep(0)
    serving.sweep_after(0)
    assert not answered.done()
    serving.sweep_after(3)
    with pytest.raises(Ended):
        await client.more()
    await eventually(lambda: not serving.server.arriving)
    serving.sweep_after(0)
    await answered


@VERSIONS
@pytest.mark.gen_test
async def test_client_certificates_are_asked_for(
    listen: Listen, authority: trustme.CA, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    delegate = Delegate()
    wanted = config(tmp_path, authority, "a.test", ca=ca_file(authority, tmp_path))
    serving = await listen(delegate, secure(Certificates(load(wanted))))
    context = trusting(authority, version)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await (await Caller.call(serving.port, context)).ask()
    authority.issue_cert("client@a.test", common_name="pump").configure_cert(context)
    caller = await Caller.call(serving.port, context)
    assert await caller.ask() == b"ok"
    proved = delegate.requests[0].exchange.connection.certificate
    assert proved and proved.host == "a.test" and proved.principal.name.startswith("mtls:CN=pump,")
    caller.close()
    await eventually(lambda: not serving.server.connections)


@VERSIONS
@pytest.mark.gen_test
async def test_a_half_closed_client_is_answered_if_half_close_is_ignored(
    listen: Listen, authority: trustme.CA, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    delegate = Delegate(nothing)
    certificates = Certificates(load(config(tmp_path, authority, "a.test")))
    serving = await listen(delegate, secure(certificates), half_close_aborts=False)
    answering = asyncio.to_thread(_half_close, serving.port, trusting(authority, version))
    talking = asyncio.ensure_future(answering)
    await eventually(lambda: delegate.requests and serving.connection.has_half_closed)
    Request.answer(delegate.requests[0])
    assert (await talking).endswith(b"ok")
    await eventually(lambda: not serving.server.connections)


def _half_close(port: int, context: ssl.SSLContext) -> bytes:
    """Send a request, the closure alert and no FIN, and read on. Blocks."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="a.test")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        tls.write(get(b"/"))
        with suppress(ssl.SSLError):
            tls.unwrap()
        raw.sendall(outgoing.read())
        answer = b""
        while not answer.endswith(b"ok"):
            incoming.write(raw.recv(65536))
            with suppress(ssl.SSLWantReadError):
                answer += tls.read(65536)
        return answer
