"""What the simulator must show of each balancer, and that the simulator counts and draws correctly."""

import functools
import itertools
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.balancing import chart
from benchmarks.balancing.__main__ import (
    HEADING,
    SCENARIOS,
    SETTLED,
    TROUBLE,
    arguments,
    markdown_table,
    plot,
    text_table,
)
from benchmarks.balancing.servers import INSTANT, WORKERS, Clock, Phase, Server
from benchmarks.balancing.simulation import RATE, Figures, Scenario, bursts, poisson, simulate
from tornado_gateway.errors import ConnectFailed, UpstreamError, UpstreamReset
from tornado_gateway.policy.upstream.balancing import BALANCERS
from tornado_gateway.policy.upstream.breaker import BreakerConfig
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.upstream.health import HealthConfig, HealthKind
from tornado_gateway.policy.upstream.latency import PENALTY
from tornado_gateway.policy.upstream.retry import CONNECT, RESET, RetryConfig
from tornado_gateway.policy.upstream.service_config import ServiceConfig

NO_BREAKER = BreakerConfig(failures=0)
RETRY_503 = ServiceConfig(retry=RetryConfig(on={CONNECT, RESET, 503}))
FAIR = 1 / 4  # of four endpoints
every_balancer = pytest.mark.parametrize("balancer", BALANCERS)

simulated = functools.cache(simulate)  # figures are only read


def p99(figures: Figures) -> float:
    latency = figures.latency(0.99)
    assert latency is not None
    return latency


