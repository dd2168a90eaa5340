"""Two workers, as processes: what is made in one is read from the other, whichever worker a client meets."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.crews import Crew, await_, crew
from tests.test_workers import Pinned


class Both:
    """A gateway of two workers, and a client of each."""

    def __init__(self, gateway: Crew, clients: list[Pinned]) -> None:
        self.gateway, self.clients = gateway, clients

    def said(self, worker: int, path: str) -> Any:
        """What a worker says, as JSON."""
        status, text = self.clients[worker].ask("GET", path)
        assert status == 200, text
        return json.loads(text)

    def order(self, worker: int, path: str, **said: object) -> Any:
        """The answer of a worker to an order."""
        status, text = self.clients[worker].ask("POST", path, json.dumps(said))
        assert status == 200, text
        return json.loads(text)


@contextmanager
def both(folder: Path, **variables: str) -> Iterator[Both]:
    with crew(folder=folder, **variables) as gateway, contextlib.ExitStack() as stack:
        clients = [Pinned(gateway, each) for each in gateway.workers]
        for each in clients:
            stack.callback(each.close)
        yield Both(gateway, clients)


def test_a_log_level_reaches_all_workers_their_supervisor_and_later_workers(tmp_path: Path) -> None:
    with both(tmp_path) as pair:
        pair.order(0, "/admin/api/log-level", level="error")
        assert pair.said(1, "/admin/api/log-level") == {"level": "error"}
        before = pair.gateway.workers
        os.kill(before[1], signal.SIGKILL)
        pair.gateway.hears("another starts")
        await_(lambda: len(set(pair.gateway.workers) - set(before)) == 1)
        (newcomer,) = set(pair.gateway.workers) - set(before)
        with contextlib.closing(Pinned(pair.gateway, newcomer)) as late:
            assert late.ask("GET", "/admin/api/log-level") == (200, '{"level": "error"}\n')
        assert pair.gateway.log.count("accepts connections") == 2  # the supervisor's line of the newcomer is no error
