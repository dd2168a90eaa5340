"""The benchmark of workers: its arithmetic and its command line. Nothing is timed."""

import pytest

from benchmarks import workers
from benchmarks.workers import arguments, ratio, table


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    rounds = [(10.0, 11.0), (20.0, 30.0), (10.0, 10.5)]
    assert ratio(rounds) == 1.1
    heading, rule, line = table({"kept": rounds}).splitlines()
    assert len(heading.split("|")) == len(rule.split("|")) == len(line.split("|"))
    assert line == "| kept | 10.0 | 11.0 | 1.100 | 1.1 |"


def test_loads_are_named_or_all() -> None:
    assert (arguments([]).loads, arguments([]).workers) == ([], 2)
    assert arguments(["churn", "--workers", "3"]).loads == ["churn"]
    for wrong in (["chum"], ["--rounds", "0"], ["--workers", "1"]):
        with pytest.raises(SystemExit):
            arguments(wrong)


def test_without_its_programs_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["workers"])
    monkeypatch.setattr(workers, "WRK", workers.WRK.__class__("no-such-program"))
    assert workers.main() == 2
    assert "no-such-program" in capsys.readouterr().err
