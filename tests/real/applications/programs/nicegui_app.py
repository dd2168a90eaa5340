"""Two pages of NiceGUI: /start redirects to /, whose button counts clicks on the server. Argument: the port."""

import sys

from fastapi.responses import RedirectResponse
from nicegui import app, ui


@app.get("/start")
def start() -> RedirectResponse:
    """Lead to the page; NiceGUI puts the public prefix in front."""
    return RedirectResponse("/")


@ui.page("/")
def page() -> None:
    """Show a button and what the server counted."""
    clicks = 0

    def click() -> None:
        nonlocal clicks
        clicks += 1
        label.text = f"{clicks} clicks"

    label = ui.label("0 clicks")
    ui.button("Count", on_click=click)


ui.run(host="127.0.0.1", port=int(sys.argv[1]), reload=False, show=False)
