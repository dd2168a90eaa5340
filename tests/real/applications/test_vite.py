"""Vite with hot reload: a page in Chromium changes with its modules, over a WebSocket on the page's base URL.

Vite makes root-relative URLs from its option base, which has the public prefix. By host nothing is configured.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from tests.real.applications.support import WAYS, documented
from tests.support.applications import ENVIRONMENT, PATIENCE, Stage, staged
from tests.support.chromium import Tab, chromium, tab
from tests.support.ports import free_port
from tests.support.websockets import until

PREFIXES = {"host": "", "path": "/front", "api": "/api/site"}
PAGE = '<!doctype html><title>{title}</title><p id="seen"></p><script type="module" src="/main.js"></script>'
MAIN = """
import { message } from "./message.js";
const show = (text) => { document.getElementById("seen").textContent = text; };
show(message);
import.meta.hot.accept("./message.js", (changed) => show(changed.message));
"""


class Page(Tab):
    """A tab.

    Attributes:
        sockets: URL of each WebSocket that the page has opened.
        accepted: how many handshakes were answered with 101.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        super().__init__(devtools)
        self.sockets: list[str] = []
        self.accepted = 0
        self.call("Network.enable")

    def on_event(self, message: dict[str, Any]) -> None:
        if message["method"] == "Network.webSocketCreated":
            self.sockets.append(message["params"]["url"])
        elif message["method"] == "Network.webSocketHandshakeResponseReceived":
            self.accepted += message["params"]["response"]["status"] == 101

    def until_shown(self, expression: str, text: str) -> None:
        until(lambda: self.value(expression) == text, f"{expression} is {text}", PATIENCE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("profile")) as devtools:
        yield devtools


def serve(stage: Stage, prefix: str) -> int:
    """Run a Vite server in the stage's folder; the port."""
    port = free_port()
    for name, text in (("index.html", PAGE.format(title="first")), ("main.js", MAIN), ("package.json", "{}")):
        (stage.folder / name).write_text(text)
    say(stage.folder, "first")
    base = ("--base", f"{prefix}/") if prefix else ()
    stage.start(
        "node", ENVIRONMENT / "node_modules" / "vite" / "bin" / "vite.js", "--host", "127.0.0.1", "--port", str(port),
        "--strictPort", *base, answers=f"http://127.0.0.1:{port}{prefix}/", cwd=stage.folder,
    )  # fmt: skip
    return port


def say(sources: Path, message: str) -> None:
    (sources / "message.js").write_text(f'export const message = "{message}";\n')


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_module_changes_the_page(browser: str, way: str, tmp_path: Path) -> None:
    with staged(tmp_path) as stage, tab(browser, "about:blank") as devtools:
        url = documented(stage, "Vite", way, serve(stage, PREFIXES[way]))
        page = Page(devtools)
        page.call("Page.navigate", url=url + "/")
        shown = "document.getElementById('seen')?.textContent"
        page.until_shown(shown, "first")
        until(lambda: page.value("1") and page.accepted == 1, "hot reload is connected", PATIENCE)
        page.value("globalThis.mark = 'not reloaded'")
        say(stage.folder, "second")
        page.until_shown(shown, "second")
        assert page.value("globalThis.mark") == "not reloaded"
        (stage.folder / "index.html").write_text(PAGE.format(title="reloaded"))
        page.until_shown("document.title", "reloaded")
        page.until_shown(shown, "second")
        until(lambda: page.value("1") and page.accepted == 2, "hot reload is connected again", PATIENCE)
        assert {socket.partition("?")[0] for socket in page.sockets} == {url.replace("http", "ws", 1) + "/"}
        page.call("Page.close")
