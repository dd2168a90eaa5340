"""Forks: what a worker ends with, and that no worker outlives its supervisor."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import os, signal
from tornado_gateway.supervisor.birth import fork
def live():
    os.write(1, b"lives\\n")
    {life}
pid = fork(live)
os.write(1, b"parent\\n")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
"""


@pytest.mark.parametrize(
    ("life", "code"), [("return 7", "7"), ("raise SystemExit('no')", "1"), ("os.kill(os.getpid(), 15)", "-15")]
)
def test_a_worker_ends_with_the_code_of_its_life(life: str, code: str) -> None:
    command = [sys.executable, "-W", "error", "-c", CODE.format(life=life)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert sorted(done.stdout.splitlines()) == sorted(["parent", "lives", f"{code} set()"]), done.stderr
    assert done.returncode == 0
    assert ("SystemExit: no" in done.stderr) is (code == "1")


def test_a_configuration_that_a_worker_cannot_use_is_told_in_a_line() -> None:
    """A file of TLS may have been replaced since the gateway has read the file; a crash loop then tells it often."""
    problem = "problems.Problem('TLS_CERT', '', 'cannot be read', 'a PEM file')"
    life = f"from tornado_gateway.config import problems; raise problems.ConfigurationError(({problem},))"
    command = [sys.executable, "-W", "error", "-c", CODE.format(life=life)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.stdout.splitlines()[-1].startswith("1 ")
    assert done.stderr.splitlines() == ["this worker has failed: TLS_CERT: cannot be read; allowed: a PEM file"]


ORPHAN = """
import os, time
from tornado_gateway.supervisor.birth import fork
def live():
    print(os.getpid(), flush=True)
    time.sleep(60)
fork(live)
time.sleep(60)
"""


def test_no_worker_outlives_its_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, cwd=ROOT) as popen:
        assert popen.stdout
        pid = int(popen.stdout.readline())
        popen.kill()
        assert popen.stdout.read() == ""  # the pipe ends with the last process that has it
        deadline = time.monotonic() + 30
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    os.kill(pid, 0)
    return state != "Z"
