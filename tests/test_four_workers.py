"""Four workers, as processes, are one gateway: sums of counters, gauges, figures of the dashboard, and a limit."""

import json
import re
from contextlib import ExitStack, closing
from pathlib import Path

from tests.support.crews import crew
from tests.test_workers import Pinned

LIMIT = 100
ASKED = 130


def value(text: str, name: str, labels: str = "") -> float:
    """The sum of the samples of a metric whose labels contain a text."""
    found = re.findall(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return sum(float(number) for given, number in found if labels in given)


def test_four_workers_are_one_gateway(tmp_path: Path) -> None:
    services = json.dumps({"svc": {"endpoints": ["http://127.0.0.1:1"], "rateLimits": f"{LIMIT}/d"}})
    with crew(folder=tmp_path, workers=4, UPSTREAMS=services) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(closing(Pinned(gateway, each))) for each in gateway.workers]
        assert len(clients) == 4
        statuses = [clients[number % 4].ask("GET", "/api/svc/x")[0] for number in range(ASKED)]
        assert statuses.count(429) == ASKED - LIMIT, statuses
        assert set(statuses[:LIMIT]) <= {502, 503}, statuses  # nobody listens at the endpoint
        pages = [each.ask("GET", "/metrics")[1] for each in clients]
        count = "gateway_http_request_duration_seconds_count"
        assert [value(each, count, 'route="/api/<service>/*"') for each in pages] == [ASKED] * 4
        assert [value(each, count, 'status_code="429"') for each in pages] == [ASKED - LIMIT] * 4
        assert [value(each, "gateway_client_connections") for each in pages] == [4.0] * 4
        shown = [json.loads(each.ask("GET", "/admin/stats")[1]) for each in clients]
        (sent,) = {each["services"]["svc"]["upstreamDetails"][0]["requestsTotal"] for each in shown}
        assert sent > 0
        assert gateway.end() == 0
