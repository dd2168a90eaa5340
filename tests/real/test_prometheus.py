"""A real Prometheus reads the gateway, and promtool is content with the metrics, the alert rules and the dashboard.

Debian's prometheus, which has promtool, is installed by tests/run.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.everything import everything
from tests.support.figures import whole
from tests.support.prometheus import Prometheus, promtool
from tests.support.websockets import gateway
from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "tornado-gateway.json").read_text(encoding="utf-8"))

_SERIES = re.compile(r"\b((?:gateway|process|python)_\w+|up)\b(?=\s*[{\[)>=<*/]|\s*$)", re.MULTILINE)
_MATCHERS = re.compile(r"\{[^}]*\}")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left)\s*\([^)]*\)")


def exposition() -> str:
    """A scrape in which every metric has a series."""

    def collect() -> Steps[State]:
        yield
        return everything()

    return whole(Metrics(collect).steps(is_open=False))[0].decode()


def series() -> set[str]:
    """The names of all series that a scrape may have, with `up`, which Prometheus adds."""
    text = exposition()
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples} | {"up"}


def expressions(of: Any) -> Iterator[str]:
    """All expressions and label queries in the dashboard."""
    if isinstance(of, dict):
        for key, value in of.items():
            if key in ("expr", "definition"):
                yield value
            yield from expressions(value)
    elif isinstance(of, list):
        for each in of:
            yield from expressions(each)


def rule_expressions() -> list[str]:
    """The expressions of the alert rules; promtool has read the file as YAML."""
    text = (RULES / "alerts.yml").read_text(encoding="utf-8")
    return re.findall(r"expr: (?:\|\n)?(.*?)\n *(?:for|labels):", text, re.DOTALL)


def names(expression: str) -> set[str]:
    """The names of the series in an expression.

    >>> sorted(names('sum by (job) (rate(gateway_a_total{x="1"}[5m])) / up == 0'))
    ['gateway_a_total', 'up']
    """
    bare = _GROUPING.sub("", _MATCHERS.sub("{}", expression)).replace("label_values(", "(").replace(", ", " ) ")
    return set(_SERIES.findall(bare))


def unknown(found: Iterator[str] | list[str]) -> list[str]:
    """Violations: expressions with a name that no series has, and expressions without any name."""
    known = series()
    return [each for each in found if not names(each) or names(each) - known]


def test_promtool_is_content_with_the_metrics() -> None:
    assert promtool("check", "metrics", stdin=exposition().encode()) == ""


def test_promtool_is_content_with_a_scrape_of_a_running_gateway() -> None:
    with gateway({"svc": "http://127.0.0.1:1"}) as port:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert promtool("check", "metrics", stdin=answer.read()) == ""


def test_the_configuration_and_the_alert_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=RULES)


def test_each_alert_rule_fires_when_it_should_and_no_earlier() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml", cwd=RULES)


def test_each_alert_rule_is_tested() -> None:
    rules = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text(encoding="utf-8"))
    tests = (RULES / "alerts_test.yml").read_text(encoding="utf-8")
    fired = {name for name, expected in re.findall(r"alertname: (\w+)\n +exp_alerts:(.*)\n", tests) if not expected}
    assert len(rules) > 10
    assert set(rules) == fired


def test_the_alert_rules_name_metrics_of_the_gateway() -> None:
    found = rule_expressions()
    assert len(found) > 10
    assert unknown(found) == []


def test_the_dashboard_names_metrics_of_the_gateway() -> None:
    found = list(expressions(DASHBOARD))
    assert len(found) > 40
    assert unknown(found) == []


def test_the_dashboard_shows_every_metric_of_the_gateway() -> None:
    """A metric is shown by any of its series; an information is shown by no chart."""
    shown = {name for each in expressions(DASHBOARD) for name in names(each)}
    families = {
        family.name: {sample.name for sample in family.samples}
        for family in text_string_to_metric_families(exposition())
        if family.name.startswith("gateway_")
    }
    missing = {name for name, its in families.items() if not its & shown}
    # Both are of the family of gateways that this gateway belongs to; others show the same by service.
    assert missing == {"gateway_http_request_duration_seconds", "gateway_websocket_connections"}


def test_the_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    """As rules, since promtool checks rules alone. Grafana fills in the variables."""
    filled = [
        re.sub(r"\$(?:job|instance|service)\b", ".*", each.replace("$__rate_interval", "5m"))
        for each in expressions(DASHBOARD)
        if not each.startswith("label_values")
    ]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(filled)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")  # YAML reads JSON
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", file)


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    places = [
        (column, line)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(column for column, _ in places) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize(
    ("expression", "is_known"),
    [
        ("rate(gateway_shed_total[5m])", True),
        ("gateway_shed", False),
        ("sum by (gateway_nothing) (gateway_panic == 1)", True),
        ("gateway_panic / gateway_nothing", False),
        ("label_values(gateway_panic, service)", True),
        ("1 + 1", False),
    ],
)
def test_a_name_that_no_series_has_is_found(expression: str, is_known: bool) -> None:
    assert (unknown([expression]) == []) is is_known


def test_a_prometheus_scrapes_the_gateway(tmp_path: Path) -> None:
    with gateway({"svc": "http://127.0.0.1:1"}) as port:
        with pytest.raises(urllib.error.HTTPError, match="502"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/svc/x")
        prometheus = Prometheus(tmp_path, port)
        try:
            prometheus.wait_for('up{job="tornado-gateway"}', 1.0)
            prometheus.wait_for("gateway_build_info", 1.0)
            prometheus.wait_for('gateway_service_requests_total{service="svc",status_class="5xx"}', 1.0)
            prometheus.wait_for('gateway_failed_requests_total{reason="connect_failed"}', 1.0)
            (target,) = prometheus.get("targets")["activeTargets"]
            assert target["lastError"] == ""
            kinds = {each["metric"]: each["type"] for each in prometheus.get("targets/metadata", match_target="{}")}
        finally:
            prometheus.stop()
    families = {each.name: each.type for each in text_string_to_metric_families(exposition())}
    ours = {name: kind for name, kind in kinds.items() if name.startswith("gateway_")}
    assert ours == {name: kind for name, kind in families.items() if name.startswith("gateway_")}