class TestClaims:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_with_one_of_four_slow_the_p99_of_peak_ewma_is_five_times_better_than_that_of_round_robin(
        self, seed: int
    ) -> None:
        in_turn = simulated(SCENARIOS["slow"], "round_robin", seed=seed)
        by_latency = simulated(SCENARIOS["slow"], "peak_ewma", seed=seed)
        assert p99(in_turn) >= 5 * p99(by_latency)

    def test_round_robin_does_not_overrun_the_slow_endpoint(self) -> None:
        """If the slow endpoint were overrun, a longer simulation would give any ratio."""
        slow = simulated(SCENARIOS["slow"], "round_robin", seed=1)
        assert max(slow.latencies) < 2.0

    @every_balancer
    def test_a_fast_failing_endpoint_gets_one_percent_at_most_after_a_second(self, balancer: str) -> None:
        figures = simulated(SCENARIOS["failing"], balancer, seconds=25)
        assert figures.share(0, until=TROUBLE) > 0.8 * FAIR
        assert figures.share(0, since=SETTLED) <= 0.01

    @pytest.mark.parametrize("balancer", ["least_load", "two_choices", "peak_ewma"])
    def test_balancers_that_use_latency_avoid_a_fast_failing_endpoint_without_a_breaker(self, balancer: str) -> None:
        figures = simulated(SCENARIOS["failing"], balancer, seconds=25, breaker=NO_BREAKER)
        assert figures.share(0, since=SETTLED) <= 0.01

    @pytest.mark.parametrize("balancer", ["round_robin", "consistent_hash"])
    def test_balancers_that_ignore_latency_need_the_breaker(self, balancer: str) -> None:
        figures = simulated(SCENARIOS["failing"], balancer, seconds=25, breaker=NO_BREAKER)
        assert figures.share(0, since=SETTLED) > 0.8 * FAIR

    @pytest.mark.parametrize("balancer", sorted({*BALANCERS} - {"round_robin"}))
    def test_streams_go_where_none_are(self, balancer: str) -> None:
        figures = simulated(Scenario("", endpoints=2, held=100, streams=2.0), balancer, seconds=20)
        held, others = figures.streams
        assert held == 100
        assert others > 20

    @every_balancer
    def test_requests_still_use_an_endpoint_with_a_hundred_idle_streams(self, balancer: str) -> None:
        figures = simulated(Scenario("", endpoints=2, held=100, streams=2.0), balancer, seconds=20)
        assert figures.share(0) > 1 / 3

    @every_balancer
    def test_streams_do_not_make_requests_slower(self, balancer: str) -> None:
        without = simulated(SCENARIOS["equal"], balancer, seconds=15)
        beside = simulated(SCENARIOS["streams"], balancer, seconds=15)
        assert p99(beside) < 1.2 * p99(without)

    @every_balancer
    @pytest.mark.parametrize("scenario", ["equal", "bursts"])
    def test_equal_endpoints_get_about_as_much(self, scenario: str, balancer: str) -> None:
        figures = simulated(SCENARIOS[scenario], balancer, seconds=20)
        most = 1.25 if balancer == "consistent_hash" else 1.1  # a hundred points on the ring are not quite even
        assert figures.imbalance < most

    @every_balancer
    def test_a_restart_fails_hardly_any_request(self, balancer: str) -> None:
        figures = simulated(SCENARIOS["restarting"], balancer, seconds=80)
        assert figures.share(0, SETTLED, TROUBLE + 10.0) < 0.01
        assert p99(figures) < 0.050
        assert figures.error_share < 0.001

    @every_balancer
    def test_a_restarted_endpoint_gets_its_share_again(self, balancer: str) -> None:
        """30 s after the restart, and 20 s after full speed."""
        assert simulated(SCENARIOS["restarting"], balancer, seconds=80).share(0, since=50.0) > 0.8 * FAIR

    @pytest.mark.parametrize("balancer", sorted({*BALANCERS} - {"round_robin"}))
    def test_a_stall_of_five_seconds_is_felt_by_less_than_one_request_in_a_hundred(self, balancer: str) -> None:
        assert p99(simulated(SCENARIOS["stalling"], balancer, seconds=40)) < 0.050
        assert p99(simulated(SCENARIOS["stalling"], "round_robin", seconds=40)) > 1.0

    @pytest.mark.parametrize(
        ("balancer", "checked"), [*((each, True) for each in BALANCERS), ("least_load", False), ("peak_ewma", False)]
    )
    def test_after_a_full_outage_traffic_goes_at_once_to_the_recovered_endpoint(
        self, balancer: str, checked: bool
    ) -> None:
        """From two seconds after the first endpoint is back until the others are."""
        kind = HealthKind.HTTP if checked else HealthKind.OFF
        checks = HealthConfig(kind=kind, interval=1.0, interval_down=0.5, rise=2)
        figures = simulate(SCENARIOS["outage"], balancer, seconds=45, config=ServiceConfig(health=checks))
        back, others_back = TROUBLE + 5.0, TROUBLE + 20.0
        late = sum(back + 2.0 <= instant < others_back for instant in figures.failed) / (13 * RATE)
        if checked:
            assert figures.share(0, since=back + 2.0, until=others_back - 0.1) == 1.0
            assert late == 0.0
            assert figures.share(0, since=42.0) < 1.5 * FAIR, "the others have their share again"
        else:  # breakers leave half of the endpoints in use, broken or not
            assert figures.share(0, since=back + 2.0, until=others_back) > 0.96
            assert late < 0.04

    def test_the_first_recovered_endpoint_is_not_overrun(self) -> None:
        """The recovered endpoint bears a third of the load: the others get requests too, and it answers in time."""
        weak = (Phase(TROUBLE, fails=True), Phase(TROUBLE + 5.0, speed=0.1))
        others = (Phase(TROUBLE, fails=True),)
        checks = ServiceConfig(health=HealthConfig(kind=HealthKind.HTTP, interval=1.0, interval_down=0.5))
        figures = simulate(Scenario("", weak, others), "least_load", seconds=60, config=checks)
        assert max(figures.latencies) < 3 * PENALTY
        well = len(figures.latencies) - TROUBLE * RATE
        assert well > 0.8 * 45 * WORKERS / (10 * 0.0113), "as many as it can"

    @every_balancer
    @pytest.mark.parametrize(("scenario", "config"), [("restarting", ServiceConfig()), ("failing", RETRY_503)])
    def test_clients_of_idempotent_requests_see_no_error(
        self, scenario: str, config: ServiceConfig, balancer: str
    ) -> None:
        odd = SCENARIOS[scenario].odd
        figures = simulate(Scenario("", odd, repeatable=1.0), balancer, seconds=15, config=config)
        assert figures.service.endpoints[0].errors_total > 0
        assert figures.errors == 0


