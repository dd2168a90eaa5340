"""The entrance with the PROXY protocol: who may come, and what becomes of the bytes behind the header."""

import ipaddress

import pytest

from tests.support.serving import Delegate, Listen
from tests.support.sockets import Ended, eventually, get
from tornado_gateway.policy.http.address import Network
from tornado_gateway.wire.server.server import MAX_REFUSED, Listener

LOOPBACK: tuple[Network, ...] = (ipaddress.IPv4Network("127.0.0.0/8"),)
OTHERS: tuple[Network, ...] = (ipaddress.IPv4Network("10.0.0.0/8"),)
HEADER = b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 443\r\n"


def proxied(*proxies: Network) -> Listener:
    return Listener(host="127.0.0.1", port=0, proxies=proxies)


@pytest.mark.gen_test
async def test_the_client_of_the_header_is_the_client(listen: Listen) -> None:
    delegate = Delegate()
    serving = await listen(delegate, proxied(*LOOPBACK))
    for pieces in ([HEADER + get(b"/")], [HEADER[:9], HEADER[9:], get(b"/")], [HEADER, get(b"/")]):
        client = await serving.client()
        for each in pieces:
            await client.send(each)
        assert (await client.response()).status == 200
        assert delegate.requests[-1].exchange.context.remote_ip == "203.0.113.7"
    client = await serving.client()
    assert (await client.ask(b"PROXY UNKNOWN\r\n" + get(b"/"))).status == 200
    assert delegate.requests[-1].exchange.context.remote_ip == "127.0.0.1"
    assert not serving.server.arriving


@pytest.mark.parametrize("said", [get(b"/"), b"PROXY TCP4 x\r\n", b"\x16\x03\x01\x02"])
@pytest.mark.gen_test
async def test_a_connection_without_a_header_is_closed_without_an_answer(listen: Listen, said: bytes) -> None:
    serving = await listen(Delegate(), proxied(*LOOPBACK))
    client = await serving.client()
    await client.send(said)
    with pytest.raises(Ended):
        await client.more()
    await eventually(lambda: not serving.server.arriving)


@pytest.mark.gen_test
async def test_a_peer_that_is_no_proxy_is_closed_unread(listen: Listen) -> None:
    delegate = Delegate()
    serving = await listen(delegate, proxied(*OTHERS))
    client = await serving.client()
    with pytest.raises(Ended):
        await client.more()
    assert not delegate.requests


@pytest.mark.gen_test
async def test_a_header_has_the_time_of_a_head(listen: Listen) -> None:
    serving = await listen(Delegate(), proxied(*LOOPBACK), header_timeout=60)
    client = await serving.client()
    await client.send(HEADER[:20])
    await eventually(lambda: serving.server.arriving)
    serving.sweep_after(61)
    with pytest.raises(Ended):
        await client.more()


@pytest.mark.gen_test
async def test_silent_connections_count_as_connections(listen: Listen) -> None:
    serving = await listen(Delegate(), proxied(*LOOPBACK), max_connections=1)
    for _ in range(MAX_REFUSED + 1):
        await serving.client()
    await eventually(lambda: len(serving.server.arriving) == MAX_REFUSED + 1)
    last = await serving.client()
    with pytest.raises(Ended):
        await last.more()
    await eventually(lambda: len(serving.server.arriving) == MAX_REFUSED + 1)
