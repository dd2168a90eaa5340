"""Forwarded addresses over real sockets: the client for the endpoint, the balancer, the limits and the log."""

import asyncio
import contextlib
import io
import ipaddress
import json
import re
import socket
from collections.abc import Callable

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.conftest import Running, Serve
from tests.support.fuzzing import fuzzing
from tests.support.journeys import Start, ask, capture, only_line, plays
from tests.support.sockets import Client, Ended, Peer, Script, Upstream, echo, eventually, get, reply
from tests.support.tls import certificates, server_context, talk
from tests.support.websockets import HANDSHAKE, accepting
from tornado_gateway.adapters.access_log import AccessLog, Format, json_line, text_line
from tornado_gateway.wire.server.connection import ServerConnection
from tornado_gateway.wire.server.server import Listener

SPELLINGS = (
    b"203.0.113.7", b"203.0.113.7:50000", b"203.0.113.7:50001", b"::ffff:203.0.113.7", b"[::FFFF:CB00:7107]:443",
    b'"203.0.113.7:1"', b" ,203.0.113.7,", b"unknown, 203.0.113.7", b"6.6.6.6, 203.0.113.7",
    b"203.0.113.7, 127.0.0.9:80",
)  # fmt: skip
V6_SPELLINGS = (b"2001:db8::7", b"2001:DB8:0::7", b"[2001:db8::7]", b"[2001:DB8::7]:443", b"2001:db8::7%eth0")
GARBAGE = (
    b"unknown", b"_hidden", b"010.0.0.1", b"0x7f.1", b"2130706433", b"localhost", b"10.0.0.1:99999", b"[::1", b'"',
    b'fe80::1%"', b"fe80::1%\\", b"fe80::1%a\tb", b'fe80::1%x"}{"level":"error', b"\xff\xfe", b"<script>",
)  # fmt: skip


def naming(name: bytes) -> Script:
    """A script: an endpoint that answers with its name."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(reply(body=name))

    return script


@pytest.mark.parametrize("spellings", [SPELLINGS, V6_SPELLINGS])
@pytest.mark.gen_test
async def test_a_client_reaches_one_endpoint_however_its_address_is_spelled(
    serve: Serve, upstream: Start, spellings: tuple[bytes, ...]
) -> None:
    urls = [upstream(naming(name)).url for name in (b"A", b"B", b"C", b"D", b"E")]
    running = await serve({"svc": urls}, BALANCER="consistent_hash", TRUSTED_PROXIES="127.0.0.0/8")
    lines = capture(running)
    answers = [await ask(running, get(b"/api/svc/x", b"X-Forwarded-For: " + each)) for each in spellings]
    assert len({answer.body for answer in answers}) == 1
    await eventually(lambda: len(lines()) == len(spellings))
    assert {line["client"] for line in lines()} == {spellings[0].decode()}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.gen_test
async def test_garbage_ends_the_reading_and_adds_no_trust(serve: Serve, upstream: Start, garbage: bytes) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8")
    lines = capture(running)
    await ask(running, get(b"/api/svc/x", b"X-Forwarded-For: 1.1.1.1, " + garbage + b", 10.9.9.9"))
    assert (await only_line(lines))["client"] == "10.9.9.9"
    assert up.requests[0].all(b"x-forwarded-for") == [b"10.9.9.9, 127.0.0.1"]


@pytest.mark.gen_test
async def test_the_last_member_of_the_last_field_is_the_nearest_hop(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8")
    fields = (b"X-Forwarded-For: 1.1.1.1,", b"x-forwarded-for:", b"X-FORWARDED-FOR: [2001:DB8::7]:1 , 10.9.9.9")
    await ask(running, get(b"/api/svc/x", *fields))
    assert up.requests[0].all(b"x-forwarded-for") == [b"1.1.1.1, 2001:db8::7, 10.9.9.9, 127.0.0.1"]


@pytest.mark.parametrize("trusted", ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"])
@pytest.mark.gen_test
async def test_a_socket_for_both_families_knows_its_proxies(serve: Serve, upstream: Start, trusted: str) -> None:
    """There the peer's address is ::ffff:127.0.0.1."""
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, TRUSTED_PROXIES=trusted)
    lines = capture(running)
    both = socket.socket(socket.AF_INET6)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", 0))
    listener = await asyncio.get_running_loop().create_server(
        lambda: ServerConnection(running.app.server, b"http"), sock=both
    )
    try:
        client = await Client.connect(both.getsockname()[1])
        await client.ask(get(b"/api/svc/x", b"X-Forwarded-For: 203.0.113.7:50000"))
        client.close()
    finally:
        listener.close()
    assert up.requests[0].all(b"x-forwarded-for") == [b"203.0.113.7, 127.0.0.1"]
    assert (await only_line(lines))["client"] == "203.0.113.7"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /api/svc/x HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n", 401),
        (b"TRACE /api/svc/x HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n", 200),
        (b"POST /healthz HTTP/1.1\r\nHost: a\r\n%b\r\nContent-Length: 99999999\r\n\r\n", 413),
    ],
)
@pytest.mark.gen_test
async def test_the_log_names_the_client_of_what_goes_to_no_endpoint(serve: Serve, request_: bytes, status: int) -> None:
    running = await serve(
        {"svc": ["http://127.0.0.1:1"]}, TRUSTED_PROXIES="127.0.0.1", AUTH_REQUIRED="true", JWT_SECRET="k" * 32
    )
    lines = capture(running)
    answer = await ask(running, request_ % b"X-Forwarded-For: 203.0.113.7:50000", request_.split(b" ")[0])
    assert answer.status == status
    assert (await only_line(lines))["client"] == "203.0.113.7"


