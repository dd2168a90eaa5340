"""A page of Gradio with a button, and two functions: add() answers at once, count() answers piece by piece.

Arguments: port, root path.
"""

import sys
import time
from collections.abc import Iterator

import gradio


def add(one: float, other: float) -> float:
    """Answer at once."""
    return one + other


def count(to: float) -> Iterator[str]:
    """Answer with one more number each 0.2 s."""
    for number in range(1, int(to) + 1):
        yield " ".join(map(str, range(1, number + 1)))
        time.sleep(0.2)


with gradio.Blocks() as app:
    shown = gradio.Markdown("nothing yet")
    gradio.Button("Answer").click(lambda: f"it is {6 * 7}", outputs=shown)
    gradio.api(add, api_name="add")
    gradio.api(count, api_name="count")

app.queue().launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), root_path=sys.argv[2] or None)
