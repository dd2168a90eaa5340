"""The supervisor's sockets: bound or inherited, listening, and closed with their paths."""

import socket
from pathlib import Path

import pytest

from tornado_gateway.app import CannotListen
from tornado_gateway.config.settings import AdminListenConfig, ListenConfig, Settings
from tornado_gateway.policy.handover import Offer, Role
from tornado_gateway.supervisor.sockets import Sockets
from tornado_gateway.upkeep.inheritance import Inheritance


def settings(path: Path, port: int = 0) -> Settings:
    return Settings(
        listen=ListenConfig(("127.0.0.1",), port),
        admin_listen=AdminListenConfig(("127.0.0.1",), 0, str(path / "own" / "s")),
    )


@pytest.mark.gen_test
async def test_connections_wait_at_the_sockets_which_another_process_can_have(tmp_path: Path) -> None:
    sockets = Sockets()
    await sockets.open(settings(tmp_path), Inheritance())
    assert [each.role for each in sockets.places] == [Role.PUBLIC, Role.OPERATORS, Role.CONTROL]
    ((host, port),) = sockets.addresses
    with socket.create_connection((host, port)):
        pass
    heirs = Sockets()
    await heirs.open(settings(tmp_path), Inheritance(Offer(1, tuple(sockets.places)), tuple(sockets.socks)))
    assert (heirs.socks, heirs.addresses, heirs.admin_addresses) == (
        sockets.socks, sockets.addresses, sockets.admin_addresses,
    )  # fmt: skip
    heirs.close(keeps_paths=True)
    assert (tmp_path / "own" / "s").exists()


@pytest.mark.gen_test
async def test_a_taken_address_is_named_and_paths_are_removed(tmp_path: Path) -> None:
    sockets = Sockets()
    await sockets.open(settings(tmp_path), Inheritance())
    port = sockets.addresses[0][1]
    with pytest.raises(CannotListen, match=f"HOST, PORT: cannot listen on 127.0.0.1:{port}: Address already in use"):
        await Sockets().open(settings(tmp_path, port), Inheritance())
    other = Sockets()
    with pytest.raises(CannotListen, match=r"CTL_SOCKET: cannot listen on .*another process listens there"):
        await other.open(settings(tmp_path), Inheritance())
    other.close()
    sockets.close()
    assert not (tmp_path / "own" / "s").exists()