# ---------------------------------------------------------------- fuzz


def written_to(running: Running, line: Format) -> Callable[[], list[bytes]]:
    """Turn the access log on; the lines that it has written, behind each the LF that ends it."""
    stream = io.BytesIO()
    log = AccessLog(stream, line)
    object.__setattr__(running.app.gateway, "access_log", log)

    def lines() -> list[bytes]:
        log._flush()
        return re.findall(rb"[^\n]*\n|[^\n]+$", stream.getvalue())

    return lines


async def told(running: Running, request: bytes) -> bytes:
    """Send bytes, and read until the connection ends."""
    client = await Client.connect(running.port)
    with contextlib.suppress(Ended, ConnectionError):
        await client.send(request)
        while await client.more():
            pass
    client.close()
    return client.buffer


ADDRESSES = st.ip_addresses().filter(lambda address: not address.is_loopback)
HOSTILE = st.one_of(st.binary(max_size=30), st.sampled_from(GARBAGE), st.sampled_from(SPELLINGS))
ANY_BYTES = st.one_of(
    st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
)


@st.composite
def spelled(draw: st.DrawFn) -> tuple[bytes, str]:
    """A spelling of an address that proxies use, and the canonical text."""
    address = draw(ADDRESSES)
    port = draw(st.sampled_from(["", ":0", ":50000"]))
    if isinstance(address, ipaddress.IPv4Address):
        mapped = f"::ffff:{address}"
        text = draw(st.sampled_from([f"{address}{port}", mapped, f"[{mapped}]{port}", f'"{address}{port}"']))
        return text.encode(), str(address)
    long = draw(st.sampled_from([str(address), address.exploded, address.exploded.upper()]))
    text = draw(st.sampled_from([long, f"[{long}]{port}", f"{long}%eth0", f"[{long}%1]{port}"]))
    return text.encode(), str(address.ipv4_mapped or address)


def test_any_forwarded_address_is_one_client_and_one_log_line(io_loop: IOLoop, serve: Serve, upstream: Start) -> None:
    """A trusted proxy appends its peer's address, which is the client, whatever stands before."""

    async def start() -> tuple[Upstream, Running, Callable[[], list[bytes]]]:
        up = upstream(echo)
        running = await serve({"svc": [up.url]}, TRUSTED_PROXIES="127.0.0.1")
        return up, running, written_to(running, json_line)

    run = io_loop.asyncio_loop.run_until_complete
    up, running, lines = run(start())

    async def journey(claims: list[bytes], seen: bytes, client: str) -> None:
        before = len(lines())
        fields = [b"X-Forwarded-For: " + each.translate(None, bytes((*range(32), 127))) for each in [*claims, seen]]
        answer = await ask(running, get(b"/api/svc/x", *fields))
        assert answer.status == 200
        sent = (up.requests.pop().get(b"x-forwarded-for") or b"").decode("ascii").split(", ")
        assert sent[-2:] == [client, "127.0.0.1"]
        assert sent == [str(ipaddress.ip_address(each)) for each in sent]
        await eventually(lambda: len(lines()) > before)
        (line,) = lines()[before:]
        assert json.loads(line)["client"] == client
        running.clients.pop().close()

    @fuzzing(60)
    @given(st.lists(HOSTILE, max_size=4), spelled())
    def holds(claims: list[bytes], last: tuple[bytes, str]) -> None:
        run(journey(claims, *last))

    holds()


