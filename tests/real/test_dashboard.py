"""The dashboard in Chromium: an operator logs in, sees an endpoint fail and come back, and logs out."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "tests" / "vendor" / "axe"
KEY = "k" * 32
SEEN_WITHIN = float(os.environ.get("SEEN_WITHIN", PATIENCE))  # seconds until a dead endpoint is named; see tests/long
UPSTREAM = """import http.server, sys
address = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()"""


class Page(Tab):
    """The dashboard's page.

    Attributes:
        complaints: what the browser has complained about: errors, and what the page's policy has blocked.
    """

    def __init__(self, devtools: Any) -> None:
        super().__init__(devtools)
        self.complaints: list[str] = []
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def on_event(self, message: dict[str, Any]) -> None:
        is_complaint = message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        is_error = message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] in ("error", "warning")
        if is_complaint or is_error:
            self.complaints.append(json.dumps(message["params"]))

    def text(self, selector: str) -> str:
        with contextlib.suppress(AssertionError):  # between two pages there is nothing to ask
            return str(self.value(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''"))
        return ""

    def state(self, url: str) -> str:
        """The state of an endpoint, and why, as the table has them."""
        rows = f"[...document.querySelectorAll('tr.endpoint')].find(row => row.cells[0].textContent === '{url}')"
        return str(self.value(f"[...({rows}?.cells ?? [])].map(cell => cell.textContent).join(' ')"))


@contextlib.contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        [sys.executable, *arguments], env=os.environ | variables, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait(15)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).status_code == 200
    return False


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def gateway(ports: tuple[int, int]) -> Iterator[str]:
    port = free_port()
    services = {"billing": [f"http://127.0.0.1:{each}" for each in ports]}
    variables = {
        "UPSTREAMS": json.dumps(services), "HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false",
        "PYTHONPATH": str(ROOT), "AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "HEALTH_CHECK": "tcp",
        "HEALTH_INTERVAL_MS": "200", "HEALTH_DOWN_INTERVAL_MS": "200",
    }  # fmt: skip
    with process("-m", "tornado_gateway", **variables):
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/readyz"), "the gateway listens")
        yield url


def test_an_operator_sees_what_fails_and_when_all_is_well_again(
    gateway: str, ports: tuple[int, int], devtools: str
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    token = jwt.encode({"iss": "id", "sub": "ada"}, KEY)
    with (
        process("-c", UPSTREAM, str(ports[0])),
        process("-c", UPSTREAM, str(ports[1])) as second,
        tab(devtools, f"{gateway}/admin") as connection,
    ):
        page = Page(connection)
        until(lambda: "Log in" in page.text("h1 + p"), "the log-in page")
        page.complaints.clear()  # the 401 of the page before the log-in
        page.value(f"document.querySelector('input').value = '{token}'; document.querySelector('form').submit()")
        until(lambda: page.text("#link") == "live", "the event stream is live")
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        assert " out " not in page.state(urls[1]) and "Logged in as id|ada" in page.text("header")

        second.kill()
        out = "billing: 1 of 2 endpoints is out"
        until(lambda: out in page.text("#sentence"), lambda: page.text("#sentence"), SEEN_WITHIN)
        assert (
            "connect failed" in page.text("#sentence")
            and " out " in page.state(urls[1])
            and " out " not in page.state(urls[0])
        )
        assert f"billing {urls[1]} is out" in page.text("#events") and urls[1] in page.text("#announcement")

        with process("-c", UPSTREAM, str(ports[1])):
            until(lambda: page.text("#sentence").startswith("All 2"), lambda: page.text("#sentence"))
            assert page.complaints == []
            page.value("fetch('/admin/logout', {method: 'POST'}).then(answer => answer.status)")
            until(lambda: page.text("#link") == "not allowed: log in again", lambda: page.text("#link"))


STREAMING = """import http.server, sys, time
class Streaming(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while True:
            self.wfile.write(b"data: 1\\n\\n")
            time.sleep(0.05)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Streaming).serve_forever()"""

# What an EventSource does where something on the way refuses event streams.
BLOCKED = """window.EventSource = class {
  addEventListener(name, heard) { if (name === 'error') setTimeout(heard); }
  close() {}
  get readyState() { return 2; }
};
window.EventSource.CLOSED = 2;"""

# A gateway with ten thousand streams, as far as the list of streams sees: the page asks for pages.
SCRIPTED = """window.asked = 0; window.fetch = async (target) => {
  const after = Number(new URLSearchParams(target.split('?')[1]).get('after')); window.asked += 1;
  const streams = Array.from({length: Math.min(200, 10000 - after)}, (_, index) => ({
    id: after + index + 1, kind: 'eventStream', service: '<b>billing</b>', endpoint: 'http://10.0.0.7',
    client: '192.0.2.1', principal: '', path: '/x', requestId: 'a', ageMs: 1000, messages: {up: 0, down: 1},
    bytes: {up: 0, down: 9}, waitingBytes: 0}));
  const last = after + streams.length;
  return {ok: true, status: 200, json: async () => (
    {open: 10000, matching: 10000, streams, next: last < 10000 ? last : null})};
}"""


def pressed(page: Page, selector: str, label: str) -> bool:
    """Press the first button with a label; return whether there is one."""
    buttons = f"[...document.querySelectorAll({json.dumps(f'{selector} button')})]"
    wanted = f"{buttons}.find(each => !each.hidden && each.textContent.startsWith({json.dumps(label)}))"
    return bool(page.value(f"(button => (button?.click(), Boolean(button)))({wanted})"))


@contextlib.contextmanager
def logged_in(gateway: str, devtools: str) -> Iterator[Page]:
    """The dashboard of an operator."""
    token = jwt.encode({"iss": "id", "sub": "ada"}, KEY)
    with tab(devtools, f"{gateway}/admin") as connection:
        page = Page(connection)
        until(lambda: "Log in" in page.text("h1 + p"), "the log-in page")
        page.complaints.clear()  # the 401 of the page before the log-in
        page.value(f"document.querySelector('input').value = '{token}'; document.querySelector('form').submit()")
        until(lambda: page.text("#link") == "live", "the event stream is live")
        yield page


def test_an_operator_drains_an_endpoint_and_closes_a_stream(
    gateway: str, ports: tuple[int, int], devtools: str
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    fields = {"Authorization": f"Bearer {jwt.encode({'iss': 'id', 'sub': 'eve'}, KEY)}"}
    with (
        process("-c", STREAMING, str(ports[0])),
        process("-c", STREAMING, str(ports[1])),
        logged_in(gateway, devtools) as page,
        httpx.Client(trust_env=False, timeout=30, headers=fields) as client,
    ):
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        with client.stream("GET", f"{gateway}/sse/billing/x") as stream:
            pieces = stream.iter_bytes()
            next(pieces)
            page.value("document.getElementById('streams-card').open = true")
            until(lambda: "id|eve" in page.text("#streams tbody"), lambda: page.text("#streams-note"))
            assert page.text("#streams-note") == "1 of 1 open streams"
            assert pressed(page, "#streams", "Close…") and pressed(page, "#acts .acts", "Close stream")
            assert page.text("#acts p").startswith("Closes 1 stream now, between two events or by a Close.")
            assert pressed(page, "#acts .choice", "Close stream")
            assert b"retry: " in b"".join(pieces)  # the stream ends
        until(lambda: page.text("#acts p") == "1 stream ends.", lambda: page.text("#acts p"))
        assert pressed(page, "#acts .choice", "Close")
        until(lambda: page.text("#streams-note") == "No streams are open.", lambda: page.text("#streams-note"))

        page.value(f"document.querySelector('button[aria-label=\"Act on {urls[1]}\"]').click()")
        assert page.text("#acts h2") == urls[1] and pressed(page, "#acts .acts", "Drain")
        assert page.text("#acts p").startswith("The endpoint gets no new requests; 0 requests and 0 streams")
        assert " drained " not in page.state(urls[1]), "nothing has happened before the confirmation"
        assert pressed(page, "#acts .choice", "Drain")
        until(lambda: page.text("#acts p").startswith(f"Done: {urls[1]} is drained"), lambda: page.text("#acts p"))
        until(lambda: " drained " in f" {page.state(urls[1])} ", lambda: page.state(urls[1]))
        assert " drained " not in page.state(urls[0]) and page.complaints == []


def chosen(page: Page, act: str, *, told: str, done: str) -> None:
    """Choose an act of the dialog, and confirm the act."""
    assert pressed(page, "#acts .acts", act)
    confirmed(page, act, told=told, done=done)


def confirmed(page: Page, act: str, *, told: str, done: str) -> None:
    """Read what the dialog says about an act, confirm, read what was done, and leave."""
    assert told in page.text("#acts p"), page.text("#acts p")
    assert pressed(page, "#acts .choice", act)
    until(lambda: done in page.text("#acts p"), lambda: page.text("#acts p"))
    assert pressed(page, "#acts .choice", "Close")


def test_an_operator_steers_breakers_weights_credentials_and_the_log(
    gateway: str, ports: tuple[int, int], devtools: str
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    fields = {"Authorization": f"Bearer {jwt.encode({'iss': 'id', 'sub': 'eve'}, KEY)}"}

    def weight() -> str:
        said = httpx.get(f"{gateway}/admin/stats", trust_env=False, headers=fields)
        found = {each["url"]: each for each in said.json()["services"]["billing"]["upstreamDetails"]}
        return f"{found[urls[1]]['weight']} {found[urls[1]]['breaker']['state']}"

    with (
        process("-c", NAMED, str(ports[0])),
        process("-c", NAMED, str(ports[1])),
        logged_in(gateway, devtools) as page,
    ):
        act = f"document.querySelector('button[aria-label=\"Act on {urls[1]}\"]').click()"
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        page.value(act)
        chosen(page, "Open breaker", told="gets no new requests for 60 s, then probes", done="Done: ")
        until(lambda: "open, " in page.state(urls[1]) and "1 of 2 endpoints is out" in page.text("#sentence"), "open")
        page.value(act)
        chosen(page, "Reset breaker", told="all failures are forgotten", done="Done: ")
        until(lambda: "closed" in page.state(urls[1]), lambda: page.state(urls[1]))
        page.value(act)
        assert pressed(page, "#acts .acts", "Set weight")
        page.value("document.querySelector('#acts input').value = '3'")
        assert pressed(page, "#acts .choice", "Set weight")
        until(lambda: "Done: " in page.text("#acts p") and weight() == "3 closed", lambda: page.text("#acts p"))
        assert pressed(page, "#acts .choice", "Close")

        page.value("document.getElementById('steer').open = true; document.getElementById('level').value = 'debug'")
        assert pressed(page, "#level-form", "Set")
        confirmed(page, "Set level", told="has the level debug", done="The log has the level debug")
        page.value("document.getElementById('revoke-value').value = 'id|eve'")
        assert pressed(page, "#revoke", "Revoke")
        confirmed(page, "Revoke", told="all credentials of id|eve", done="Revoked until")
        until(lambda: httpx.get(f"{gateway}/api/billing/x", trust_env=False, headers=fields).status_code == 401, "401")
        assert page.complaints == []


def test_where_streams_are_blocked_the_page_asks_for_the_figures(
    gateway: str, ports: tuple[int, int], devtools: str
) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    fields = {"Authorization": f"Bearer {jwt.encode({'iss': 'id', 'sub': 'eve'}, KEY)}"}
    with (
        process("-c", NAMED, str(ports[0])),
        process("-c", NAMED, str(ports[1])),
        logged_in(gateway, devtools) as page,
    ):
        httpx.get(f"{gateway}/api/billing/x", trust_env=False, headers=fields)
        page.call("Page.addScriptToEvaluateOnNewDocument", source=BLOCKED)
        page.call("Page.reload")
        until(lambda: page.text("#link").startswith("the stream is blocked"), lambda: page.text("#link"))
        until(lambda: page.text("#sentence") == "All 2 endpoints of 1 services are up", lambda: page.text("#sentence"))
        tiles = page.value("[...document.querySelectorAll('#tiles dd')].map(each => each.textContent)")
        assert tiles[0] not in ("–", "0") and tiles[2:5] == ["–"] * 3 and tiles[5:] == ["0", "–"]
        assert " up " in page.state(urls[0]) and page.complaints == []


def test_of_ten_thousand_streams_only_the_rows_in_sight_exist(gateway: str, devtools: str) -> None:
    with logged_in(gateway, devtools) as page:
        page.value(f"{SCRIPTED}; document.getElementById('streams-card').open = true")
        until(lambda: page.text("#streams-note") == "10000 of 10000 open streams", lambda: page.text("#streams-note"))
        down = "(box => { box.scrollTop = box.scrollHeight; })(document.getElementById('streams-box'))"
        last = "[...document.querySelectorAll('#streams tbody tr:not(.filler)')].at(-1)?.cells[0].textContent"
        until(lambda: page.value(f"{down}; {last}") == "10000", lambda: page.value(last))
        assert page.value("document.querySelectorAll('#streams tbody tr').length") < 60
        page.value("document.getElementById('streams-box').scrollTop = 0")
        first = "document.querySelector('#streams tbody tr:not(.filler)').cells"
        until(lambda: page.value(f"{first}[0].textContent") == "1", "the first row is back")
        assert page.value(f"{first}[5].textContent") == "<b>billing</b>"
        assert page.complaints == []


def test_the_vendored_checker_is_the_one_that_its_version_names() -> None:
    named = dict(reversed(line.split("  ")) for line in (AXE / "VERSION").read_text().splitlines() if "  " in line)
    assert {each.name for each in AXE.iterdir()} == {*named, "VERSION"}
    for name, wanted in named.items():
        assert hashlib.sha256((AXE / name).read_bytes()).hexdigest() == wanted, name


def show(page: Page, width: int, theme: str) -> None:
    """Change the size of the window, and what the system says about colours."""
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(innerWidth))))"
    assert page.value(drawn) == width


VIOLATIONS = """axe.run().then(found => found.violations.map(
  each => [each.id, ...each.nodes.slice(0, 3).map(node => node.target.join(' '))]))"""
WIDEST = """[...document.querySelectorAll('main *, header *')].filter(
  each => each.getBoundingClientRect().right > innerWidth && !each.closest('.scroll')).map(each => each.outerHTML)[0]"""
TOO_WIDE = "document.documentElement.scrollWidth > innerWidth"


def test_everybody_can_use_the_page_in_both_themes_and_on_a_phone(gateway: str, devtools: str) -> None:
    with logged_in(gateway, devtools) as page:
        httpx.get(f"{gateway}/api/unknown/x", trust_env=False)
        until(lambda: "/api/unknown/x" in page.text("#requests tbody"), "the request is shown")
        page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        page.value((AXE / "axe.min.js").read_text("utf-8") + "; 0")
        for width, theme in ((1280, "dark"), (1280, "light"), (320, "dark"), (320, "light")):
            show(page, width, theme)
            assert page.value(VIOLATIONS) == [], (width, theme)
            assert not page.value(TOO_WIDE), (width, theme)
        page.value("document.querySelector('#services button[aria-label]').focus()")
        press(page, "Enter", "\r")
        assert page.value("document.getElementById('acts').open")
        assert page.value("document.getElementById('acts').contains(document.activeElement)")
        assert page.value(VIOLATIONS) == []
        press(page, "Escape")
        assert not page.value("document.getElementById('acts').open")
        assert page.value("document.activeElement.getAttribute('aria-label')").startswith("Act on ")
        assert page.complaints == []


def press(page: Page, key: str, text: str = "") -> None:
    code = {"Enter": 13, "Escape": 27}[key]
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code)


# A gateway with a thousand endpoints, as far as the page sees: the page follows the script instead of /admin/events.
FED = """window.feed = {}; window.EventSource = class {
  addEventListener(name, heard) { window.feed[name] = (said) => heard({data: JSON.stringify(said)}); }
  close() {}
};
const row = (number, rate) => ['<b>svc</b>', `http://10.0.${number >> 8}.${number & 255}`, 'up', 0, '', rate, 'abc'];
const all = (rate) => Object.fromEntries(Array.from({length: 1000}, (_, number) => [`k${number}`, row(number, rate)]));
window.whole = () => window.feed.whole({
  about: {version: '1', environment: 'test', startedAt: 0, configuration: []}, at: 10, sentence: 'All', points: [],
  columns: {points: ['at'], services: ['service', 'state'], requests: ['id'],
            endpoints: ['service', 'url', 'state', 'since', 'why', 'rate', 'spark']},
  events: [], counts: [], refused: [], requests: [], services: {svc: ['<b>svc</b>', 'up']}, endpoints: all(1)});
