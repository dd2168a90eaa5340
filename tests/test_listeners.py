"""Listeners of a whole gateway: TLS, a unix socket and the PROXY protocol at once, and client certificates."""

import asyncio
import json
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from tests.conftest import Serve
from tests.support.chromium import Tab, chromium, tab
from tests.support.entrances import HOST, Certificate, echo_service
from tests.support.journeys import Start
from tests.support.redis import StartRedis
from tests.support.sockets import Client, Message, Peer, echo, eventually, get, reply
from tests.support.tls import ca_file, pem_files
from tests.support.websockets import until


def talk(port: int, context: ssl.SSLContext, request: bytes, name: str = "a.test") -> bytes:
    """Send a request over TLS; all that is answered. Blocks."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False) as sock,
    ):
        sock.sendall(request)
        while data := sock.recv(65536):
            answer += data
    return answer


def ask(target: bytes, *fields: bytes, host: bytes = b"a.test") -> bytes:
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: " + host, b"Connection: close", *fields, b"", b""])


async def at_unix(path: Path, request: bytes) -> Message:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    client = Client(sock)
    try:
        return await client.ask(request)
    finally:
        client.close()


@pytest.mark.gen_test
async def test_a_unix_socket_has_its_mode_and_goes_with_the_gateway(
    serve: Serve, upstream: Start, tmp_path: Path
) -> None:
    up, path = upstream(echo), tmp_path / "gateway.sock"
    listen = json.dumps([{"unix": str(path), "mode": "0600"}])
    running = await serve({"svc": [up.url]}, LISTEN=listen, TRUSTED_PROXIES="unix")
    assert path.stat().st_mode & 0o777 == 0o600
    response = await at_unix(path, get(b"/api/svc/x", b"X-Forwarded-For: 203.0.113.7"))
    assert response.status == 200
    assert up.requests[0].get(b"x-forwarded-for") == b"203.0.113.7"
    assert [each.host for each in running.app.offer()[0].places] == [str(path)]
    running.app.server.drain()
    assert not path.exists()


@pytest.mark.gen_test
async def test_an_untrusted_client_of_a_unix_socket_has_no_address(
    serve: Serve, upstream: Start, tmp_path: Path
) -> None:
    up, path = upstream(echo), tmp_path / "gateway.sock"
    await serve({"svc": [up.url]}, LISTEN=json.dumps([{"unix": str(path), "proxyProtocol": True}]))
    await at_unix(path, b"PROXY UNKNOWN\r\n" + get(b"/api/svc/x", b"X-Forwarded-For: 203.0.113.7"))
    await at_unix(path, b"PROXY TCP4 203.0.113.8 192.0.2.1 1 2\r\n" + get(b"/api/svc/x"))
    assert [each.all(b"x-forwarded-for") for each in up.requests] == [[], [b"203.0.113.8"]]


def secured(tmp_path: Path, authority: trustme.CA, **more: str) -> dict[str, str]:
    certificate, key = pem_files(authority.issue_cert("a.test", "b.test"), tmp_path, "a")
    return {"TLS_CERT": certificate, "TLS_KEY": key, **more}


@pytest.mark.gen_test
async def test_a_client_certificate_is_a_credential_of_its_connection(
    serve: Serve, upstream: Start, tmp_path: Path
) -> None:
    authority, up = trustme.CA(), upstream(echo)
    variables = secured(tmp_path, authority, TLS_CLIENT_CA=ca_file(authority, tmp_path), TLS_CLIENT_AUTH="optional")
    services = {"pumps": {"endpoints": [up.url], "auth": "mtls"}, "open": [up.url]}
    running = await serve(services, AUTH_CLAIM_HEADERS="sub:X-Subject", **variables)
    without, having = ssl.create_default_context(), ssl.create_default_context()
    for each in (without, having):
        authority.configure_trust(each)
    authority.issue_cert("pump@a.test", common_name="pump").configure_cert(having)

    async def answer(context: ssl.SSLContext, *request: bytes, host: bytes = b"a.test") -> bytes:
        return await asyncio.to_thread(talk, running.port, context, ask(*request, host=host))

    forged = b"Client-Cert: :AAAA:"
    assert b" 403 " in await answer(without, b"/api/pumps/x", forged)
    assert b" 200 " in await answer(without, b"/api/open/x", forged, b"Client_Cert: 1", b"Client-Cert-Chain: :AA==:")
    assert b" 200 " in await answer(having, b"/api/pumps/x", forged)
    assert b" 421 " in await answer(having, b"/api/pumps/x", host=b"b.test")
    by_nobody, by_pump = up.requests
    assert not [name for name, _ in by_nobody.fields if name.lower().startswith((b"client-cert", b"client_cert"))]
    assert len(by_pump.all(b"client-cert")) == 1 and by_pump.get(b"client-cert") != b":AAAA:"
    assert (by_pump.get(b"x-subject") or b"").startswith(b"mtls:CN=pump,")
    assert by_pump.get(b"x-forwarded-proto") == b"https"


@pytest.mark.gen_test
async def test_no_client_certificate_opens_a_service_while_nobody_knows_what_is_revoked(
    serve: Serve, upstream: Start, tmp_path: Path, redis_server: StartRedis
) -> None:
    authority, up, server = trustme.CA(), upstream(echo), redis_server()
    variables = secured(tmp_path, authority, TLS_CLIENT_CA=ca_file(authority, tmp_path), TLS_CLIENT_AUTH="optional")
    services = {"pumps": {"endpoints": [up.url], "auth": "mtls"}, "open": [up.url]}
    running = await serve(services, REVOCATION_ON_ERROR="closed", REDIS_URL=server.url, **variables)
    having = ssl.create_default_context()
    authority.configure_trust(having)
    authority.issue_cert("pump@a.test", common_name="pump").configure_cert(having)

    async def answers() -> list[bytes]:
        said = [
            await asyncio.to_thread(talk, running.port, having, ask(path, host=b"a.test"))
            for path in (b"/api/pumps/x", b"/api/open/x")
        ]
        return [each.split(b" ", 2)[1] for each in said]

    assert await answers() == [b"200", b"200"]
    server.stop()
    await eventually(lambda: running.app.gateway.revocations.are_in_doubt)
    assert await answers() == [b"503", b"200"]


@pytest.mark.gen_test
async def test_tls_and_the_proxy_protocol_work_together(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    authority, up, path = trustme.CA(), upstream(echo), tmp_path / "gateway.sock"
    listen = json.dumps([{"unix": str(path), "tls": True, "proxyProtocol": True}])
    await serve({"svc": [up.url]}, LISTEN=listen, **secured(tmp_path, authority))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def talk_behind_header() -> bytes:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(path))
            raw.sendall(b"PROXY TCP4 203.0.113.8 192.0.2.1 1 2\r\n")
            with context.wrap_socket(raw, server_hostname="a.test") as sock:
                sock.sendall(ask(b"/api/svc/x"))
                return sock.recv(65536)

    assert b" 200 " in await asyncio.to_thread(talk_behind_header)
    assert up.requests[0].get(b"x-forwarded-for") == b"203.0.113.8"


# ---------------------------------------------------------------- a browser

PAGE = b"""<!doctype html><script>
const said = [];
fetch("/api/svc/said").then(answer => answer.text()).then(text => said.push("http " + text));
const socket = new WebSocket(`wss://${location.host}/ws/sockets/x`);
socket.onopen = () => socket.send("hello");
socket.onmessage = message => { said.push("wss " + message.data); socket.close(); };
const events = new EventSource("/sse/svc/events");
events.onmessage = message => { said.push("sse " + message.data); events.close(); };
</script>"""


async def pages(peer: Peer) -> None:
    while True:
        request = await peer.request()
        if request.target == b"/page":
            await peer.send(reply(fields=(b"Content-Type: text/html",), body=PAGE))
        elif request.target == b"/events":
            await peer.send(reply(fields=(b"Content-Type: text/event-stream",), body=b"data: 1\n\n"))
        else:
            await peer.send(reply(body=request.get(b"x-forwarded-proto") or b""))


@pytest.mark.gen_test
async def test_a_browser_gets_pages_events_and_sockets_over_tls(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    async with echo_service() as sockets:
        running = await serve(
            {"svc": [upstream(pages).url], "sockets": [sockets]},
            TLS_CERT=str(certificate.chain), TLS_KEY=str(certificate.key),
        )  # fmt: skip
        url = f"https://{HOST}:{running.port}/api/svc/page"
        options = (
            f"--host-resolver-rules=MAP {HOST} 127.0.0.1", f"--ignore-certificate-errors-spki-list={certificate.pin}",
        )  # fmt: skip
        with chromium(tmp_path / "profile", *options) as devtools:
            assert await asyncio.to_thread(visit, devtools, url) == ["http https", "sse 1", "wss hello"]
        outcomes = running.app.server.context.tls.by_outcome
        assert outcomes["full"] + outcomes["resumed"] >= 2, outcomes  # a WebSocket has a connection of its own


def visit(devtools: str, url: str) -> list[str]:
    """Open a page; all that the page has heard of the gateway."""
    with tab(devtools, url) as connection:
        page = Tab(connection)
        until(lambda: page.value("typeof said === 'object' && said.length") == 3, "the page has heard everything")
        return sorted(page.value("said"))
