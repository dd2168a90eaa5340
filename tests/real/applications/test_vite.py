"""Vite with hot reload: a page in Chromium changes with its modules, over a WebSocket on the page's base URL.

Vite makes root-relative URLs from its option base. So below a prefix the option and the base URL of the endpoint have
the public prefix; by host nothing is configured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection

from tests.support.applications import BASES, ENVIRONMENT, PATIENCE, Stage, base_url, free_port, staged
from tests.support.chromium import Tab, chromium, tab
from tests.support.websockets import until

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


@dataclass(frozen=True)
class Running:
    """A gateway with a Vite server for each base URL; the service has the name of the base.

    Attributes:
        browser: address of the DevTools.
    """

    stage: Stage
    port: int
    browser: str

    def sources(self, base: str) -> Path:
        return self.stage.folder / base


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("vite")
    with staged(folder) as stage, chromium(tmp_path_factory.mktemp("profile")) as browser:
        services = {base: [serve(stage, base)] for base in BASES}
        yield Running(stage, stage.gateway(services), browser)


def serve(stage: Stage, base: str) -> str:
    """Run a Vite server; the base URL of the endpoint."""
    sources, port = stage.folder / base, free_port()
    sources.mkdir()
    for name, text in (("index.html", PAGE.format(title="first")), ("main.js", MAIN), ("package.json", "{}")):
        (sources / name).write_text(text)
    say(sources, "first")
    prefix = urlsplit(base_url(base, port, base)).path
    vite = ENVIRONMENT / "node_modules" / "vite" / "bin" / "vite.js"
    url = f"http://127.0.0.1:{port}{prefix}"
    command = ("node", vite, "--host", "127.0.0.1", "--port", str(port), "--strictPort", "--base", f"{prefix}/")
    stage.start(*command, answers=url + "/", cwd=sources)
    return url


def say(sources: Path, message: str) -> None:
    (sources / "message.js").write_text(f'export const message = "{message}";\n')


@pytest.mark.parametrize("base", BASES)
def test_a_changed_module_changes_the_page(running: Running, base: str) -> None:
    url, sources = base_url(base, running.port, base), running.sources(base)
    with tab(running.browser, "about:blank") as devtools:
        page = Page(devtools)
        page.call("Page.navigate", url=url + "/")
        shown = "document.getElementById('seen')?.textContent"
        page.until_shown(shown, "first")
        until(lambda: page.value("1") and page.accepted == 1, "hot reload is connected", PATIENCE)
        page.value("globalThis.mark = 'not reloaded'")
        say(sources, "second")
        page.until_shown(shown, "second")
        assert page.value("globalThis.mark") == "not reloaded"
        (sources / "index.html").write_text(PAGE.format(title="reloaded"))
        page.until_shown("document.title", "reloaded")
        page.until_shown(shown, "second")
        until(lambda: page.value("1") and page.accepted == 2, "hot reload is connected again", PATIENCE)
        assert {socket.partition("?")[0] for socket in page.sockets} == {url.replace("http", "ws", 1) + "/"}
        page.call("Page.close")
