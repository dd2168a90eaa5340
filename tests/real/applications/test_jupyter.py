"""Jupyter Server: a page in Chromium logs in, starts a kernel, and lets the kernel compute over a WebSocket."""

from pathlib import Path

import pytest

from tests.real.applications.support import WAYS, browsed, documented
from tests.support.applications import PYTHON, staged
from tests.support.ports import free_port

TOKEN = "a-token-of-the-test"
BASES = {"host": "/", "path": "/notebooks/", "api": "/api/jupyter/"}

# As JupyterLab's client: every request with the cookie of the login and of XSRF protection, the kernel's messages as
# JSON on one WebSocket.
LOGIN = "document.querySelector('#password_input').value = '%s'; document.querySelector('form').submit()"
ARRIVED = "location.pathname.endsWith('absent') && document.body.innerText.includes('404')"
COMPUTE = """(async () => {
  const base = '%s';
  const xsrf = document.cookie.match(/_xsrf=([^;]*)/)[1];
  const started = await fetch(base + '/api/kernels', {method: 'POST', headers: {'X-XSRFToken': xsrf}});
  if (started.status !== 201) return {status: started.status, body: await started.text()};
  const {id} = await started.json();
  const socket = new WebSocket(`${base.replace('http', 'ws')}/api/kernels/${id}/channels?session_id=s`);
  const result = await new Promise((resolve, reject) => {
    socket.onclose = event => reject(new Error(`closed with ${event.code}`));
    socket.onmessage = event => {
      const message = JSON.parse(event.data);
      if (message.msg_type === 'execute_result' && message.parent_header.msg_id === 'm') resolve(message.content.data);
      if (message.msg_type === 'error') reject(new Error(message.content.evalue));
    };
    socket.onopen = () => socket.send(JSON.stringify({
      header: {msg_id: 'm', msg_type: 'execute_request', session: 's', username: 'u', version: '5.3', date: ''},
      parent_header: {}, metadata: {}, channel: 'shell', buffers: [],
      content: {code: '6*7', silent: false, store_history: true, user_expressions: {}, allow_stdin: false},
    }));
  });
  const ended = await fetch(base + '/api/kernels/' + id, {method: 'DELETE', headers: {'X-XSRFToken': xsrf}});
  return {location: started.headers.get('Location').split('/').slice(0, -1).join('/'), result, ended: ended.status};
})().then(seen => { window.seen = seen }, error => { window.seen = {error: String(error)} }); true"""


# The page that is asked for does not exist, and so has no content security policy that forbids the requests above.
@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_computes(way: str, tmp_path: Path) -> None:
    port, base_url = free_port(), BASES[way]
    with staged(tmp_path) as stage:
        stage.start(
            PYTHON, "-m", "jupyter_server", f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1",
            f"--IdentityProvider.token={TOKEN}", f"--ServerApp.base_url={base_url}", "--ServerApp.allow_root=True",
            "--ServerApp.allow_remote_access=True",
            answers=f"http://127.0.0.1:{port}{base_url}login", cwd=tmp_path,
        )  # fmt: skip
        base = documented(stage, "Jupyter", way, port)
        with browsed(tmp_path / "profile", f"{base}/login?next={base_url}absent") as page:
            page.becomes("document.querySelector('#password_input') !== null", "the page asks for the token")
            page.value(LOGIN % TOKEN)
            page.becomes(ARRIVED, "the login leads to the page that was asked for")
            page.value(COMPUTE % base)
            seen = page.becomes("window.seen", "the kernel answers")
    assert seen == {"location": f"{base_url}api/kernels", "result": {"text/plain": "42"}, "ended": 204}