window.change = (rate) => {
  let count = 0;
  const watch = new MutationObserver((records) => { count += records.length; });
  watch.observe(document.getElementById('services'),
    {subtree: true, childList: true, characterData: true, attributes: true});
  window.feed.change({at: 11, sentence: 'All', points: [], events: [],
    services: {rows: {}, gone: []}, endpoints: {rows: all(rate), gone: []}});
  count += watch.takeRecords().length;
  watch.disconnect();
  return count;
};"""


# Scrolls into the table, wherever the table stands by now; gives nothing.
AMID = """(() => {
  const box = document.querySelector('#services tbody').getBoundingClientRect();
  window.scrollTo(0, window.scrollY + box.top + box.height * 0.4);
})()"""


def test_of_a_thousand_endpoints_only_the_rows_near_the_window_exist_and_change(gateway: str, devtools: str) -> None:
    with logged_in(gateway, devtools) as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=FED)
        page.call("Page.reload")
        until(lambda: page.value("typeof window.feed?.whole") == "function", "the page follows the script")
        show(page, 1280, "dark")
        page.value("window.whole()")
        count = page.value("document.querySelectorAll('#services tbody tr').length")
        assert 20 < count < 100
        assert page.value("document.querySelector('#services th[scope=row]').textContent") == "<b>svc</b>"
        # An update of all thousand rows changes rate and age of the rows that exist, and the number of each row.
        assert 0 < page.value("window.change(2)") <= 4 * count
        until(lambda: page.value(AMID) or "http://10.0.1." in page.text("#services tbody"), "rows of the middle exist")
        assert page.value("document.querySelectorAll('#services tbody tr').length") < 100
        assert page.complaints == []


NAMED = """import http.server, sys
class Named(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(sys.argv[1])))
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Named).serve_forever()"""


def test_an_operator_sees_traffic_drains_an_endpoint_and_follows_a_restart(
    ports: tuple[int, int], devtools: str
) -> None:
    urls, port = [f"http://127.0.0.1:{each}" for each in ports], free_port()
    gateway = f"http://127.0.0.1:{port}"
    variables = {
        "UPSTREAMS": json.dumps({"billing": urls}), "HOST": "127.0.0.1", "PORT": str(port), "ACCESS_LOG": "false",
        "PYTHONPATH": str(ROOT), "DRAIN_SPREAD_MS": "0",
    }  # fmt: skip

    def asked(client: httpx.Client) -> set[str]:
        return {client.get(f"{gateway}/api/billing/x").text for _ in range(10)}

    with (
        process("-c", NAMED, str(ports[0])),
        process("-c", NAMED, str(ports[1])),
        httpx.Client(trust_env=False, timeout=30) as client,
        tab(devtools, "about:blank") as connection,
    ):
        page = Page(connection)
        with process("-m", "tornado_gateway", **variables):
            until(lambda: answers(f"{gateway}/readyz"), "the gateway listens")
            page.call("Page.navigate", url=f"{gateway}/admin")
            until(lambda: page.text("#link") == "live", "the event stream is live")
            assert asked(client) == {str(each) for each in ports}
            until(
                lambda: all(f"127.0.0.1:{each}" in page.text("#requests tbody") for each in ports),
                "the traffic is seen",
            )
            page.value(f"document.querySelector('button[aria-label=\"Act on {urls[1]}\"]').click()")
            assert pressed(page, "#acts .acts", "Drain") and pressed(page, "#acts .choice", "Drain")
            until(lambda: page.text("#acts p").startswith("Done: "), lambda: page.text("#acts p"))
            assert asked(client) == {str(ports[0])}
            assert page.complaints == []
        until(lambda: page.text("#link").startswith("old: "), lambda: page.text("#link"))
        with process("-m", "tornado_gateway", **variables):
            until(lambda: page.text("#link") == "live", "the page is live again", patience=60.0)
            until(lambda: " drained " not in page.state(urls[1]), "the drain ended with the process")
            refused = [each for each in page.complaints if "Failed to load resource" not in each]
            assert refused == [], "nothing but that the gateway was away"


HOSTILE, SHOWN = "<img src=x onerror=a>\u202e\0", "<img src=x onerror=a>\\u{202e}\\u{0}"


def test_hostile_names_are_texts_and_a_page_left_open_tells_that_a_restart_has_ended_the_session(
    ports: tuple[int, int], devtools: str
) -> None:
    gateway, limited = f"http://127.0.0.1:{free_port()}", {"rateLimitMax": 2, "rateLimitKey": "principal"}
    services = {
        "billing": [f"http://127.0.0.1:{ports[0]}"],
        "lost": {"endpoints": [f"http://127.0.0.1:{ports[1]}"], **limited},
    }
    variables = {
        "UPSTREAMS": json.dumps(services), "HOST": "127.0.0.1", "PORT": gateway.rpartition(":")[2],
        "ACCESS_LOG": "false", "PYTHONPATH": str(ROOT), "AUTH_REQUIRED": "true", "JWT_SECRET": KEY,
    }  # fmt: skip
    short, long = [
        {"Authorization": f"Bearer {jwt.encode({'iss': 'id', 'sub': each}, KEY)}", "X-Request-Id": "<b>" * 40}
        for each in (HOSTILE, HOSTILE + "p" * 3000)
    ]
    with process("-c", STREAMING, str(ports[0])), contextlib.ExitStack() as stack:
        running = stack.enter_context(process("-m", "tornado_gateway", **variables))
        until(lambda: answers(f"{gateway}/readyz"), "the gateway listens")
        page = stack.enter_context(logged_in(gateway, devtools))
        with (
            httpx.Client(trust_env=False, timeout=30) as client,
            client.stream("GET", f"{gateway}/sse/billing/{'a' * 3000}", headers=long),
        ):
            for _ in range(4):
                client.get(f"{gateway}/api/lost/%3Cimg%20src=x%3E{'%E2%80%AE' * 400}", headers=short)
            until(lambda: SHOWN in page.text("#refused tbody"), lambda: page.text("#refused"))
            until(lambda: SHOWN in page.text("#requests tbody"), lambda: page.text("#requests"))
            page.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            until(lambda: SHOWN in page.text("#streams tbody"), lambda: page.text("#streams-note"))
            assert pressed(page, "#streams", "Close…") and SHOWN in page.text("#acts p")
            assert "Revoke" not in page.text("#acts .acts"), "the list has cut the principal: that would be another"
            assert page.value("document.querySelectorAll('img, main script').length") == 0
            for width in (1280, 320):
                show(page, width, "dark")
                assert not page.value(TOO_WIDE), (width, page.value(WIDEST))
            assert page.complaints == []
            assert "onerror" not in httpx.get(f"{gateway}/metrics", trust_env=False).text
        running.terminate()
        running.wait(30)
        stack.enter_context(process("-m", "tornado_gateway", **variables))
        until(lambda: page.text("#link") == "not allowed: log in again", lambda: page.text("#link"))
        assert not page.value("document.getElementById('log-in').hidden")


def test_an_operator_sees_what_the_cache_holds_and_purges(ports: tuple[int, int], devtools: str) -> None:
    gateway = f"http://127.0.0.1:{free_port()}"
    variables = {
        "UPSTREAMS": json.dumps({"shop": [f"http://127.0.0.1:{ports[0]}"], "other": [f"http://127.0.0.1:{ports[1]}"]}),
        "HOST": "127.0.0.1", "PORT": gateway.rpartition(":")[2], "ACCESS_LOG": "false", "PYTHONPATH": str(ROOT),
        "CACHE_ENABLED": "true", "CACHE_DEFAULT_TTL_MS": "600000",
    }  # fmt: skip

    def status() -> str:
        return httpx.get(f"{gateway}/api/shop/x?q=%3Cb%3E", trust_env=False, timeout=30).headers["cache-status"]

    with (
        process("-c", NAMED, str(ports[0])),
        process("-m", "tornado_gateway", **variables),
        tab(devtools, "about:blank") as connection,
    ):
        page = Page(connection)
        until(lambda: answers(f"{gateway}/readyz"), "the gateway listens")
        assert ["; hit" in status() for _ in range(3)] == [False, True, True]
        page.call("Page.navigate", url=f"{gateway}/admin")
        until(lambda: page.text("#link") == "live", "the event stream is live")
        page.value("document.getElementById('cache-card').open = true")
        until(lambda: page.text("#cache-note") == "1 of 1 entries", lambda: page.text("#cache-note"))
        assert "Hit rate66.7 %" in page.text("#cache-tiles") and page.text("#cache-services td:last-child") == "66.7 %"
        assert page.text("#cache tbody tr:not(.filler)").startswith("shop/x?q=%3Cb%3E2")

        assert pressed(page, "#cache", "Purge…") and pressed(page, "#acts .acts", "Purge")
        assert page.text("#acts p").startswith(
            "Takes away the stored responses of shop for /x?q=%3Cb%3E, for all hosts"
        )
        assert "; hit" in status(), "nothing has happened before the confirmation"
        assert pressed(page, "#acts .choice", "Purge")
        until(lambda: page.text("#acts p") == "1 stored response purged here.", lambda: page.text("#acts p"))
        assert pressed(page, "#acts .choice", "Close")
        assert ["; hit" in status() for _ in range(2)] == [False, True]

        page.value("document.getElementById('purge-by').value = 'prefix'")
        page.value("document.getElementById('purge-by').dispatchEvent(new Event('change'))")
        assert page.value("[...document.getElementById('purge-service').options].map(each => each.value)") == [
            "other", "shop",
        ]  # fmt: skip
        page.value("document.getElementById('purge-service').value = 'shop'")
        page.value("document.getElementById('purge-value').value = '/'; document.getElementById('purge-soft').click()")
        assert pressed(page, "#purge", "Purge…") and page.text("#acts p").startswith("Makes the stored responses of sh")
        assert pressed(page, "#acts .choice", "Purge softly")
        until(lambda: page.text("#acts p") == "1 stored response made stale here.", lambda: page.text("#acts p"))
        assert pressed(page, "#acts .choice", "Close")
        page.value((AXE / "axe.min.js").read_text("utf-8") + "; 0")
        for width in (1280, 320):
            show(page, width, "dark")
            assert page.value(VIOLATIONS) == [] and not page.value(TOO_WIDE), width
        assert page.complaints == []
