"""docs/observability.md and what the gateway shows: the same metrics with the same types and labels, the same keys."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.everything import everything
from tests.support.figures import snapshot, whole
from tornado_gateway.adapters.prometheus import Metrics
from tornado_gateway.policy.views.state import State
from tornado_gateway.policy.views.steps import Steps

PAGE = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")
_CODE = re.compile(r"`([^`]+)`")

Shown = dict[str, tuple[str, frozenset[str]]]  # type and labels of metrics, by name


def rows(header: str) -> Iterator[list[str]]:
    """The cells of the rows of all tables with this header."""
    for table in PAGE.split(f"| {header} |\n")[1:]:
        for line in table.splitlines()[1:]:
            if not line.startswith("| "):
                break
            yield [cell.strip() for cell in line.strip("|").split("|")]


def documented() -> Shown:
    found: Shown = {}
    for name, kind, labels, _ in rows("metric | type | labels | meaning"):
        found[name.strip("` ")] = (kind, frozenset(_CODE.findall(labels)))
    return found


def shown(*, endpoint_histograms: bool) -> Shown:
    def collect() -> Steps[State]:
        yield
        return everything()

    text, _ = whole(Metrics(collect, endpoint_histograms=endpoint_histograms).steps(is_open=False))
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            frozenset(name for sample in family.samples for name in sample.labels) - {"le"},
        )
        for family in text_string_to_metric_families(text.decode())
        if family.name.startswith("gateway_")
    }


def test_the_metrics_of_the_document_are_the_metrics_of_the_gateway() -> None:
    assert shown(endpoint_histograms=False) == documented()


def test_with_histograms_of_endpoints_one_metric_has_another_type() -> None:
    changed = {"gateway_upstream_head_seconds": ("histogram", frozenset({"service", "endpoint"}))}
    assert shown(endpoint_histograms=True) == {**documented(), **changed}


@pytest.mark.parametrize("whose", ["service", "endpoint"])
def test_each_key_of_the_document_is_a_key_of_the_statistics(whose: str) -> None:
    of_service: dict[str, Any] = snapshot(everything(), 0.0)["services"]["one"]
    keys = of_service if whose == "service" else of_service["upstreamDetails"][0]
    named = {name for cells in rows(f"key of {'a service' if whose == 'service' else 'an endpoint'} | meaning")
             for name in _CODE.findall(cells[0])}  # fmt: skip
    assert named
    assert named <= set(keys)
    also = {"url", "upstreams", "healthy", "avgLatencyMs", "rps", "errorRate", "upstreamDetails"}
    assert set(keys) - named <= also
