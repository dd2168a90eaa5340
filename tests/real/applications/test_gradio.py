"""Gradio: its own client calls a function that answers at once, and a function whose answers come as events."""

from pathlib import Path

import pytest

from tests.real.applications.support import WAYS, documented
from tests.support.applications import PROGRAMS, PYTHON, free_port, staged

ROOTS = {"host": "", "path": "/demo", "api": "/api/gradio"}


@pytest.mark.parametrize("way", WAYS)
def test_a_function_answers_and_another_streams(way: str, tmp_path: Path) -> None:
    port = free_port()
    with staged(tmp_path) as stage:
        stage.start(
            PYTHON, PROGRAMS / "gradio_app.py", str(port), ROOTS[way],
            answers=f"http://127.0.0.1:{port}/config", GRADIO_ANALYTICS_ENABLED="False",
        )  # fmt: skip
        base = documented(stage, "Gradio", way, port)
        seen = stage.client(PYTHON, PROGRAMS / "call_gradio.py", f"{base}/")
    assert seen == {"sum": 42, "counted": ["1", "1 2", "1 2 3"]}
