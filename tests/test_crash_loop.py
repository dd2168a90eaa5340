"""A worker that cannot start any more: the others serve, each start comes later than the one before, and one suffices
once the cause is gone."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import trustme

from tests.support.crews import Crew, await_, crew
from tests.support.restarts import Load, service

CRASHES = int(os.environ.get("CRASHES", "2"))


async def loop(gateway: Crew, file: Path) -> Load:
    """Kill a worker whose successors cannot start until they have crashed some times; return the load meanwhile."""
    good = file.read_bytes()
    file.write_text("no certificate")
    os.kill(gateway.workers[0], signal.SIGKILL)
    await asyncio.to_thread(gateway.hears, "SIGKILL")
    rate, kept, streams = (200, 40, 10) if CRASHES > 4 else (50, 10, 2)
    async with Load(gateway.port, rate=rate, kept=kept, streams=streams) as load:
        await asyncio.to_thread(await_, lambda: gateway.log.count("has ended with exit code 1") == CRASHES)
        file.write_bytes(good)
        await asyncio.to_thread(gateway.is_ready)
    return load


def test_a_worker_in_a_crash_loop_costs_the_others_nothing_and_the_log_little(tmp_path: Path) -> None:
    """`tests/long workers` lets the worker crash more often under more requests, and shows what was sent."""
    file = tmp_path / "authorities.pem"
    trustme.CA().cert_pem.write_to_path(file)

    async def run() -> Load:
        async with service() as upstream:
            upstreams = {"svc": [f"http://127.0.0.1:{upstream}"], "secure": ["https://localhost:1"]}
            variables = {"UPSTREAMS": json.dumps(upstreams), "UPSTREAM_TLS_CA_FILE": str(file), "LOG_FORMAT": "json"}
            with crew(folder=tmp_path, **variables) as gateway:
                lines = gateway.log.count("\n")
                load = await loop(gateway, file)
                said = [json.loads(each) for each in gateway.log.splitlines()[lines:]]
                delays = [f"another starts in {0.5 * 2**number:.1f} s" for number in range(CRASHES)]
                ends = [each["message"] for each in said if "exit code" in each["message"]]
                assert [end.rpartition("; ")[2] for end in ends] == delays
                assert len(said) == 2 + 2 * CRASHES, said  # the kill, the cause and the end of each crash, the start
                return load

    tally = asyncio.run(run()).tally
    sys.stdout.write(f"{CRASHES} crashes of a worker: {tally}\n")
    assert not tally.lost, str(tally)