class TestSimulation:
    def table(self, seed: int) -> str:
        """Short runs of the scenario with the most events."""
        return text_table(
            {
                "restarting": {
                    each: simulate(SCENARIOS["restarting"], each, seed=seed, seconds=13)
                    for each in ("two_choices", "peak_ewma")
                }
            }
        )

    def test_the_same_seed_gives_the_same_table_and_another_seed_another_table(self) -> None:
        table = self.table(7)
        assert table == self.table(7)
        assert table != self.table(8)

    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_each_request_is_counted_once_and_no_lease_is_left(self, scenario: str) -> None:
        figures = simulate(SCENARIOS[scenario], "least_load", seconds=12.0)
        assert figures.asked > 0
        assert len(figures.latencies) + figures.errors == figures.asked
        assert figures.service.inflight == dict.fromkeys(Kind, 0)
        assert all(endpoint.load == 0 for endpoint in figures.service.endpoints)

    def test_requests_that_a_restart_breaks_fail_without_repeatable_methods(self) -> None:
        odd = (Phase(TROUBLE, speed=0.0), Phase(TROUBLE + 1.0, refuses=True))
        figures = simulate(Scenario("", odd, repeatable=0.0), "round_robin", seconds=20)
        assert figures.errors == pytest.approx(RATE * FAIR, rel=0.5), "those that came in the second of the stall"

    def test_bursts_have_the_same_average_rate_with_long_silences(self) -> None:
        seconds = 3_000
        one = list(itertools.takewhile(lambda instant: instant < seconds, poisson(random.Random(1))))
        other = list(itertools.takewhile(lambda instant: instant < seconds, bursts(random.Random(1))))
        assert len(one) == pytest.approx(RATE * seconds, rel=0.02)
        assert len(other) == pytest.approx(RATE * seconds, rel=0.2)
        assert other == sorted(other)
        tenths = {int(10 * instant) for instant in one}, {int(10 * instant) for instant in other}
        assert len(tenths[0]) > 0.99 * 10 * seconds
        assert len(tenths[1]) < 0.2 * 10 * seconds

    def test_figures_of_given_latencies(self) -> None:
        service = simulate(SCENARIOS["equal"], "round_robin", seconds=1).service
        figures = Figures(
            service, 100, [*range(99, 0, -1)], 1, [4.0], [[1.0, 2.0, 3.0], [1.5], [], [2.0, 3.0]], (0, 6, 0, 0)
        )
        assert figures.latency(0.5) == 50
        assert figures.latency(0.99) == 99
        assert figures.error_share == 0.01
        assert figures.imbalance == 2.0
        assert figures.stream_imbalance == 4.0
        assert figures.share(0) == 0.5
        assert figures.share(3, since=2.0) == 0.5
        assert figures.share(1, until=2.0) == 0.5
        nothing = Figures(service, sent=[[], []])
        assert (nothing.latency(0.5), nothing.error_share, nothing.stream_imbalance, nothing.share(0)) == (
            None,
            0,
            None,
            0,
        )


class Asked:
    """A request to a server, and the instants of its answers."""

    def __init__(self, clock: Clock, work: float) -> None:
        self.work = work
        self.answer: tuple[float, int | type[UpstreamError]] | None = None
        self._clock = clock

    def _take(self, answer: int | type[UpstreamError]) -> None:
        assert self.answer is None
        self.answer = self._clock.now, answer

    def on_head(self, status: int) -> None:
        self._take(status)

    def on_failure(self, error: UpstreamError) -> None:
        self._take(type(error))


def answers(
    phases: Sequence[Phase], *asked: tuple[float, float]
) -> list[tuple[float, int | type[UpstreamError]] | None]:
    """The answers of a server to requests of some work at some instants, with their instants."""
    clock = Clock()
    server = Server(clock, phases)
    several = [(at, Asked(clock, work)) for at, work in asked]
    for at, each in several:
        clock.at(at, functools.partial(server.take, each))
    clock.run()
    return [each.answer for _, each in several]


class TestServer:
    @pytest.mark.parametrize(
        ("phases", "at", "work", "answer"),
        [
            ((), 1.0, 2.0, (3.0, 200)),
            ((Phase(5.0, speed=0.5),), 1.0, 2.0, (3.0, 200)),
            ((Phase(5.0, speed=0.5),), 4.0, 2.0, (7.0, 200)),
            ((Phase(5.0, speed=0.5),), 6.0, 2.0, (10.0, 200)),
            ((Phase(5.0, speed=0.5), Phase(6.0, speed=2.0)), 4.0, 4.5, (7.5, 200)),
            ((Phase(5.0, speed=0.0), Phase(8.0)), 4.0, 2.0, (9.0, 200)),
            ((Phase(5.0, speed=0.0), Phase(8.0)), 6.0, 2.0, (10.0, 200)),
            ((Phase(5.0, fails=True),), 6.0, 2.0, (6.0 + INSTANT, 503)),
            ((Phase(5.0, fails=True),), 4.0, 2.0, (6.0, 200)),
            ((Phase(5.0, refuses=True),), 6.0, 2.0, (6.0 + INSTANT, ConnectFailed)),
            ((Phase(5.0, refuses=True), Phase(7.0)), 4.0, 2.0, (5.0, UpstreamReset)),
            ((Phase(5.0, refuses=True), Phase(7.0)), 7.0, 2.0, (9.0, 200)),
        ],
    )
    def test_the_schedule_decides_how_long_work_takes(
        self, phases: tuple[Phase, ...], at: float, work: float, answer: tuple[float, object]
    ) -> None:
        assert answers(phases, (at, work)) == [answer]

    def test_a_request_waits_in_line_while_all_workers_are_busy(self) -> None:
        asked = [(0.0, 1.0)] * (2 * WORKERS + 1)
        found = [answer[0] for answer in answers((), *asked) if answer]
        assert found == [*[1.0] * WORKERS, *[2.0] * WORKERS, 3.0]

    def test_waiting_requests_are_dropped_too(self) -> None:
        asked = [(0.0, 2.0)] * (WORKERS + 1)
        assert answers((Phase(1.0, refuses=True),), *asked) == [(1.0, UpstreamReset)] * len(asked)

    def test_a_schedule_that_ends_in_a_stall_is_wrong(self) -> None:
        with pytest.raises(ValueError, match="stalls"):
            answers((Phase(1.0, speed=0.0),), (0.0, 2.0))


SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> dict[str, float]:
    """The dots of a plot: their meanings and y coordinates."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None and title.text:
            stem = re.fullmatch(r"M[\d.]+ [\d.]+V([\d.]+)", group.findall(f"{SVG}path")[0].attrib["d"])
            assert stem
            found[title.text] = float(stem[1])
    return found


class TestPlot:
    seconds = st.floats(1e-4, 1e3)

    def svg(self, values: dict[str, dict[str, float | None]]) -> str:
        return chart.svg(values, "A < B", "latency", "group")

    def test_each_value_has_a_dot_and_a_missing_value_has_none(self) -> None:
        text = self.svg({"one": {"a": 0.01, "b": 0.02}, "two": {"a": None, "b": 0.04}})
        dots = drawn(text)
        assert list(dots) == ["one, a: 10.0 ms", "one, b: 20.0 ms", "two, b: 40.0 ms"]
        heights = list(dots.values())
        assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2), "a logarithmic axis"

    def test_a_plot_has_title_axes_units_and_legend(self) -> None:
        root = ElementTree.fromstring(self.svg({"one": {"a": 0.01, "b": 0.02}}))
        texts = [each.text for each in root.iter(f"{SVG}text")]
        assert texts == ["A < B", "a", "b", "10 ms", "20 ms", "latency (logarithmic)", "group", "one"]

    @given(seconds, seconds)
    def test_all_dots_are_within_the_plot_and_a_larger_value_is_higher(self, one: float, other: float) -> None:
        dots = list(drawn(self.svg({"one": {"a": one, "b": other}})).values())
        assert all(chart.TOP <= y <= chart.HEIGHT - chart.BOTTOM for y in dots)
        assert dots[0] <= dots[1] or one < other or math.isclose(one, other, rel_tol=0.01)
        assert dots[0] >= dots[1] or one > other or math.isclose(one, other, rel_tol=0.01)

    def test_a_plot_without_values_is_refused(self) -> None:
        with pytest.raises(ValueError):
            self.svg({"one": {"a": None}})

    def test_a_plot_follows_the_page_from_light_to_dark(self) -> None:
        assert "prefers-color-scheme: dark" in self.svg({"one": {"a": 1.0}})


class TestCommand:
    def results(self) -> dict[str, dict[str, Figures]]:
        return {
            name: {"round_robin": simulated(SCENARIOS[name], "round_robin", seconds=5)} for name in ("equal", "streams")
        }

    def test_the_markdown_table_has_a_cell_for_each_heading(self) -> None:
        lines = markdown_table(self.results()).splitlines()
        assert [line.count("|") for line in lines] == [len(HEADING) + 1] * 4
        assert lines[1] == "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        assert lines[2].startswith("| equal | round_robin | 10.")
        assert lines[2].endswith(" | - |")

    def test_the_text_table_is_aligned(self) -> None:
        lines = text_table(self.results()).splitlines()
        assert len({len(line) for line in lines if line}) == 1
        assert [line.split("  ")[0] for line in lines] == ["scenario", "", "equal", "", "streams"]

    def test_the_plot_has_all_scenarios(self) -> None:
        assert [title.split(":")[0] for title in drawn(plot(self.results()))] == [
            "equal, round_robin",
            "streams, round_robin",
        ]

    def test_the_plot_of_the_readme_has_all_scenarios_and_balancers(self) -> None:
        readmes = Path(__file__).parents[2] / "static" / "balancing.svg"
        dots = [title.split(":")[0] for title in drawn(readmes.read_text(encoding="utf-8"))]
        assert dots == [f"{scenario}, {balancer}" for scenario in SCENARIOS for balancer in BALANCERS]

    def test_no_argument_is_needed(self) -> None:
        options = arguments([])
        assert (options.seed, options.seconds, options.markdown, options.svg) == (1, 60, False, None)

    @pytest.mark.parametrize(
        "argv",
        [["--seconds", "19"], ["--seconds", "601"], ["--seconds", "x"], ["--seed", "x"], ["--svg", "/"], ["equal"]],
    )
    def test_an_invalid_argument_ends_the_program(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            arguments(argv)
        assert argv[-1] in capsys.readouterr().err

    def test_a_plot_is_written_to_a_file(self, tmp_path: Path) -> None:
        assert arguments(["--svg", str(tmp_path / "chart.svg")]).svg == tmp_path / "chart.svg"
