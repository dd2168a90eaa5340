"""A load generator, an upstream, /metrics, /admin/stats and the dashboard in Chromium count the same.

All are processes of their own. The load has answers, failures, refusals, retries, clients that leave, event streams and
WebSockets. The figures agree exactly as soon as the dashboard has looked again after the end of the load. Those of the
dashboard are the texts of the page.

EACH=2000 WITHIN=2 python -m pytest tests/real/test_agreement.py     the long form: within 2 s of the end
"""

import contextlib
import http.client
import json
import os
import socket
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from tests.real.test_dashboard import Page, show
from tests.support.chromium import chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import PATIENCE, PROGRAMS, gateway, running, until

EACH = int(os.environ.get("EACH", "8"))  # requests of each kind of each client
WITHIN = float(os.environ.get("WITHIN", PATIENCE))  # seconds from the end of the load until the figures agree
CLIENTS = 3
EVENTS, MESSAGES, LEAVERS, SOCKETS = 7, 5, 3, 6
PATHS = (("web", "ok"), ("web", "busy"), ("dead", "ok"), ("pair", "ok"), ("limited", "ok"), ("nobody", "ok"))
LIMIT = 5  # requests to a service that are admitted
REFUSING = "http://127.0.0.1:1"


@dataclass
class Figures:
    """What one of the witnesses says.

    Attributes:
        requests: by service and class of the status.
        endpoints: requests and failures, by service and URL of the endpoint.
        streams: opened streams, by service and kind.
        messages: of ended streams, towards the client, by service and kind.
        refused: requests above a rate limit.
    """

    requests: Counter[str]
    endpoints: dict[str, tuple[int, int]]
    streams: dict[str, int]
    messages: dict[str, int]
    refused: int = 0


