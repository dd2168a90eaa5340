"""Measures what an update costs the dashboard's page: `python -m tests.support.page_cost`, from the repository's root.

Chromium shows the page of a gateway. A script stands in for /admin/events and /admin/api/streams: 1,000 endpoints in 20
services, 500 requests, an hour of points and 10,000 open streams. Each update has as much as a difference of the
gateway has at most. The means are of the browser's main thread: other processes change the longest update alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from tests.support.chromium import Tab
from tests.support.pictures import ROOT, listens, shown
from tests.support.ports import free_port
from tests.support.websockets import until
from tornado_gateway.upkeep.observer import BUDGET, COLUMNS_OF

UPDATES = 60
SERVICES, ENDPOINTS, REQUESTS, POINTS = 20, 50, 500, 640
NEW_REQUESTS = 40  # of an update
WARM_UP = 10  # updates before the measurement, in which the browser compiles
METRICS = {"script": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}

# Stands in for the gateway. `update` gives the milliseconds that the page has computed after a text, with what the page
# has put off until the end of the task.
SCRIPT = """
window.feed = {};
window.EventSource = class {
  addEventListener(name, heard) { window.feed[name] = (text) => heard({data: text}); }
  close() {}
};
window.fetch = async (target) => {
  const after = Number(new URLSearchParams(String(target).split('?')[1]).get('after'));
  const streams = Array.from({length: Math.min(200, 10000 - after)}, (_, index) => ({
    id: after + index + 1, kind: 'eventStream', service: 'service-1', endpoint: 'http://10.0.1.7:8080', path: '/events',
    client: '192.0.2.1', principal: 'id|ada', requestId: 'a', ageMs: performance.now(), messages: {up: 0, down: 100},
    bytes: {up: 0, down: performance.now()}, waitingBytes: 0}));
  const last = after + streams.length;
  return {ok: true, status: 200, json: async () => (
    {open: 10000, matching: 10000, streams, next: last < 10000 ? last : null})};
};
window.update = async (name, text) => {
  const began = performance.now();
  window.feed[name](text);
  for (let turn = 0; turn < 5; turn += 1) await null;
  return performance.now() - began;
};
"""


def endpoint(service: int, number: int, turn: int) -> list[object]:
    """The cells of an endpoint, all figures of which change with each turn."""
    some = (service * 31 + number * 17 + turn * 13) % 97
    state, why = ("out", "connect failed") if (service, number) == (3, 9) else ("up", "")
    word = "".join("abcdefghijklmnop"[(some + each) % 16] for each in range(30))
    return [
        f"service-{service}", f"http://10.0.{service}.{number}:8080", state, 1_800_000_000, why, some / 7, some / 900,
        some / 3, some / 2, some * 1.5, some % 5, some % 3, some % 2, "closed", 0, "status 200", 1, 1.0,
        100_000 + some, some, some % 4, "head timeout", word,
    ]  # fmt: skip


def service(number: int, turn: int) -> list[object]:
    some = (number * 31 + turn * 13) % 97
    return [
        f"service-{number}", "degraded" if number == 3 else "up", 1_800_000_000, "", ENDPOINTS, int(number == 3),
        some * 7.5, some / 900, some / 3, some / 2, some * 1.5, some, some, some % 5, 0, False, 100_000 + some, some,
        "abcdefgh" * 3,
    ]  # fmt: skip


def request(number: int, at: float) -> list[object]:
    kind = number % 10
    rank, status, reason = ("failed", 502, "upstream_reset") if not kind else ("fine", 200, "")
    return [
        number, at, rank, status, reason, "GET", f"/api/service-{kind}/items/{number}", "", f"service-{kind}",
        f"http://10.0.{kind}.7:8080", 1, 12.5, "198.51.100.7", "id|ada", f"{number:032x}",
    ]  # fmt: skip


def point(at: float) -> list[object]:
    return [at if name == "at" else (at * 7919) % 100 for name in COLUMNS_OF["points"]]


def whole(at: float) -> str:
    """The first text."""
    return json.dumps({
        "about": {"version": "0", "environment": "measurement", "startedAt": at - 5000, "configuration": []},
        "at": at, "sentence": "service-3: 1 of 50 endpoints is out", "columns": COLUMNS_OF, "events": [],
        "points": [point(at - POINTS + each) for each in range(POINTS)],
        "requests": [request(each, at) for each in range(1, REQUESTS + 1)],
        "counts": [["Rate limits", f"service-{each}: refused", each] for each in range(30)],
        "refused": [["default", f"client 198.51.100.{each}", each] for each in range(20)],
        "services": {f"service-{each}": service(each, 0) for each in range(SERVICES)},
        "endpoints": {
            f"service-{each} http://10.0.{each}.{number}:8080": endpoint(each, number, 0)
            for each in range(SERVICES) for number in range(ENDPOINTS)
        },
    })  # fmt: skip


def change(turn: int, at: float) -> str:
    """A difference: all services, and as many endpoints as the gateway tells at once."""
    services = {f"service-{each}": service(each, turn) for each in range(SERVICES)}
    newest = REQUESTS + turn * NEW_REQUESTS
    said = {
        "at": at, "sentence": f"service-3: 1 of 50 endpoints is out for {turn} s", "points": [point(at)],
        "requests": [request(newest + each, at) for each in range(NEW_REQUESTS)],
        "events": [{"at": at, "level": "bad", "text": f"event {turn}"}],
        "counts": [["Rate limits", f"service-{each}: refused", each + turn] for each in range(30)],
        "refused": [["default", f"client 198.51.100.{each}", each + turn] for each in range(20)],
        "services": {"rows": services, "gone": []},
    }  # fmt: skip
    left, rows, number = BUDGET - len(json.dumps(said, separators=(",", ":"))), {}, turn * 170
    while left > 0:
        of, which = number // ENDPOINTS % SERVICES, number % ENDPOINTS
        cells = endpoint(of, which, turn)
        rows[f"service-{of} http://10.0.{of}.{which}:8080"] = cells
        left -= len(json.dumps(cells, separators=(",", ":"))) + 40
        number += 1
    return json.dumps({**said, "endpoints": {"rows": rows, "gone": []}}, separators=(",", ":"))


def figures(page: Tab) -> Mapping[str, float]:
    found = {each["name"]: each["value"] for each in page.call("Performance.getMetrics")["metrics"]}
    return {name: found[metric] * 1000 for name, metric in METRICS.items()}


def updates(page: Tab, turns: Sequence[int], at: float) -> list[float]:
    """The milliseconds of each update."""
    found = []
    for turn in turns:
        text = json.dumps(change(turn, at + turn))
        found.append(float(page.value(f"window.update('change', {text})")))
        page.value("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn(null))))")
    return found


def measure(page: Tab) -> None:
    """Print what an update costs."""
    at = time.time()
    page.call("Performance.enable")
    page.call("Page.addScriptToEvaluateOnNewDocument", source=SCRIPT)
    page.call("Page.reload")
    until(lambda: page.value("typeof window.feed?.whole") == "function", "the page follows the script")
    first = page.value(f"window.update('whole', {json.dumps(whole(at))})")
    page.value("document.getElementById('streams-card').open = true")
    until(lambda: page.value("document.getElementById('streams-note').textContent").startswith("10000 of"), "streams")
    updates(page, range(1, WARM_UP), at)
    before = figures(page)
    found = sorted(updates(page, range(WARM_UP, WARM_UP + UPDATES), at))
    spent = {name: (value - before[name]) / UPDATES for name, value in figures(page).items()}
    size = len(change(WARM_UP, at))
    print(f"first text: {first:.1f} ms; {UPDATES} updates of {size / 1024:.1f} KiB each:")  # noqa: T201
    print(f"an update: median {found[UPDATES // 2]:.1f} ms, longest {found[-1]:.1f} ms")  # noqa: T201
    print("an update, of the main thread: " + ", ".join(f"{name} {each:.1f} ms" for name, each in spent.items()))  # noqa: T201


def main() -> None:
    """Run a gateway and a browser, and print the cost."""
    port = free_port("127.0.0.1")
    variables = {
        "UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}', "HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    gateway = subprocess.Popen(
        [sys.executable, "-m", "tornado_gateway"], env=os.environ | variables, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: listens(port), "the gateway listens")
        with shown(f"http://127.0.0.1:{port}/admin") as page:
            page.call("Emulation.setDeviceMetricsOverride", width=1600, height=1200, deviceScaleFactor=1, mobile=False)
            measure(page)
    finally:
        gateway.terminate()
        gateway.wait(30)


if __name__ == "__main__":
    main()
