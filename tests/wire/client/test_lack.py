"""What this machine lacks is told from what an endpoint lacks."""

import errno
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.exchanges import exchange, wire_client
from tests.support.limits import no_descriptors
from tests.support.sockets import Peer, reply
from tornado_gateway.errors import OutOfSockets
from tornado_gateway.policy.http.target import Origin
from tornado_gateway.wire.client.lack import has_source, is_lack, lacks_descriptors

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM])
def test_what_this_machine_lacks(number: int) -> None:
    assert is_lack(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT])
def test_what_the_endpoint_lacks(number: int) -> None:
    assert not is_lack(OSError(number, os.strerror(number)))
    assert not is_lack(RuntimeError())


def test_descriptors_are_counted_by_the_kernel() -> None:
    assert not lacks_descriptors()
    with no_descriptors():
        assert lacks_descriptors()


def test_an_address_of_this_machine_has_a_source() -> None:
    assert has_source(socket.AF_INET, ("127.0.0.1", 1))


@pytest.mark.parametrize("io_loop", ["asyncio", "uvloop"], indirect=True)
@pytest.mark.parametrize("kind", ["address", "name", "socket"])
@pytest.mark.gen_test
async def test_without_a_descriptor_no_origin_is_to_blame(upstream, tmp_path, caplog, kind) -> None:
    async def answers(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())

    up, failed = upstream(answers), []
    origin = {
        "address": Origin("http", "127.0.0.1", up.port),
        "name": Origin("http", "service.test", 80),
        "socket": Origin("http", "localhost", 0, str(tmp_path / "service.sock")),
    }[kind]
    async with wire_client() as client:
        client.connector.on_failure = failed.append
        with caplog.at_level(logging.ERROR), no_descriptors():
            for _ in range(3):
                with pytest.raises(OutOfSockets) as raised:
                    await exchange(client, origin)
        assert (raised.value.status, raised.value.fields) == (503, ((b"Retry-After", b"1"),))
        assert not failed
        assert client.connector.totals.failures == {"out_of_sockets": 3}
        assert [record.message for record in caplog.records] == ["cannot connect to services: Too many open files"]


# A machine with two ports for connections, and without ::1.
FEW_PORTS = """import asyncio, errno, pathlib, socket
from tornado_gateway.wire.client.race import connect, connect_first

async def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40001")
        pathlib.Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        kept = [await connect("127.0.0.1", port) for _ in range(2)]
        for addresses in (["127.0.0.1"], ["::1"], ["::1", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]):
            try:
                await connect_first(addresses, port)
            except OSError as error:
                print(errno.errorcode[error.errno], end=" ")

asyncio.run(main())"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network of its own")
def test_no_port_left_is_a_lack_and_no_address_that_fits_is_none() -> None:
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" -c "$1"', sys.executable, FEW_PORTS]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    assert told.split() == ["EADDRNOTAVAIL", "ENETUNREACH", "EADDRNOTAVAIL", "EADDRNOTAVAIL"]
