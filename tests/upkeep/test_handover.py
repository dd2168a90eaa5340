"""Listening sockets go from one process to another: who gets these, and that nothing changes if the other fails."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.sockets import eventually
from tornado_gateway.policy.handover import Offer, Place, Role
from tornado_gateway.upkeep import handover
from tornado_gateway.upkeep.handover import HandOver
from tornado_gateway.upkeep.inheritance import CannotTakeOver, Inheritance, from_predecessor

PLACES = (Place(Role.PUBLIC, "127.0.0.1", 0), Place(Role.OPERATORS, "127.0.0.1", 1))


class Giver:
    """A Predecessor that writes down what it is told."""

    def __init__(self) -> None:
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PLACES]
        self.told: list[object] = []
        self.memory: dict[str, object] = {"much": "x" * 1_000_000}

    def offer(self) -> tuple[Offer, Sequence[socket.socket]]:
        return Offer(os.getpid(), PLACES, {"sticky": "secret"}), self.sockets

    async def cede(self) -> dict[str, object]:
        self.told.append("cede")
        return self.memory

    async def resume(self) -> None:
        self.told.append("resume")

    def leave(self, taken: frozenset[Place], /) -> None:
        self.told.append(taken)


@asynccontextmanager
async def giving(path: Path) -> AsyncIterator[Giver]:
    giver = Giver()
    hand_over = HandOver(giver, str(path))
    hand_over.start()
    try:
        yield giver
    finally:
        await hand_over.close()
        for each in giver.sockets:
            each.close()


async def apart(function: Callable[[], object]) -> object:
    """Run what blocks."""
    return await asyncio.to_thread(function)


def take_over(path: Path) -> None:
    """What a successor does that wants the first socket alone."""
    inherited = from_predecessor(str(path))
    assert inherited and inherited.offer.secrets == {"sticky": "secret"}
    (sock,) = inherited.take(PLACES[0])
    assert inherited.take(PLACES[0]) == []
    assert len(json.dumps(inherited.ready())) > 1_000_000
    inherited.done()
    inherited.close()
    sock.close()


@pytest.mark.gen_test
async def test_a_successor_gets_the_sockets_and_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "own" / "takeover.sock"
    async with giving(path) as giver:
        assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
        await apart(lambda: take_over(path))
        await eventually(lambda: len(giver.told) == 2)
        assert giver.told == ["cede", {PLACES[0]}]
    assert not path.exists()


@pytest.mark.gen_test
async def test_a_successor_that_fails_before_it_is_ready_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with giving(tmp_path / "s") as giver:

        def fail() -> None:
            inherited = from_predecessor(str(tmp_path / "s"))
            assert inherited
            inherited.close()

        await apart(fail)
        await eventually(lambda: "has ended before it was ready; this process goes on" in caplog.text)
        assert giver.told == []
        await apart(lambda: take_over(tmp_path / "s"))
        await eventually(lambda: len(giver.told) == 2)


@pytest.mark.gen_test
async def test_a_successor_that_fails_after_it_was_ready_gives_the_sockets_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with giving(tmp_path / "s") as giver:
        giver.memory = {}

        def fail() -> None:
            inherited = from_predecessor(str(tmp_path / "s"))
            assert inherited
            inherited.ready()
            inherited.close()

        await apart(fail)
        await eventually(lambda: giver.told == ["cede", "resume"])
        await eventually(lambda: "before it accepted connections; this process goes on" in caplog.text)


@pytest.mark.gen_test
@pytest.mark.parametrize("said", [b"", b"hello\n", b"take over\nnonsense\n", b"take over"])
async def test_other_talk_gets_no_further(tmp_path: Path, said: bytes) -> None:
    async with giving(tmp_path / "s") as giver:

        def talk() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "s"))
                client.sendall(said)

        await apart(talk)
        await apart(lambda: take_over(tmp_path / "s"))
        await eventually(lambda: giver.told == ["cede", {PLACES[0]}])


@pytest.mark.gen_test
async def test_another_user_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "is_own", lambda sock: False)
    async with giving(tmp_path / "s") as giver:

        def ask() -> Inheritance | None:
            with pytest.raises(CannotTakeOver, match="no sockets are offered"):
                from_predecessor(str(tmp_path / "s"))
            return None

        await apart(ask)
        assert giver.told == []
