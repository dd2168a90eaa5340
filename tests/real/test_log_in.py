"""An operator in a browser: the log-in, a page, the log-out; in Chromium, with no script in the pages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.applications.support import Page
from tests.support.applications import Stage
from tests.support.chromium import chromium, tab
from tests.support.credentials import OTHER_PASSWORD, PASSWORD, PASSWORD_HASH

LOG_OUT = 'document.querySelector(\'form[action="/admin/logout"]'
COMPLAINT = "document.querySelector('[role=alert]')?.textContent"


class Watched(Page):
    """A page whose complaints about its security policy are kept."""

    def __init__(self, devtools: Any) -> None:
        super().__init__(devtools)
        self.complaints: list[str] = []
        self.call("Log.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=True)  # the page's own scripts, not the test's

    def on_event(self, message: dict[str, Any]) -> None:
        if message["method"] == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.complaints.append(message["params"]["entry"]["text"])

    def submit(self, credential: str) -> None:
        """Type a credential and press Enter, as a person does."""
        self.becomes("document.activeElement?.id === 'credential'", "the field has the focus")
        self.call("Input.insertText", text=credential)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )

    def cookies(self) -> list[dict[str, Any]]:
        return list(self.call("Network.getCookies")["cookies"])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """A gateway as a process; its URL."""
    stage = Stage(tmp_path)
    try:
        port = stage.gateway({"svc": ["http://127.0.0.1:1"]}, ROUTES="[]", ADMIN_PASSWORD_HASH=f"ops:{PASSWORD_HASH}")
        yield f"http://localhost:{port}"
    finally:
        stage.close()


@pytest.fixture
def page(gateway: str, tmp_path: Path) -> Iterator[Watched]:
    """What a browser shows that asks for /admin/stats."""
    with chromium(tmp_path / "profile") as devtools, tab(devtools, f"{gateway}/admin/stats") as connection:
        page = Watched(connection)
        yield page
        assert page.complaints == []


def test_an_operator_logs_in_reads_and_logs_out(gateway: str, page: Watched) -> None:
    page.submit(OTHER_PASSWORD)
    assert page.becomes(COMPLAINT, "the complaint") == "The credential is not valid."
    assert page.cookies() == []
    page.submit(PASSWORD)
    page.becomes("location.pathname === '/admin/stats'", "the page that was asked for")
    stats = json.loads(page.becomes("document.body.innerText", "the figures"))
    assert list(stats["services"]) == ["svc"]
    (cookie,) = page.cookies()
    assert (cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == ("/admin", True, "Strict")
    page.call("Page.navigate", url=f"{gateway}/admin")
    assert page.becomes(f"{LOG_OUT} span')?.textContent", "the name") == "Logged in as password:ops"
    page.becomes(f"({LOG_OUT} button').click(), true)", "the log-out")
    page.becomes("location.pathname === '/admin/login'", "the log-in")
    assert page.cookies() == []
    page.call("Page.navigate", url=f"{gateway}/admin/stats")
    page.becomes("document.getElementById('credential') !== null && location.pathname === '/admin/stats'", "the log-in")


@pytest.mark.parametrize("width", [320, 1280])
def test_the_log_in_fits_light_and_dark(page: Watched, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=False)
    grounds = []
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.becomes("document.getElementById('credential') !== null", "the log-in")
        assert page.value("document.documentElement.scrollWidth") <= width
        box = page.value("JSON.stringify(document.querySelector('button').getBoundingClientRect())")
        assert json.loads(box)["bottom"] <= 640
        grounds.append(page.value("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == 2
