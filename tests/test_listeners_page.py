"""docs/listeners.md: the commands make a certificate, and a gateway that answers over TLS."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "listeners.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_make_a_gateway_that_speaks_tls(tmp_path: Path) -> None:
    marked = DOCUMENT.partition("<!-- tls -->\n")[2].partition("<!-- /tls -->")[0]
    commands = marked.partition("```sh\n")[2].partition("```")[0].replace("8443", str(free_port()))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    shell = ["sh", "-c", f"set -e\n{commands}wait\n"]
    done = subprocess.run(shell, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert '{"status": "ok"}\n' in done.stdout, done.stdout
