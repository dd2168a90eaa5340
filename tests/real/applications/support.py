"""The examples of docs/applications.md as running gateways, and a browser in front of them."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.applications import PATIENCE, Stage
from tests.support.chromium import Tab, chromium, tab
from tests.support.examples import environments
from tests.support.websockets import ROOT, until

SHARED = "apps.localhost"  # the host of applications that have a path each; no application knows the name
WAYS = ("host", "path", "api")

_WORDS = {"host": "By host", "path": "By path", "api": "Below /api", "two": "Two endpoints"}


def example(section: str, way: str) -> dict[str, str]:
    """The gateway's variables in an example of docs/applications.md.

    Args:
        section: the heading.
        way: one of WAYS, or "two" for two endpoints.
    """
    text = (ROOT / "docs" / "applications.md").read_text(encoding="utf-8")
    _, found, of_section = text.partition(f"\n## {section}\n")
    _, found, of_way = of_section.partition("\n## ")[0].partition(f"\n**{_WORDS[way]}.**")
    assert found, f"docs/applications.md has no example of {section}, {_WORDS[way]}"
    return next(environments(of_way))


def documented(stage: Stage, section: str, way: str, port: int, **more: str) -> str:
    """Run the gateway with an example, before an application on a port; the application's base URL."""
    variables = {name: text.replace("example.com", "localhost") for name, text in example(section, way).items()}
    upstreams = json.loads(re.sub(r"(//127\.0\.0\.1):\d+", rf"\1:{port}", variables.pop("UPSTREAMS")))
    (service,) = upstreams
    listens = stage.gateway(upstreams, **({"ROUTES": "[]"} | variables | more))
    (route,) = json.loads(variables.get("ROUTES", "[]")) or [{"path": f"/api/{service}/*"}]
    return f"http://{route.get('host', SHARED)}:{listens}{route['path'].removesuffix('/*')}"


class Page(Tab):
    """A page of the browser."""

    def becomes(self, expression: str, what: str) -> Any:
        """Wait until an expression is true in the page, over navigations too; return its value."""
        try:
            return until(lambda: self._value(expression), what, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page shows: {self._value('document.body.innerText')}") from None

    def _value(self, expression: str) -> Any:
        with contextlib.suppress(AssertionError):  # between two pages there is nothing that could be asked
            return self.value(expression)
        return None


@contextlib.contextmanager
def browsed(profile: Path, url: str) -> Iterator[Page]:
    """A page in a browser of its own, without cookies of other tests."""
    with chromium(profile) as devtools, tab(devtools, url) as connection:
        yield Page(connection)
