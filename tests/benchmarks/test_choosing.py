"""The benchmark of choosing: each state puts the endpoints into the described state. Durations are not tested."""

import random
from collections.abc import Callable

import pytest

from benchmarks.choosing import __main__ as choosing
from benchmarks.choosing.__main__ import ROOM, STATES, endpoint, markdown_table
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.endpoint import Endpoint, LeaseRequest, PickContext
from tornado_gateway.policy.upstream.service import Service

IS_SO: dict[str, Callable[[Endpoint], bool]] = {
    "half failed": lambda each: each.latency.penalty(0.0) > 0,
    "half ejected": lambda each: each.is_ejected,
    "half unhealthy": lambda each: not each.is_admitted,
    "half resting": lambda each: each.latency.rests_until == 60.0,
    "half full": lambda each: each.requests >= ROOM,
    "half joining": lambda each: each.share(0.0, 10.0) < 1.0,
    "all joining": lambda each: each.share(0.0, 10.0) < 1.0,
}


@pytest.mark.parametrize("state", STATES)
def test_the_state_puts_half_or_all_endpoints_into_the_described_state(state: str) -> None:
    service = Service("svc", [*map(endpoint, range(16))], BALANCERS["least_load"](random.Random(1)))
    STATES[state](service)
    count = {"all": 16, "half": 8}[state.partition(" ")[0]]
    is_so = IS_SO.get(state, lambda each: each.available(LeaseRequest(0.0), PickContext()))
    assert (sum(map(is_so, service.endpoints)), len(service.endpoints)) == (count, 16)


def test_the_table_has_a_line_for_each_state_and_a_column_for_each_balancer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "CHOICES", 20)
    heading, rule, *lines = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in markdown_table(40).split("\n")
    )
    assert heading == ["µs", *BALANCERS]
    assert rule == ["---", *["---:"] * len(BALANCERS)]
    assert [cells[0] for cells in lines] == list(STATES)
    assert all(float(cell) > 0 for cells in lines for cell in cells[1:])


@pytest.mark.parametrize("given", ["1", "10001", "-3", "ten", "٣", ""])
def test_an_invalid_number_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        choosing.main(["--endpoints", given])
    assert ended.value.code == 2
    assert f"argument --endpoints: {given!r} is not a whole number from 2 to 10000" in capsys.readouterr().err
