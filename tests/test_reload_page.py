"""docs/reload.md: its commands are executed, and a gateway says what the page says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.operators import AUTH, token
from tests.support.ports import free_port
from tests.support.reloading import write
from tests.test_main import wait_for

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "reload.md").read_text(encoding="utf-8")
SERVICES = {"billing": ["http://10.0.0.7:9000"]}


def block(mark: str) -> str:
    """The commands between two marks."""
    marked = DOCUMENT.partition(f"<!-- {mark} -->\n")[2].partition(f"<!-- /{mark} -->")[0]
    return marked.partition("```sh\n")[2].partition("```")[0]


class Gateway:
    """A gateway that has read ./.env."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"HOST": "127.0.0.1", "PORT": str(self.port), "CTL_SOCKET": str(folder / "own" / "ctl.sock")}
        self.env = env | own | {"PYTHONPATH": str(ROOT), "LOG_FORMAT": "text", "ACCESS_LOG": "false"}
        command = [sys.executable, "-m", "tornado_gateway"]
        self.popen = subprocess.Popen(command, env=self.env, cwd=folder, stderr=subprocess.PIPE, text=True)
        wait_for(self.port, self.popen)

    def write(self, **variables: str) -> None:
        write(self.folder / ".env", AUTH | {"UPSTREAMS": json.dumps(SERVICES)} | variables)

    def hears(self, text: str) -> None:
        """Wait for a line of the log."""
        assert self.popen.stderr
        seen = []
        while text not in (line := self.popen.stderr.readline()):
            assert line, "".join(seen)
            seen.append(line)

    def run(self, command: str) -> str:
        """Run a command of the page; return its output."""
        python = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        env = self.env | {"PATH": python, "PID": str(self.popen.pid), "TOKEN": token()}
        command = command.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        shell = ["sh", "-c", command]
        done = subprocess.run(shell, env=env, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout or done.stderr


def test_the_commands_of_the_page_reload_and_the_log_says_what_the_page_says(tmp_path: Path) -> None:
    write(tmp_path / ".env", AUTH | {"UPSTREAMS": json.dumps(SERVICES)})
    by_signal, by_ctl, by_http = block("reload").splitlines()
    gateway = Gateway(tmp_path)
    try:
        changed = {"billing": [*SERVICES["billing"], "http://10.0.0.9:9000"]}
        gateway.write(BREAKER_FAILURES="3", JWT_SECRET="n" * 32, UPSTREAMS=json.dumps(changed))
        gateway.run(by_signal)
        (told,) = [line for line in DOCUMENT.splitlines() if line.startswith("reloaded: ")]
        gateway.hears(told)
        gateway.write(PORT="1", HEDGE="true")
        gateway.run(by_ctl)
        gateway.hears("HEDGE false -> true")
        gateway.write(RETRY_ATTEMPTS="4")
        assert json.loads(gateway.run(by_http))["changes"] == ["RETRY_ATTEMPTS 3 -> 4", "HEDGE true -> false"]
        (wrong,) = [line for line in DOCUMENT.splitlines() if line.startswith("not reloaded")]
        lines = ["AUTH_REQUIRED=false", f"UPSTREAMS='{json.dumps(SERVICES)}'", "BREAKER_FAILURES=many"]
        (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
        complaint = wrong.partition(".env:3: ")[2]
        assert f"ctl: 422: {tmp_path}" not in (said := gateway.run(by_ctl))
        assert said == f"ctl: 422: .env:3: {complaint}\n"
        gateway.hears(wrong)
    finally:
        gateway.popen.send_signal(signal.SIGTERM)
        gateway.popen.communicate(timeout=60)
    assert gateway.popen.returncode == 0
