"""The demo as somebody sees it: `python -m tornado_gateway --demo` as a process, its page in Chromium.

The browser is driven by the DevTools protocol. Each page has a renderer's EventSource, WebSocket and fetch of its
own, so what is asserted here is the gateway as a browser knows it, through a drain and a restart too.
"""

import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 15.0  # seconds


class Demo:
    """The gateway with its demo, on a port that stays the same over restarts."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = os.environ | {
            "HOST": "127.0.0.1", "PORT": str(self.port), "UPSTREAMS": "", "DRAIN_SPREAD_MS": "500",
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tornado_gateway", "--demo"], env=env, cwd=ROOT, stdout=log, stderr=log
            )
        until(lambda: "open " in self.output() and self.answers(), "the demo listens")

    def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        return False

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        return self._log.read_text()


class Page(Tab):
    """One page of the browser.

    Attributes:
        complaints: exceptions that the page did not catch, and what its security policy forbade.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        super().__init__(devtools)
        self.complaints: list[str] = []
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def on_event(self, message: dict[str, Any]) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.complaints.append(message["params"]["entry"]["text"])

    def text(self, name: str) -> str:
        """What an element says; nothing while the page is still loading."""
        return str(self.value(f"document.getElementById('{name}')?.textContent ?? ''"))

    def number(self, name: str) -> int:
        text = self.text(name)
        return int(text) if text.isdecimal() else 0

    def lines(self) -> list[str]:
        """The chat's lines, without their times."""
        lines: list[str] = self.value(
            "[...document.querySelectorAll('#lines .line')].map(l => [...l.childNodes].slice(1)"
            ".map(n => n.textContent).join(''))"
        )
        return lines

    def say(self, text: str) -> None:
        """Type a line and send it, with the keyboard as a person does."""
        self.value("document.getElementById('message').focus()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )

    def until_open(self) -> None:
        for name in ("events-state", "chat-state"):
            until(lambda name=name: self.text(name) == "open", lambda name=name: f"{name}: {self.text(name)}")


@contextlib.contextmanager
def opened(devtools: str, url: str) -> Iterator[Page]:
    """A page in a tab of its own, with everything on it open."""
    with tab(devtools, url) as connection:
        page = Page(connection)
        try:
            page.until_open()
            yield page
        finally:
            page.call("Page.close")


def until(condition: Any, what: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in {PATIENCE} s: {what() if callable(what) else what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo") / "log")
    try:
        demo.start()
        yield demo
    finally:
        demo.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Chromium without a window; the address of its DevTools."""
    with chromium(tmp_path_factory.mktemp("profile")) as devtools:
        yield devtools


@pytest.fixture
def pages(demo: Demo, browser: str) -> Iterator[tuple[Page, Page]]:
    """A page by the standard routes and a page on a route of its own, with everything open; the pages must not have
    complained in the end."""
    with opened(browser, f"{demo.url}/api/chat/") as one, opened(browser, f"{demo.url}/live/") as two:
        yield one, two
        assert one.complaints + two.complaints == []


def rename(page: Page, name: str) -> None:
    page.value(f"document.getElementById('name').value = '{name}'")
    page.value("document.getElementById('name').dispatchEvent(new Event('change'))")
    until(lambda: f"{name} joined" in page.lines(), f"{name} joined")


@pytest.mark.parametrize("which", [0, 1], ids=["standard routes", "one route"])
def test_events_tick_and_requests_are_answered(pages: tuple[Page, Page], which: int) -> None:
    page = pages[which]
    until(lambda: page.number("tick-count") >= 3, "three ticks")
    assert (page.number("tick-missed"), page.number("tick-reconnects")) == (0, 0)
    assert page.number("tick-id") >= 3
    until(lambda: page.number("request-count") >= 1, "an answer")
    assert page.text("requests-state").startswith("200")
    assert page.text("request-response") != "x-request-id: none"
    until(lambda: "X-Forwarded-For: 127.0.0.1" in page.text("request-seen"), "what the upstream saw")


def test_one_route_carries_the_page_and_all_that_the_page_asks_for(demo: Demo, pages: tuple[Page, Page]) -> None:
    _, page = pages
    until(lambda: "X-Forwarded-Prefix: /live" in page.text("request-seen"), lambda: page.text("request-seen"))
    asked = page.value("performance.getEntriesByType('resource').map(each => new URL(each.name).pathname)")
    asked += [page.value("new URL(chat.socket.url).pathname"), page.value("new URL(stream.source.url).pathname")]
    assert {"/live/items", "/live/request", "/live/events", "/live/room"} == {
        each for each in asked if each != "image/"
    }
    assert page.text("events-where") == "GET /live/events"
    assert page.value("document.querySelector('.ways [aria-current]').getAttribute('href')") == "/live/"


def test_what_one_page_says_the_other_one_shows_as_text(pages: tuple[Page, Page]) -> None:
    one, two = pages
    rename(one, "Ada")
    for line in ("grüße 👋", "<img src=x onerror=document.title='led'><b>bold</b>", "* Ada left"):
        one.say(line)
        until(lambda line=line: f"Ada {line}" in two.lines(), two.lines)
        until(lambda line=line: f"Ada {line}" in one.lines(), one.lines)
    assert two.value("document.querySelector('#lines img, #lines b')") is None
    assert two.value("document.title") == "Tornado Gateway demo"


def test_a_page_that_hears_a_lot_does_not_grow(demo: Demo, pages: tuple[Page, Page]) -> None:
    page, _ = pages
    with connect(f"ws://127.0.0.1:{demo.port}/ws/chat?path=/room&name=Bot", proxy=None) as bot:
        for number in range(400):
            bot.send(f"line {number}")
            while bot.recv(PATIENCE) != f"Bot: line {number}":
                pass
        until(lambda: "Bot line 399" in page.lines(), "the last line")
    assert len(page.lines()) <= 120
    assert page.value("document.querySelectorAll('#ticks li').length") <= 40


class Refuses(http.server.BaseHTTPRequestHandler):
    """What stands in front of a gateway that is away: an EventSource gives up at such an answer."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def refusing(port: int) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


# What the dashboard's panels say: numbers of the tiles, and whether lists have rows.
PANELS = """(() => {
  const has = (selector) => document.querySelectorAll(`${selector} tbody tr:not(.filler)`).length > 0;
  const lists = ['services', 'requests', 'refused', 'streams', 'cache', 'cache-services', 'counts'];
  const empty = lists.filter((each) => !has(`#${each}`));
  if (!document.querySelector('#events li')) empty.push('events');
  if (!document.querySelector('#configuration dd')) empty.push('configuration');
  if (document.querySelectorAll('.chart canvas').length !== 4) empty.push('charts');
  const without = [...document.querySelectorAll('#tiles dd')].filter((each) => !/[0-9]/.test(each.textContent));
  return [...empty, ...without.map((each) => each.previousSibling.textContent)];
})()"""


def test_no_panel_of_the_dashboard_is_empty(demo: Demo, browser: str) -> None:
    assert f"open {demo.url}/admin in a browser" in demo.output()
    with tab(browser, f"{demo.url}/admin") as connection:
        page = Page(connection)
        until(lambda: page.text("link") == "live", "the dashboard is live")
        page.value("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        for _ in range(11):  # the traffic asks for as much in half a minute
            assert httpx.get(f"{demo.url}/api/slow/", trust_env=False).status_code == 200
        assert httpx.get(f"{demo.url}/api/api/report", trust_env=False).status_code == 200
        until(lambda: page.value(PANELS) == [], lambda: page.value(PANELS))
        assert page.complaints == []


@pytest.mark.parametrize("meanwhile", ["nobody", "503"])
def test_the_page_survives_a_drain_and_a_restart(demo: Demo, pages: tuple[Page, Page], meanwhile: str) -> None:
    one, two = pages
    until(lambda: one.number("tick-count") >= 2, "two ticks")
    last = one.number("tick-id")
    assert demo.stop() == 0
    until(lambda: "retrying in" in one.text("chat-state"), lambda: one.text("chat-state"))
    assert any(line.startswith(("closed 1001", "closed 1012")) for line in one.lines())
    if meanwhile == "503":
        with refusing(demo.port):
            until(lambda: one.text("events-state").startswith("refused"), lambda: one.text("events-state"))
    answers = one.number("request-count")
    demo.start()
    for page in pages:
        page.until_open()
    until(lambda: one.number("tick-id") >= last + 2, "ticks after the restart")
    assert one.number("tick-missed") == 0
    assert one.number("tick-reconnects") >= 1
    two.say("still here")
    until(lambda: any(line.endswith(" still here") for line in one.lines()), one.lines)
    until(lambda: one.number("request-count") > answers, "an answer after the restart")
    assert "Traceback" not in demo.output()
