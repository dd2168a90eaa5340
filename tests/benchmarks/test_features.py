"""The benchmark of features: its arithmetic and its command line. Nothing is timed."""

import jwt
import pytest

from benchmarks import features
from benchmarks.features import FEATURES, SECRET, TOKEN, Result, arguments, exceeded, table
from tornado_gateway.config.load import load_settings


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    result = Result.of([(10.0, 12.0), (20.0, 22.0), (10.0, 30.0), (10.0, 11.5)])
    assert (result.without, result.with_, result.ratio) == (10.0, 17.0, pytest.approx(1.175))
    assert result.spread == (1.15, 1.2)


def test_a_ratio_above_its_bound_is_told() -> None:
    dear, cheap = Result.of([(10.0, 13.0)]), Result.of([(10.0, 3.0)])
    assert exceeded({"token-limit": dear, "shed": cheap, "limit": dear}) == ["token-limit"]
    heading, rule, *lines = table({"shed": cheap, "limit": dear}).splitlines()
    assert len(heading.split("|")) == len(rule.split("|")) == len(lines[0].split("|"))
    assert lines == [
        "| shed | 10.0 | 3.00 | 0.300 | 0.300 to 0.300 | 0.35 |",
        "| limit | 10.0 | 13.0 | 1.300 | 1.300 to 1.300 | - |",
    ]


@pytest.mark.parametrize("name", FEATURES)
def test_the_variables_of_a_feature_are_valid(name: str) -> None:
    load_settings({"UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}', **FEATURES[name].variables})


def test_the_token_is_valid() -> None:
    assert jwt.decode(TOKEN, SECRET, ["HS256"])["sub"] == "ada"


def test_features_are_named_or_all() -> None:
    assert arguments([]).features == []
    assert arguments(["shed", "--rounds", "2"]).features == ["shed"]
    for wrong in (["shade"], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            arguments(wrong)


def test_without_its_programs_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["features"])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(features, "WRK", features.WRK.__class__("no-such-program"))
    assert features.main() == 2
    assert "no-such-program" in capsys.readouterr().err
