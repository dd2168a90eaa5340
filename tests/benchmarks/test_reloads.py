"""The benchmark of reloads: a loop that is held is told, and each change changes all endpoints."""

import asyncio
import json
import time

import pytest
import uvloop

from benchmarks.reloads import (
    BOUND,
    CHANGES,
    Cost,
    Row,
    configuration,
    is_above,
    main,
    measure,
    table,
    timed,
    variables,
)
from tornado_gateway.config.difference import difference
from tornado_gateway.config.load import load_settings


def test_the_delay_is_the_longest_time_that_the_loop_is_held() -> None:
    async def holds() -> None:
        time.sleep(0.01)  # holds the event loop, which is what is measured
        await asyncio.sleep(0)
        time.sleep(0.03)

    cost = asyncio.run(timed(holds))
    assert cost.delay > 0.025
    assert cost.seconds >= 0.04


@pytest.mark.parametrize("change", CHANGES)
def test_a_turn_changes_every_service(change: str) -> None:
    before, after = (load_settings(variables(3, 2, change, turn)) for turn in (0, 1))
    assert before.services != after.services
    told = "; ".join(difference(before, after))
    assert told.count("weight 2") == 6 * (change == "weights")
    assert told.count("added ") == told.count("removed ") == 6 * (change == "endpoints")
    assert told.count("BREAKER_FAILURES") == (change == "settings")


def test_what_is_written_is_read() -> None:
    with configuration(2, 3) as (write, read):
        write("weights", 4)
        environment, _ = read()
        assert [*json.loads(environment["UPSTREAMS"])] == ["service-0", "service-1"]
        assert environment == variables(2, 3, "weights", 4)


def test_a_gateway_and_a_worker_are_measured() -> None:
    rows = uvloop.run(measure(2, 3, rounds=1))
    assert [row.change for row in rows] == [*CHANGES]
    assert all(0 <= cost.delay < 10 and 0 < cost.seconds < 10 for row in rows for cost in (row.alone, row.worker))


def test_the_table_has_milliseconds_and_a_delay_above_the_bound_is_found() -> None:
    low, high = Cost(0.0123, 0.05), Cost(BOUND + 0.001, 0.3)
    rows = [Row(10, 1000, "weights", low, low), Row(10, 1000, "weights", low, high)]
    assert table(rows).splitlines()[2:] == [
        "| 10 | 1,000 | weights | 12.3 | 50.0 | 12.3 | 50.0 |",
        "| 10 | 1,000 | weights | 12.3 | 50.0 | 101.0 | 300.0 |",
    ]
    assert [is_above(row) for row in rows] == [False, True]


def test_the_exit_status_tells_a_delay_above_the_bound(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.reloads.SHAPES", ((1, 1),))
    monkeypatch.setattr("benchmarks.reloads.BOUND", -1.0)
    assert main() == 1
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 2 + len(CHANGES)
    assert printed.err.count("above") == len(CHANGES)
