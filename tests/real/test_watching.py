"""Many looks at a gateway with traffic, and many real streams, seen in Chromium."""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.test_dashboard import Page
from tests.support.chromium import chromium, tab
from tests.support.pictures import Upstreams, running
from tests.support.websockets import until

LOOKS = int(os.environ.get("LOOKS", "30"))  # tests/long asks for more
STREAMS = int(os.environ.get("STREAMS", "40"))
PATIENCE = 600.0  # seconds

# Gateways look each second, and no more often than costs a twentieth of a core.
OFTEN = """import sys
from tornado_gateway.upkeep import observer
from tornado_gateway.__main__ import main
observer.INTERVAL, observer.SHARE = 0.05, 1.0
sys.exit(main([]))"""
COUNTING = """window.looks = 0;
window.EventSource = class extends window.EventSource {
  constructor(url) { super(url); this.addEventListener('change', () => { window.looks += 1; }); }
};"""
# The history, the newest requests and the events fill for a while, and are bounded: a leak goes on growing. What a page
# weighs goes up and down by a tenth between two weighings; a span of three tells that from a leak of 8 nodes per look.
SPAN, WEIGHINGS = 3, 24
GROWTH = 0.05  # in a span, as a share of what the first weighing found


@pytest.fixture
def devtools(tmp_path: Path) -> Iterator[str]:
    with chromium(tmp_path) as address:
        yield address


def blocks(admin: str) -> int:
    """The memory blocks that the gateway's Python has given out."""
    with urllib.request.urlopen(admin.replace("/admin", "/_pressure?heap")) as answer:
        return int(json.load(answer)["heap"]["pymallocBlocks"])


def test_looks_leak_neither_in_the_browser_nor_in_the_gateway(devtools: str) -> None:
    upstreams = Upstreams()
    services = {
        name: [f"http://127.{number}.0.{n}:{upstreams.port}" for n in (1, 2)]
        for number, name in enumerate(("billing", "orders"), start=1)
    }
    upstreams.failing = {"127.2.0.2"}
    with (
        running(upstreams, services, *["/sse/orders/events"] * 3, program=("-c", OFTEN), DRAIN_SPREAD_MS="0") as url,
        tab(devtools, "about:blank") as connection,
    ):
        page = Page(connection)
        for domain in ("Performance", "HeapProfiler"):
            page.call(f"{domain}.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=COUNTING)
        page.call("Page.navigate", url=url)

        def weigh() -> dict[str, float]:
            goal = page.value("window.looks ?? 0") + LOOKS // 2
            until(lambda: page.value("window.looks ?? 0") >= goal, f"{goal} looks", patience=PATIENCE)
            page.call("HeapProfiler.collectGarbage")
            figures = {each["name"]: each["value"] for each in page.call("Performance.getMetrics")["metrics"]}
            return {name: figures[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")} | {
                "pymallocBlocks": blocks(url)
            }

        weights = [weigh() for _ in range(SPAN)]
        while len(weights) < WEIGHINGS:
            weights.append(weigh())
            if all(weights[-1][name] - weights[-1 - SPAN][name] <= GROWTH * weights[0][name] for name in weights[0]):
                break
        else:
            pytest.fail(f"the figures grew in each span of {SPAN * LOOKS // 2} looks: {weights}")
        print(LOOKS, weights)  # noqa: T201
        assert page.complaints == []


def test_an_operator_finds_and_closes_thousands_of_streams(devtools: str) -> None:
    upstreams = Upstreams()
    endpoint = f"http://127.3.0.1:{upstreams.port}"
    with (
        running(
            upstreams, {"feed": [endpoint]}, *["/sse/feed/events"] * STREAMS,
            UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS="0", DRAIN_SPREAD_MS="0",
        ) as url,
        tab(devtools, url) as connection,
    ):  # fmt: skip
        page = Page(connection)
        until(lambda: page.text("#link") == "live", "the event stream is live")
        page.value("document.getElementById('streams-card').open = true")
        down = "(box => { box.scrollTop = box.scrollHeight; })(document.getElementById('streams-box'))"
        all_open = f"{STREAMS} of {STREAMS} open streams"
        until(lambda: page.text("#streams-note") == all_open, lambda: page.text("#streams-note"), patience=PATIENCE)
        count = "document.querySelectorAll('#streams tbody tr:not(.filler)').length"
        last = "[...document.querySelectorAll('#streams tbody tr:not(.filler)')].at(-1)?.getAttribute('aria-rowindex')"
        until(lambda: page.value(f"{down}; {last}") == str(STREAMS + 1), lambda: page.value(last), patience=PATIENCE)
        assert page.value(count) < 60
        order = json.dumps({"service": "feed", "endpoint": endpoint, "overMs": 500})
        close = f"fetch('/admin/api/streams/close', {{method: 'POST', body: {json.dumps(order)}}})"
        assert page.value(f"{close}.then(answer => answer.json()).then(said => said.closing)") == STREAMS
        gone = "No streams are open."
        until(lambda: page.text("#streams-note") == gone, lambda: page.text("#streams-note"), patience=PATIENCE)
        assert page.complaints == []
