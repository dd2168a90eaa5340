"""The benchmarks' arithmetic and parsers. Nothing is started or timed here.

Their streams, which must also be right, are in test_streams.py.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.cost import __main__ as command
from benchmarks.cost import binaries
from benchmarks.cost.loads import (
    BROWSER_FIELDS,
    POSTING,
    VARIED,
    Requests,
    Sample,
    Streams,
    WrkReport,
    parse_duration,
    parse_report,
    parse_wrk,
)
from benchmarks.cost.nginx import CONNECTIONS, configuration
from benchmarks.cost.peers import PEERS
from benchmarks.cost.report import (
    Row,
    additions,
    as_json,
    comparisons,
    latency,
    markdown_table,
    number,
    rows,
    text_table,
)
from benchmarks.cost.scenarios import PER_CONNECTION, PER_REQUEST, SCENARIOS
from benchmarks.cost.session import Plan, peers_of
from benchmarks.cost.stream_load import Report
from benchmarks.cost.upstream import BODY_BYTES
from benchmarks.processes import ProcessStat, parse_resident, parse_stat
from benchmarks.programs import Program

WRK_OUTPUT = """\
Running 4s test @ http://127.0.0.1:34567/api/svc/small
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.29ms  411.20us   9.75ms   91.67%
    Req/Sec    49.71k     2.20k   54.64k    64.55%
  Latency Distribution
     50%    1.23ms
     75%    1.41ms
     90%    1.66ms
     99%    2.10s
  198840 requests in 4.00s, 79.47MB read
Requests/sec:  49704.12
Transfer/sec:     19.86MB
"""
SOCKET_ERRORS = "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
STATUS_ERRORS = "  Non-2xx or 3xx responses: 50000\n"
NO_LATENCY = """\
  1 threads and 2 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.00us    0.00us   0.00us    -nan%
  0 requests in 1.00s, 0.00B read
