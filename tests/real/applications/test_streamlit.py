"""Streamlit: a page in Chromium gets its content over a WebSocket, and a click on a button changes the content."""

from pathlib import Path

import pytest

from tests.real.applications.support import WAYS, browsed, documented
from tests.support.applications import PROGRAMS, PYTHON, staged
from tests.support.ports import free_port

BASES = {"host": "", "path": "dashboard", "api": "api/streamlit"}
BUTTON = "[...document.querySelectorAll('button')].find(each => each.innerText === 'Double')"


@pytest.mark.parametrize("way", WAYS)
def test_a_widget_answers(way: str, tmp_path: Path) -> None:
    port = free_port()
    base_path = [f"--server.baseUrlPath={BASES[way]}"] if BASES[way] else []
    with staged(tmp_path) as stage:
        stage.start(
            PYTHON, "-m", "streamlit", "run", PROGRAMS / "streamlit_app.py", f"--server.port={port}",
            "--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false", *base_path,
            answers=f"http://127.0.0.1:{port}/{BASES[way]}/_stcore/health".replace("//_", "/_"), cwd=tmp_path,
        )  # fmt: skip
        base = documented(stage, "Streamlit", way, port)
        with browsed(tmp_path / "profile", f"{base}/") as page:
            for number in (21, 42, 84):
                page.becomes(f"{BUTTON} && document.body.innerText.includes('number {number}')", f"{number} is shown")
                page.value(f"{BUTTON}.click()")
