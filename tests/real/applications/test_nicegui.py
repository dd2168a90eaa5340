"""NiceGUI: a redirect leads Chromium to a page, and a click changes the page over a WebSocket."""

from pathlib import Path

import pytest

from tests.real.applications.support import WAYS, browsed, documented
from tests.support.applications import PROGRAMS, PYTHON, staged
from tests.support.ports import free_port

BUTTON = "[...document.querySelectorAll('button')].find(each => each.innerText.toLowerCase() === 'count')"
TRANSPORT = "window.socket && window.socket.io.engine && window.socket.io.engine.transport.name === 'websocket'"


@pytest.mark.parametrize("way", WAYS)
def test_a_click_changes_the_page(way: str, tmp_path: Path) -> None:
    port = free_port()
    with staged(tmp_path) as stage:
        stage.start(PYTHON, PROGRAMS / "nicegui_app.py", str(port), answers=f"http://127.0.0.1:{port}/", cwd=tmp_path)
        base = documented(stage, "NiceGUI", way, port)
        with browsed(tmp_path / "profile", f"{base}/start") as page:
            for clicks in (0, 1, 2):
                page.becomes(f"{BUTTON} && document.body.innerText.includes('{clicks} clicks')", f"{clicks} are shown")
                page.becomes(TRANSPORT, "the page has a WebSocket")
                page.value(f"{BUTTON}.click()")
            assert page.value("location.href") == f"{base}/"