@pytest.mark.parametrize("line", [json_line, text_line])
def test_any_request_is_logged_in_lines_of_their_own(
    io_loop: IOLoop, serve: Serve, upstream: Start, line: Format
) -> None:
    """Method, target and fields of any bytes, cut or whole: the log stays text, with a line per request."""

    async def start() -> tuple[Running, Callable[[], list[bytes]]]:
        shortly = dict.fromkeys(("HEADER_TIMEOUT_MS", "KEEPALIVE_TIMEOUT_MS", "CLIENT_IDLE_TIMEOUT_MS"), "50")
        up = upstream(plays(reply(), then="close"))
        running = await serve({"svc": [up.url]}, TRUSTED_PROXIES="127.0.0.1", **shortly)
        return running, written_to(running, line)

    run, seen = io_loop.asyncio_loop.run_until_complete, 0
    running, lines = run(start())

    async def journey(requests: list[bytes]) -> None:
        nonlocal seen
        await asyncio.gather(*(told(running, request) for request in requests))
        await eventually(lambda: len(lines()) >= seen + len(requests))
        written = lines()[seen:]
        seen += len(written)
        for each in written:
            assert each.endswith(b"\n")
            text = each[:-1].decode("ascii")
            assert text.isprintable()
            if line is json_line:
                said = json.loads(text)
                assert said["type"] == "access"
                assert said["client"] == str(ipaddress.ip_address(said["client"]))

    @st.composite
    def requests(draw: st.DrawFn) -> bytes:
        method = draw(st.sampled_from([b"GET", b"GET", b"M-SEARCH"]) | ANY_BYTES)
        target = draw(st.sampled_from([b"/api/svc/", b"/ws/svc", b"/healthz?", b"/sse/none/", b""])) + draw(ANY_BYTES)
        names = st.sampled_from(
            [b"X-Forwarded-For", b"X-Request-Id", b"X-Forwarded-Host", b"Via", b"Forwarded", b"Host"]
        )
        fields = draw(st.lists(st.tuples(names, HOSTILE | ANY_BYTES), max_size=4))
        block = b"".join([b"%b: %b\r\n" % field for field in fields])
        return b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % (method, target, block)

    @fuzzing(60)
    @given(st.lists(requests(), min_size=1, max_size=6))
    def holds(batch: list[bytes]) -> None:
        run(journey(batch))

    holds()


# ---------------------------------------------------------------- what a connection itself speaks


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def listen_securely(running: Running, authority: trustme.CA) -> int:
    """Have a gateway also listen with TLS; the port."""
    listener = Listener(host="127.0.0.1", port=0, tls=certificates(server_context(authority)))
    ((_, port),) = await running.app.server.listen(listener)
    return port


@pytest.mark.parametrize("claim", [(), (b"X-Forwarded-Proto: http",)])
@pytest.mark.gen_test
async def test_a_service_and_a_cookie_learn_that_the_client_speaks_tls(
    serve: Serve, upstream: Start, authority: trustme.CA, claim: tuple[bytes, ...]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, STICKY="redistribute")
    port = await listen_securely(running, authority)
    request = get(b"/api/svc/x", b"Connection: close", *claim)
    answer = await asyncio.to_thread(talk, port, authority, request)
    (told,) = up.requests
    assert (told.all(b"x-forwarded-proto"), told.all(b"x-forwarded-port")) == ([b"https"], [b"443"])
    assert re.search(rb"\r\nset-cookie: [^\r]*; Secure\r\n", answer, re.IGNORECASE)
    await ask(running, get(b"/api/svc/x"))
    assert up.requests[1].all(b"x-forwarded-proto") == [b"http"]


@pytest.mark.gen_test
async def test_websockets_pass_through_a_listener_with_tls(
    serve: Serve, upstream: Start, authority: trustme.CA
) -> None:
    async def service(peer: Peer) -> None:
        request = await peer.request_head()
        await peer.send(accepting(request))
        await peer.send(await peer.exactly(2 + 4 + 2) and b"\x81\x02yo")
        await peer.exactly(2 + 4 + 2)  # the Close
        await peer.send(b"\x88\x02\x03\xe8")

    running = await serve({"svc": [upstream(service).url]})
    port = await listen_securely(running, authority)
    hi, close = b"\x81\x82\x00\x00\x00\x00hi", b"\x88\x82\x00\x00\x00\x00\x03\xe8"
    answer = await asyncio.to_thread(
        talk, port, authority, get(b"/ws/svc", *HANDSHAKE) + hi, close, last_behind=b"\x81\x02yo"
    )
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"\r\n\r\n\x81\x02yo\x88\x02\x03\xe8")
