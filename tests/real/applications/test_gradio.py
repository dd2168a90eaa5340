"""Gradio: its own client calls a function that answers at once, and a function whose answers come as events.

In Chromium, a click on a button of the page changes the page.
"""

from pathlib import Path

import pytest

from tests.real.applications.support import WAYS, browsed, documented
from tests.support.applications import PROGRAMS, PYTHON, staged
from tests.support.ports import free_port

ROOTS = {"host": "", "path": "/demo", "api": "/api/gradio"}
BUTTON = "[...document.querySelectorAll('button')].find(each => each.innerText === 'Answer')"


@pytest.mark.parametrize("way", WAYS)
def test_functions_answer_the_client_and_the_page(way: str, tmp_path: Path) -> None:
    port = free_port()
    with staged(tmp_path) as stage:
        stage.start(
            PYTHON, PROGRAMS / "gradio_app.py", str(port), ROOTS[way],
            answers=f"http://127.0.0.1:{port}/config", GRADIO_ANALYTICS_ENABLED="False",
        )  # fmt: skip
        base = documented(stage, "Gradio", way, port)
        seen = stage.client(PYTHON, PROGRAMS / "call_gradio.py", f"{base}/")
        with browsed(tmp_path / "profile", f"{base}/") as page:
            page.becomes(f"{BUTTON} && document.body.innerText.includes('nothing yet')", "the page is there")
            page.value(f"{BUTTON}.click()")
            page.becomes("document.body.innerText.includes('it is 42')", "the page answers")
    assert seen == {"sum": 42, "counted": ["1", "1 2", "1 2 3"]}
