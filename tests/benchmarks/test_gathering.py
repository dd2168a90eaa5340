"""The benchmark of figures of all workers: its arithmetic, its gateways and its command line. Nothing is timed."""

import json

import pytest

from benchmarks import gathering
from benchmarks.gathering import Costs, arguments, measure, table, upstreams
from tornado_gateway.config.load import load_settings


def test_the_price_is_what_many_endpoints_add_to_workers_and_not_to_one_process() -> None:
    costs = Costs((0.005, 0.02), (0.01, 0.035))
    assert costs.price == pytest.approx(0.01)
    *rows, _, sentence = table(costs, 1000).splitlines()
    assert rows[2:] == ["| one process | 0.50% | 2.00% |", "| workers | 1.00% | 3.50% |"]
    assert sentence == "The figures of all cost 1.00% of a core; the bound is 2%."


def test_all_endpoints_are_different() -> None:
    settings = load_settings({"UPSTREAMS": upstreams(600)})
    assert len({each.url for each in settings.services[0].endpoints}) == len(json.loads(upstreams(600))["svc"]) == 600


def test_four_gateways_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "SETTLED", 0.0)
    costs = measure(3, 2, 0.01)
    assert all(each >= 0 for pair in costs for each in pair)


def test_wrong_numbers_are_refused() -> None:
    assert vars(arguments([])) == {"endpoints": 1000, "workers": 2, "seconds": 60}
    for wrong in (["--endpoints", "0"], ["--workers", "1"], ["--seconds", "0"]):
        with pytest.raises(SystemExit):
            arguments(wrong)
