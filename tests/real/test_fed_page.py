"""The dashboard's page in Chromium, which follows a script instead of a gateway: hostile figures, and many updates."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.test_dashboard import TOO_WIDE, WIDEST, Page, show
from tests.support.chromium import chromium, tab
from tests.support.page_cost import SCRIPT, change, whole
from tests.support.pictures import ROOT, free_port, listens
from tests.support.websockets import until

UPDATES = int(os.environ.get("UPDATES", "40"))  # of the page; tests/long asks for more
GROWTH = 1.5e6  # bytes of scripts: noise of a heap of some 10 MB; a kept update would be 48 KiB

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e\u2066\0\x1b[31m&amp;'\"`"
HOSTILE = (MARKUP, MARKUP + "W" * 100_000, MARKUP * 1500)  # the last two have 100 kB: without a blank, and with blanks
TEXTS = ("sentence", "services", "endpoints", "events", "counts", "refused", "requests")
FIXED = ("at", "level", "text")  # keys of the page's own
HEIGHTS = (
    """[...document.querySelectorAll('tbody tr:not(.filler), header, .events li')].map(each => each.offsetHeight)"""
)
MOST_OF_A_ROW = 900  # px: a row fits the window


@pytest.fixture(scope="module")
def admin() -> Iterator[str]:
    """The address of a gateway's dashboard."""
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
        yield f"http://127.0.0.1:{port}/admin"
    finally:
        gateway.terminate()
        gateway.wait(30)


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
def fed(admin: str, devtools: str) -> Iterator[Page]:
    """The page, which waits for the script's first text."""
    with tab(devtools, "about:blank") as connection:
        page = Page(connection)
        page.call("Page.addScriptToEvaluateOnNewDocument", source=SCRIPT)
        page.call("Page.navigate", url=admin)
        until(lambda: page.value("typeof window.feed?.change") == "function", "the page follows the script")
        yield page


def one_of_each(at: float) -> dict[str, Any]:
    """A first text with one service, one endpoint, one request and so on."""
    said: dict[str, Any] = json.loads(whole(at))
    for name in ("services", "endpoints"):
        said[name] = dict(list(said[name].items())[:1])
    for name in ("requests", "counts", "refused"):
        said[name] = said[name][:1]
    said["events"] = [{"at": at, "level": "bad", "text": ""}]
    said["about"]["configuration"] = [["UPSTREAMS", ""]]
    return said


def spoiled(said: Any, value: str) -> Any:
    """The same with another text in place of each text that a name or a reason could be, and of each key."""
    if isinstance(said, str):
        return value
    if isinstance(said, list):
        return [spoiled(each, value) for each in said]
    if isinstance(said, dict):
        return {key if key in FIXED else f"{key} {value}": spoiled(each, value) for key, each in said.items()}
    return said


@pytest.mark.parametrize("value", HOSTILE, ids=("short", "one word of 100 kB", "100 kB"))
def test_no_value_of_a_gateway_executes_or_breaks_the_layout(fed: Page, value: str) -> None:
    said = one_of_each(time.time())
    text = json.dumps(said | {name: spoiled(said[name], value) for name in TEXTS})
    fed.value(f"window.update('whole', {json.dumps(text)})")
    fed.value("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    shown = MARKUP.split("\u202e", 1)[0]
    for place in ("#sentence", "#services tbody", "#requests tbody", "#events", "#refused", "#counts"):
        assert shown in fed.text(place), place
        assert not re.search("[\u202a-\u202e\u2066-\u2069\0\x1b]", fed.text(place)), place
    assert fed.value("document.querySelectorAll('img, main script').length") == 0
    for width in (1280, 320):
        show(fed, width, "dark")
        assert not fed.value(TOO_WIDE), (width, fed.value(WIDEST))
        assert max(fed.value(HEIGHTS)) < MOST_OF_A_ROW, (width, fed.value(HEIGHTS))
    assert fed.complaints == []


def test_updates_do_not_make_the_page_grow(fed: Page) -> None:
    at = time.time()

    def weigh(turns: range) -> dict[str, float]:
        """What the page holds after some updates."""
        for turn in turns:
            fed.value(f"window.update('change', {json.dumps(change(turn, at + turn))})")
        fed.call("HeapProfiler.collectGarbage")
        return {each["name"]: each["value"] for each in fed.call("Performance.getMetrics")["metrics"]}

    for domain in ("Performance", "HeapProfiler"):
        fed.call(f"{domain}.enable")
    fed.value(f"window.update('whole', {json.dumps(whole(at))})")
    fed.value("document.getElementById('streams-card').open = true")
    until(lambda: fed.text("#streams-note").startswith("10000 of"), "the streams are listed")
    before = weigh(range(UPDATES // 2))
    after = weigh(range(UPDATES // 2, UPDATES))
    for name in ("Nodes", "JSEventListeners"):
        assert after[name] <= before[name] * 1.05, (name, before[name], after[name])
    assert after["JSHeapUsedSize"] < before["JSHeapUsedSize"] + GROWTH, (before, after)
    assert fed.complaints == []
