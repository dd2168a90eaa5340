"""Reloads of several workers, as processes: by signal, order or changed file; refused, under load, with crashes."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.support.crews import CLEAN, Crew, await_, crew
from tests.support.processes import memory_of
from tests.support.reloading import write
from tests.support.restarts import Load, service
from tests.test_reload_under_load import GROWTH, PAUSE, configure, growth, growth_told

RELOADS = int(os.environ.get("RELOADS", "3"))


def variables(path: str, **more: str) -> dict[str, str]:
    """The lines of a .env file with one route."""
    return {"ROUTES": json.dumps([{"path": f"/{path}/*", "service": "svc"}]), **more}


class Client:
    """A kept connection to one worker."""

    def __init__(self, gateway: Crew, worker: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        self._connection.sock = gateway.connect_to(worker)

    def ask(self, path: str, method: str = "GET", body: str = "") -> tuple[int, str]:
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        return response.status, response.read().decode()

    def close(self) -> None:
        self._connection.close()

    def knows(self, path: str) -> bool:
        return self.ask(f"/{path}/x")[0] != 404


@contextmanager
def reloadable(folder: Path, **more: str) -> Iterator[tuple[Crew, list[Client]]]:
    write(folder / ".env", variables("one", **more))
    with crew(folder=folder, SHUTDOWN_TIMEOUT_MS="2000") as gateway, ExitStack() as stack:
        yield gateway, [stack.enter_context(closing(Client(gateway, each))) for each in gateway.workers]


def test_every_worker_changes_by_a_signal_and_by_an_order(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    with reloadable(tmp_path) as (gateway, clients):
        write(file, variables("two", EVENT_LOOP="asyncio"))
        gateway.send(signal.SIGHUP)
        gateway.hears("route /one/*: removed")
        assert [(each.knows("one"), each.knows("two")) for each in clients] == [(False, True)] * 2
        assert gateway.log.count("a restart is needed for the new values of EVENT_LOOP") == 1

        write(file, variables("three"))
        status, text = clients[1].ask("/admin/api/reload", "POST", "{}")
        assert (status, "route /three/*: new" in text) == (200, True)
        assert [(each.knows("two"), each.knows("three")) for each in clients] == [(False, True)] * 2
        assert gateway.log.count("reloaded: ") == 2


def test_no_worker_changes_by_a_wrong_file_and_a_later_one_begins_with_what_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    with reloadable(tmp_path) as (gateway, clients):
        write(file, variables("two"))
        assert clients[0].ask("/admin/api/reload", "POST", "{}")[0] == 200
        write(file, variables("three", BREAKER_FAILURES="many"))
        status, text = clients[1].ask("/admin/api/reload", "POST", "{}")
        assert (status, "BREAKER_FAILURES" in text, ".env:2" in text) == (422, True, True)
        gateway.hears("not reloaded, the old configuration stays")
        before = gateway.workers
        os.kill(before[0], signal.SIGKILL)
        gateway.is_ready()
        (newcomer,) = set(gateway.workers) - set(before)
        with closing(Client(gateway, newcomer)) as late:
            known = [[each.knows(path) for path in ("one", "two", "three")] for each in (clients[1], late)]
        assert known == [[False, True, False]] * 2


def test_all_workers_change_when_a_file_has_changed(tmp_path: Path) -> None:
    with reloadable(tmp_path, RELOAD_WATCH="true") as (gateway, clients):
        write(tmp_path / ".env", variables("two", RELOAD_WATCH="true"))
        gateway.hears("route /two/*: new")
        assert [each.knows("two") for each in clients] == [True, True]


def test_ctl_reloads_all_workers(tmp_path: Path) -> None:
    path = f"{tmp_path}/own/ctl"
    with reloadable(tmp_path, CTL_SOCKET=path) as (_, clients):
        write(tmp_path / ".env", variables("two", CTL_SOCKET=path))
        command = [sys.executable, "-m", "tornado_gateway", "ctl", "reload"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, env=CLEAN, check=False)
        assert done.returncode == 0, done.stderr
        assert [each.knows("two") for each in clients] == [True, True]


def test_a_worker_that_ends_during_a_reload_comes_back_with_the_new_configuration(tmp_path: Path) -> None:
    with reloadable(tmp_path) as (gateway, clients):
        first, second = gateway.workers
        os.kill(second, signal.SIGSTOP)  # prepares nothing, so that the reload waits
        write(tmp_path / ".env", variables("two"))
        gateway.send(signal.SIGHUP)
        assert clients[0].knows("one")
        os.kill(second, signal.SIGKILL)
        gateway.hears("reloaded: ")
        gateway.is_ready()
        (newcomer,) = set(gateway.workers) - {first}
        with closing(Client(gateway, newcomer)) as late:
            assert [(each.knows("one"), each.knows("two")) for each in (clients[0], late)] == [(False, True)] * 2
        assert gateway.end() == 0


def test_no_request_is_lost_and_no_stream_ends_while_all_workers_reload(tmp_path: Path) -> None:
    """`tests/long reload` reloads more often under more requests, and shows what was sent."""
    rate, kept, streams = (500, 200, 20) if RELOADS > 4 else (60, 20, 3)

    sizes = []

    async def run() -> Load:
        async with service() as upstream:
            configure(tmp_path / ".env", upstream, 0)
            with crew(folder=tmp_path, UPSTREAMS="", SHUTDOWN_TIMEOUT_MS="2000") as gateway:
                async with Load(gateway.port, rate=rate, kept=kept, streams=streams) as load:
                    for number in range(1, RELOADS + 1):
                        configure(tmp_path / ".env", upstream, number)
                        await asyncio.sleep(PAUSE)
                        gateway.send(signal.SIGHUP)
                        await asyncio.to_thread(await_, lambda n=number: gateway.log.count("reloaded: ") == n)
                        sizes.append(memory_of(gateway.popen.pid))
                await asyncio.to_thread(gateway.end)
                return load

    tally = asyncio.run(run()).tally
    sys.stdout.write(f"{RELOADS} reloads of 2 workers: {tally}; {growth_told(sizes)}\n")
    assert not tally.lost, str(tally)
    assert min(tally.sent[what] for what in ("GET kept", "GET new", "POST kept", "POST new")) > RELOADS, str(tally)
    assert tally.streams == {"events": streams, "WebSocket": streams}  # none came back, because none has ended
    if RELOADS >= 100:
        assert growth(sizes) < 3 * GROWTH, sizes  # of three processes
