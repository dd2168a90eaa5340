"""Django with Channels: Chromium logs in by the form, follows redirects, and talks to a consumer over a WebSocket.

Django checks Host by ALLOWED_HOSTS, the origin of the form by the CSRF middleware, and the origin of the WebSocket by
AllowedHostsOriginValidator.
"""

from pathlib import Path

import pytest

from tests.real.applications.support import SHARED, WAYS, browsed, documented
from tests.support.applications import PROGRAMS, PYTHON, staged
from tests.support.ports import free_port

HOSTS = {"host": "django.localhost", "path": SHARED, "api": SHARED}
PREFIXES = {"host": "", "path": "/site", "api": "/api/django"}
LOGIN = """
document.querySelector('[name=username]').value = 'ada';
document.querySelector('[name=password]').value = 'a password';
document.querySelector('button').click()
"""
SAY = """new Promise(resolve => {
  const socket = new WebSocket('%s/echo');
  socket.onclose = event => resolve(`closed with ${event.code}`);
  socket.onmessage = event => resolve(event.data);
  socket.onopen = () => socket.send('good day');
})"""


@pytest.mark.parametrize("way", WAYS)
def test_a_login_and_a_consumer(way: str, tmp_path: Path) -> None:
    port, prefix = free_port(), PREFIXES[way]
    root_path = ["--root-path", prefix] if prefix else []
    with staged(tmp_path) as stage:
        stage.start(
            PYTHON, "-m", "daphne", "-p", str(port), "-b", "127.0.0.1", *root_path, "django_app:application",
            answers=f"http://127.0.0.1:{port}{prefix}/login/",
            cwd=tmp_path, PYTHONPATH=str(PROGRAMS), SITE_HOST=HOSTS[way],
        )  # fmt: skip
        base = documented(stage, "Django", way, port)
        host = base.split("/")[2]
        with browsed(tmp_path / "profile", f"{base}/") as page:
            page.becomes("document.querySelector('[name=password]') !== null", "the site asks who it is")
            assert page.value("location.href").startswith(f"{base}/login/?next=")
            page.value(LOGIN)
            page.becomes(f"document.body.innerText === 'Hello ada at {host}'", "the site greets")
            assert page.value("location.href") == f"{base}/"
            assert page.value(SAY % base.replace("http", "ws")) == "ada: good day"