class Load:
    """What the load generator has counted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.statuses: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [self._ask] * CLIENTS + [self._leave, self._listen, self._talk]
        threads = [threading.Thread(target=each) for each in kinds]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    def _ask(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            for service, path in PATHS * EACH:
                connection.request("GET", f"/api/{service}/{path}", headers={"Connection": "keep-alive"})
                answer = connection.getresponse()
                answer.read()
                self.statuses[f"{service} {answer.status // 100}xx"] += 1

    def _leave(self) -> None:
        """Leave a stream in the midst."""
        for _ in range(LEAVERS):
            with socket.create_connection(("127.0.0.1", self._port)) as client:
                client.sendall(b"GET /sse/web/endless HTTP/1.1\r\nHost: a\r\n\r\n")
                received = b""
                while b"data: x" not in received:
                    received += (piece := client.recv(4096))
                    assert piece
            self.statuses["web 2xx"] += 1
            self.streams["web sse"] += 1

    def _listen(self) -> None:
        for _ in range(EACH):
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/sse/web/events?n={EVENTS}") as answer:
                self.messages["web sse"] += answer.read().count(b"data: ")
            self.statuses["web 2xx"] += 1
            self.streams["web sse"] += 1

    def _talk(self) -> None:
        for _ in range(SOCKETS):
            with websockets.sync.client.connect(f"ws://127.0.0.1:{self._port}/ws/sockets/a", proxy=None) as client:
                for number in range(MESSAGES):
                    client.send(str(number))
                    client.recv()
                    self.messages["sockets ws"] += 1
            self.statuses["sockets 1xx"] += 1
            self.streams["sockets ws"] += 1


def asked(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return str(answer.read().decode())


def of_metrics(port: int) -> Figures:
    found = Figures(Counter(), {}, {}, {})
    for family in text_string_to_metric_families(asked(port, "/metrics")):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            match sample.name:
                case "gateway_service_requests_total":
                    found.requests[f"{labels['service']} {labels['status_class']}"] = value
                case "gateway_upstream_requests_total":
                    key = f"{labels['service']} {labels['endpoint']}"
                    total, failures = found.endpoints.get(key, (0, 0))
                    found.endpoints[key] = total + value, failures + value * (labels["outcome"] == "failure")
                case "gateway_streams_opened_total":
                    found.streams[f"{labels['service']} {labels['kind']}"] = value
                case "gateway_rate_limited_total" if labels["outcome"] == "refused":
                    found.refused += value
                case "gateway_stream_messages_total" if labels["direction"] == "down":
                    found.messages[f"{labels['service']} {labels['kind']}"] = value
    return found


def of_stats(port: int) -> Figures:
    found = Figures(Counter(), {}, {}, {})
    said = json.loads(asked(port, "/admin/stats"))
    found.refused = sum(each["refused"] for each in said["rateLimits"]["policies"].values())
    for name, service in said["services"].items():
        found.requests.update({f"{name} {status}": count for status, count in service["requests"].items()})
        for each in service["upstreamDetails"]:
            found.endpoints[f"{name} {each['url']}"] = each["requestsTotal"], each["errorsTotal"]
        for kind, key in (("sse", "eventStreams"), ("ws", "websockets")):
            if service[key]["closed"]:
                assert service[key]["open"] == 0
                found.streams[f"{name} {kind}"] = service[key]["closed"]
                found.messages[f"{name} {kind}"] = service[key]["messages"]["down"]
    return found


# The texts of the table's columns of counts by service, and by service and endpoint; and of the other places.
SHOWN = """(() => {
  const written = (elements) => [...elements].map((each) => each.textContent);
  const texts = (row) => written(row.cells);
  const labels = texts(document.querySelector('#services thead tr'));
  const rows = {};
  let service = '';
  for (const row of document.querySelectorAll('#services tbody tr:not(.filler)')) {
    const cells = texts(row);
    if (row.className === 'service') service = cells[0];
    const isSeen = row.cells[labels.indexOf('Failures')].offsetWidth > 0;
    const counts = ['Total', 'Failures'].map((label) => cells[labels.indexOf(label)]);
    if (isSeen) rows[row.className === 'service' ? service : `${service} ${cells[0]}`] = counts;
  }
  const counts = [...document.querySelectorAll('#counts tbody tr')].map(texts);
  const tiles = [...document.querySelectorAll('#tiles div')].map((tile) => written(tile.children));
  return {rows, counts, tiles: Object.fromEntries(tiles)};
})()"""
Seen = tuple[dict[str, tuple[int, int]], int, str]


def of_page(page: Page) -> Seen:
    """What somebody reads on the page: all and failed requests by service, and by service and URL of the endpoint; all
    requests above a rate limit; and the open streams."""
    shown = page.value(SHOWN)
    rows = {key: (number(total), number(failures)) for key, (total, failures) in shown["rows"].items()}
    refused = sum(number(count) for _, what, count in shown["counts"] if what.endswith(": refused"))
    return rows, refused, shown["tiles"]["Streams"]


def number(text: str) -> int:
    """A number as the page writes numbers: 12,345."""
    return int(text.replace(",", ""))


def to_be_read(figures: Figures) -> Seen:
    """What the page has to show where the figures are right."""
    services = dict.fromkeys((key.split()[0] for key in figures.endpoints), (0, 0))
    for key, count in figures.requests.items():
        service, status_class = key.split()
        total, failures = services[service]
        services[service] = total + count, failures + count * (status_class == "5xx")
    return {**services, **figures.endpoints}, figures.refused, "0"


def test_all_count_the_same(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    plain, sockets = f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[0]}"
    services = {
        "web": [plain], "sockets": [sockets], "dead": [REFUSING], "pair": [REFUSING, plain],
        "limited": {"endpoints": [plain], "rateLimits": f"{LIMIT}/d"},
    }  # fmt: skip
    upstreams = json.dumps(services)
    with (
        running([sys.executable, str(PROGRAMS / "counted_server.py"), *map(str, ports)], *ports),
        gateway({}, UPSTREAMS=upstreams, BREAKER_FAILURES="0", BALANCER="round_robin", ACCESS_LOG="false") as port,
        chromium(tmp_path) as devtools,
        tab(devtools, f"http://127.0.0.1:{port}/admin") as connection,
    ):
        page = Page(connection)
        until(lambda: page.text("#link") == "live", "the event stream is live")
        show(page, 1920, "dark")
        page.value("document.getElementById('counts').closest('details').open = true")
        load = Load(port)
        load.run()

        def agree() -> bool:
            metrics = of_metrics(port)
            return metrics == of_stats(port) and of_page(page) == to_be_read(metrics) and settled(metrics, load)

        until(agree, lambda: f"the figures agree: {of_metrics(port)}, {of_stats(port)}, {of_page(page)}", WITHIN)
        counted = json.loads(asked(ports[1], "/counts"))
        metrics = of_metrics(port)
        assert page.complaints == []
    judge(metrics, load, counted, (plain, sockets))


def settled(metrics: Figures, load: Load) -> bool:
    """Whether the gateway has noticed the end of all requests; of a client that leaves, TCP tells later."""
    return metrics.requests.total() == admitted(load).total()


def admitted(load: Load) -> Counter[str]:
    """The requests that no service was refused to: those alone count among a service's requests."""
    return Counter({key: count for key, count in load.statuses.items() if key not in {"nobody 4xx", "limited 4xx"}})


def judge(metrics: Figures, load: Load, counted: dict[str, int], urls: tuple[str, str]) -> None:
    """Compare what the gateway says with the load generator and with the upstream."""
    plain, sockets = urls
    everything = CLIENTS * EACH
    assert metrics.requests == admitted(load)
    assert load.statuses["nobody 4xx"] == load.statuses["dead 5xx"] == load.statuses["pair 2xx"] == everything
    assert metrics.streams == load.streams == {"web sse": EACH + LEAVERS, "sockets ws": SOCKETS}
    assert metrics.messages["sockets ws"] == load.messages["sockets ws"] == SOCKETS * MESSAGES
    assert load.messages["web sse"] == EACH * EVENTS <= metrics.messages["web sse"]  # leavers have seen a part
    assert load.statuses["limited 4xx"] == metrics.refused == everything - LIMIT
    assert counted == {
        "ok": 2 * everything + LIMIT, "busy": everything, "events": EACH, "endless": LEAVERS, "ws": SOCKETS,
    }  # fmt: skip
    assert metrics.endpoints[f"web {plain}"] == (2 * everything + EACH + LEAVERS, everything)
    assert metrics.endpoints[f"limited {plain}"] == (LIMIT, 0)
    assert metrics.endpoints[f"sockets {sockets}"] == (SOCKETS, 0)
    assert metrics.endpoints[f"dead {REFUSING}"] == (everything, everything)
    assert metrics.endpoints[f"pair {plain}"] == (everything, 0)
    total, failures = metrics.endpoints[f"pair {REFUSING}"]
    assert 0 < total == failures <= everything
