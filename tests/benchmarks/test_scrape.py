"""The benchmark of a scrape: every step is counted once, and a slice ends with the step that fills the slice."""

import pytest

from benchmarks.scrape import main, make_metrics, measure, slices, timed
from tests.support.figures import whole
from tornado_gateway.upkeep.shared import SLICE


def test_each_step_is_in_one_slice() -> None:
    steps = [SLICE / 4] * 10
    assert [*slices(steps)] == pytest.approx([SLICE, SLICE, SLICE / 2])
    assert [*slices([])] == []


def test_a_scrape_is_timed_step_by_step() -> None:
    metrics = make_metrics(2, 3)
    steps, size = timed(metrics.steps(is_open=False))
    text, _ = whole(metrics.steps(is_open=False))
    assert len(steps) > 5
    assert text.count(b'gateway_upstream_up{endpoint="http://10.0.0.') == 6
    assert abs(size - len(text)) < 200  # figures of the process differ


def test_the_cheapest_round_counts() -> None:
    cost = measure(1, 2, rounds=2)
    assert 0 <= cost.longest <= cost.seconds + 1e-5
    assert cost.size > 1000


def test_the_table_has_a_row_for_each_shape(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.scrape.SHAPES", ((1, 1), (2, 1)))
    main()
    assert capsys.readouterr().out.count("\n") == 4