Requests/sec:      0.00
Transfer/sec:       0.00B
"""


def stat_line(name: str) -> str:
    return f"4711 ({name}) S 1 4700 4690 0 -1 4194560 900 8 7 6 120 34 5 1 20 0 1 0 99 1024 256 18446744073709551615"


@pytest.mark.parametrize("name", ["nginx", "python -m (gw)", "a) S 1 2 3 (b", ") )", "(", ""])
def test_a_process_name_may_hold_spaces_and_parentheses(name: str) -> None:
    assert parse_stat(stat_line(name)) == ProcessStat(session=4690, ticks=120 + 34 + 5 + 1)


@pytest.mark.parametrize(
    ("status", "kib"),
    [
        ("Name:\tVmRSS: 9 kB\nVmHWM:\t   20000 kB\nVmRSS:\t   13844 kB\nThreads:\t1\n", 13844),
        ("State:\tZ (zombie)\n", 0),
    ],
)
def test_resident_memory_is_none_for_a_zombie(status: str, kib: int) -> None:
    assert parse_resident(status) == kib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("850.00us", 850e-6), ("1.23ms", 1.23e-3), ("2.1s", 2.1), ("3s", 3.0), ("1.50m", 90.0), ("0.50h", 1800.0)],
)
def test_wrk_durations_become_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "1.2", "1.2k", "-nan", "1.2.3s", "1ms "])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_a_wrk_report_is_read() -> None:
    assert parse_wrk(WRK_OUTPUT) == WrkReport(requests=198840, rate=49704.12, p50=1.23e-3, p99=2.1, errors=0)


@pytest.mark.parametrize(
    ("lines", "errors"),
    [(SOCKET_ERRORS, 4321), (STATUS_ERRORS, 50000), (SOCKET_ERRORS + STATUS_ERRORS, 54321)],
)
def test_errors_of_every_kind_are_added(lines: str, errors: int) -> None:
    assert parse_wrk(WRK_OUTPUT.replace("Requests/sec", lines + "Requests/sec")).errors == errors


def test_a_report_without_answers_has_no_latency() -> None:
    assert parse_wrk(NO_LATENCY) == WrkReport(requests=0, rate=0.0, p50=None, p99=None, errors=0)


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:9 Connection refused\n"])
def test_an_invalid_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no report"):
        parse_wrk(text)


REPORT = Report(
    done=1000, seconds=2.0, cpu_seconds=0.01, grown_kib=64, p50=1e-4, p99=2e-4, errors=1, first_fault="status 502"
)


def test_the_last_line_of_a_load_of_streams_is_its_report() -> None:
    assert parse_report("a warning\n" + json.dumps(asdict(REPORT)) + "\n") == REPORT


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):\nOSError\n", "7\n", '{"done": 7}\n'])
def test_what_a_load_of_streams_says_instead_of_a_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no report"):
        parse_report(text)


def sample(cost: float, p50: float | None = 0.001, errors: int = 0) -> Sample:
    return Sample(cost=cost, done=1000, rate=1e6 / cost, p50=p50, p99=0.002, errors=errors, resident_kib=9000)


def samples(*costs: float) -> list[Sample]:
    return [sample(cost) for cost in costs]


@pytest.mark.parametrize(
    ("gateway", "cost", "ratio"),
    [([20.0], 20.0, 2.0), ([90.0, 20.0, 10.0], 20.0, 2.0), ([10.0, 20.0], 15.0, 1.5)],
)
def test_the_medians_are_compared(gateway: Sequence[float], cost: float, ratio: float) -> None:
    found = {row.peer: row for row in rows("http", {"gateway": samples(*gateway), "nginx": samples(9.0, 10.0, 40.0)})}
    assert (found["gateway"].cost, found["gateway"].ratio, found["nginx"].ratio) == (cost, ratio, 1.0)


def test_without_nginx_there_is_no_ratio() -> None:
    assert [row.ratio for row in rows("http", {"gateway": samples(20.0), "nginx": []})] == [None]


def test_errors_of_all_rounds_are_added() -> None:
    (row,) = rows("http", {"nginx": [sample(10.0, errors=3), sample(11.0), sample(12.0, errors=4)]})
    assert row.errors == 3 + 4


def test_a_run_without_latency_does_not_spoil_the_others() -> None:
    (row,) = rows("http", {"nginx": [sample(10.0, p50=None), sample(10.0, p50=0.003)]})
    assert row.p50 == pytest.approx(0.003)
    (row,) = rows("http", {"nginx": [sample(10.0, p50=None)]})
    assert row.p50 is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.50"), (14.32, "14.3"), (159.4, "159"), (20479.6, "20,480"), (None, "-")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(60e-6, "60.0 µs"), (999e-6, "999 µs"), (0.001, "1.00 ms"), (0.322, "322 ms"), (1.0, "1.00 s"), (None, "-")],
)
def test_latencies_are_in_the_unit_that_suits_them(seconds: float | None, text: str) -> None:
    assert latency(seconds) == text


ROWS = [
    Row("http", "gateway", 21.04, 1.5, 41234.5, 0.00123, 0.0021, 0),
    Row("http", "nginx", 14.02, 1.0, 61234.5, 0.00085, 0.0015, 0),
    Row("churn", "gateway", 70.0, None, 9876.0, None, None, 1200),
]


def test_the_text_table_is_aligned() -> None:
    assert text_table(PER_REQUEST, ROWS).splitlines() == [
        "scenario  proxy    CPU µs per request  ratio to nginx  requests/s      p50      p99  errors",
        "",
        "http      gateway                21.0            1.50      41,234  1.23 ms  2.10 ms       0",
        "http      nginx                  14.0            1.00      61,234   850 µs  1.50 ms       0",
        "",
        "churn     gateway                70.0               -       9,876        -        -   1,200",
    ]


def test_the_markdown_table_shows_the_gateway_in_bold() -> None:
    assert markdown_table(PER_REQUEST, ROWS[:2]).splitlines() == [
        "| scenario | proxy | CPU µs per request | ratio to nginx | requests/s | p50 | p99 | errors |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| **http** | **gateway** | **21.0** | **1.50** | **41,234** | **1.23 ms** | **2.10 ms** | **0** |",
        "| http | nginx | 14.0 | 1.00 | 61,234 | 850 µs | 1.50 ms | 0 |",
    ]


def test_idle_connections_have_no_latency() -> None:
    row = Row("idle-ws", "gateway", 7.9, 0.45, 3171.0, None, None, 0)
    assert markdown_table(PER_CONNECTION, [row]).splitlines() == [
        "| scenario | proxy | KiB per idle connection | ratio to nginx | opened/s | errors |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| **idle-ws** | **gateway** | **7.90** | **0.45** | **3,171** | **0** |",
    ]
    assert "p50" not in text_table(PER_CONNECTION, [row])


def test_json_holds_the_medians_and_every_run() -> None:
    results = {"http": {"gateway": samples(20.0, 30.0), "nginx": samples(10.0), "haproxy": []}}
    http = json.loads(json.dumps(as_json({"http": "CPU µs per request"}, results)))["http"]
    assert http["unit"] == "CPU µs per request"
    assert list(http["peers"]) == ["gateway", "nginx"]
    assert http["peers"]["gateway"]["ratio"] == pytest.approx(2.5)
    assert [run["cost"] for run in http["peers"]["gateway"]["runs"]] == [20.0, 30.0]


def test_only_proxies_that_keep_a_log_are_compared_with_one() -> None:
    assert peers_of("http-log", command.BY_DEFAULT) == ["gateway", "nginx"]
    assert peers_of("http", ["aiohttp", "nginx"]) == ["aiohttp", "nginx"]


def test_only_proxies_with_a_cache_are_compared_with_a_cache() -> None:
    for name in ("cache-hit", "cache-miss", "cache-pass", "cache-post"):
        assert peers_of(name, command.BY_DEFAULT) == ["gateway", "nginx"]
    assert peers_of("cache-entry", list(PEERS)) == ["gateway"]


def test_only_proxies_that_speak_tls_are_compared_with_tls() -> None:
    for name in ("tls", "tls-handshake", "tls-resumed"):
        assert peers_of(name, command.BY_DEFAULT) == ["gateway", "nginx"]


def test_a_scenario_stands_beside_one_with_the_same_unit() -> None:
    for each in SCENARIOS.values():
        assert not each.beside or SCENARIOS[each.beside].unit is each.unit


def test_a_cost_is_compared_with_the_scenario_beside() -> None:
    def costs(**of: float) -> dict[str, list[Sample]]:
        return {peer: [Sample(cost, 1, 1.0, None, None, 0, 0)] for peer, cost in of.items()}

    results = {
        "kib": costs(gateway=10.0, nginx=4.0),
        "cache-hit": costs(gateway=5.0, nginx=3.0),
        "http": costs(aio=1),
    }
    assert comparisons(results, {"cache-hit": "kib", "cache-miss": "kib"}) == [
        "cache-hit as a ratio to kib: gateway 0.50, nginx 0.75"
    ]
    assert comparisons({"cache-hit": costs(gateway=5.0)}, {"cache-hit": "kib"}) == []


def test_what_tls_adds_is_compared_with_what_it_adds_to_nginx() -> None:
    results = {
        "http": {"gateway": samples(40.0), "nginx": samples(20.0)},
        "tls": {"gateway": samples(60.0), "nginx": samples(30.0)},
    }
    assert additions(results, {"tls": "http"}) == [
        "tls adds to http: gateway 20.0 (2.00 times nginx), nginx 10.0 (1.00 times nginx)"
    ]
    without = {name: {"gateway": peers["gateway"]} for name, peers in results.items()}
    assert additions(without, {"tls": "http"}) == ["tls adds to http: gateway 20.0"]
    assert additions({"tls": results["tls"]}, {"tls": "http"}) == []


def test_each_request_of_a_varied_load_is_another() -> None:
    assert "count = count + 1" in VARIED
    assert (VARIED % 7).count("?7.") == 1


def test_a_load_of_posts_posts_its_json() -> None:
    bodies = {load.posts for each in SCENARIOS.values() if isinstance(load := each.load, Requests) and load.posts}
    assert bodies
    for body in bodies:
        assert json.loads(body) and "'" not in body
        assert f"wrk.body = '{body}'" in POSTING % body


def test_every_scenario_asks_for_what_the_upstream_serves() -> None:
    paths = {scenario.load.path for scenario in SCENARIOS.values() if isinstance(scenario.load, Requests)}
    assert paths <= BODY_BYTES.keys()


def test_every_stream_finds_a_connection_on_both_sides_of_nginx() -> None:
    most = max(scenario.load.connections for scenario in SCENARIOS.values() if isinstance(scenario.load, Streams))
    assert most == 4000
    assert 2 * most < CONNECTIONS
    assert f"worker_connections {CONNECTIONS};" in configuration("", access_log=False)


def test_as_many_fields_are_sent_as_the_table_says() -> None:
    names = {field.partition(": ")[0] for field in BROWSER_FIELDS}
    assert f"{len(names)} request header fields" in SCENARIOS["http"].about


@pytest.mark.parametrize(("access_log", "line"), [(True, "access_log access.log;"), (False, "access_log off;")])
def test_nginx_logs_when_asked(access_log: bool, line: str) -> None:
    text = configuration("    server { }", access_log)
    assert line in text
    assert "    server { }" in text


def test_proxies_of_wheels_get_the_routes_of_both_services(tmp_path: Path) -> None:
    ports = {"svc": 1111, "streams": 2222}
    for settings in (
        binaries.envoy("127.0.0.1", 80, ports, "/api/svc/"),
        binaries.traefik("127.0.0.1", ports, "/api/svc/"),
        binaries.caddy("127.0.0.1", 80, ports, "/api/svc/", 256),
    ):
        text = json.dumps(settings)
        for part in ("1111", "2222", "/api/svc", "/sse/streams", "/ws/streams"):
            assert part in text, (part, text)


def test_a_program_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Program("no-such-program").is_installed
    assert Program("no-such-program").remedy.endswith("(Debian: apt-get install no-such-program)")
    assert Program("no-such-program", is_wheel=True).remedy.endswith("(pip install -r requirements-bench.txt)")
    assert Program(Path(sys.executable).name).is_installed  # beside this Python


def test_the_command_line_names_scenarios_peers_and_bounds() -> None:
    options = command.arguments(["http", "churn", "--peers", "nginx,gateway,nginx", "--rounds", "5", "--seconds", "2"])
    assert vars(options) == {
        "scenarios": ["http", "churn"],
        "peers": ["nginx", "gateway"],
        "rounds": 5,
        "seconds": 2,
        "json": None,
        "markdown": False,
    }


def test_without_arguments_everything_is_measured() -> None:
    options = command.arguments([])
    assert (options.scenarios, options.peers, options.rounds, options.seconds) == ([], command.BY_DEFAULT, 3, None)
    assert set(PEERS) - {*command.BY_DEFAULT} == {"watched"}


@pytest.mark.parametrize(
    "argv",
    [
        ["sse2"],
        ["--peers", "gateway,apache"],
        ["--peers", ""],
        ["--rounds", "0"],
        ["--rounds", "51"],
        ["--seconds", "61"],
    ],
)
def test_a_wrong_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.arguments(argv)
    assert ended.value.code == command.CANNOT_RUN
    assert "error:" in capsys.readouterr().err


def test_a_failed_or_faulty_run_is_told_by_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(["http"], ["nginx"], rounds=2, seconds=None, proxy_core=0, load_core=1)
    assert command.verdict(plan, {"http": {"nginx": samples(10.0, 11.0)}}) == command.SUCCESS
    assert command.verdict(plan, {"http": {"nginx": samples(10.0)}}) == command.INCOMPLETE
    assert command.verdict(plan, {"http": {"nginx": [sample(10.0), sample(11.0, errors=1)]}}) == command.INCOMPLETE
    assert "nginx in http" in capsys.readouterr().err
