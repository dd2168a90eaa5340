"""Runs the suite: `python -m tests.support.cache_suite SUITE`, from the root of the repository.

All caches stand before one server of the suite, and run at the same time: the suite mostly waits for responses to
become stale. The output is a table; the exit status is 1 if the gateway fails a required case, or if another cache
passes as many cases. The results of each cache go to a folder beside SUITE, for a closer look.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.cache_suite.caches import CACHES, OURS, PATH, Place, found
from tests.support.cache_suite.verdict import BEYOND, Grades, count, faults, sizes, table
from tests.support.ports import free_port

PATIENCE = 60.0  # seconds in which a server must listen; Varnish compiles its configuration
LONGEST = 1800.0  # seconds of a cache's run
GRADE = Path(__file__).with_name("grade.mjs")


@contextlib.contextmanager
def running(command: list[str], variables: Mapping[str, str], log: Path, port: int, folder: Path) -> Iterator[None]:
    """Run a server until the block ends."""
    environment = {**os.environ, "PATH": PATH, **variables}
    with log.open("wb") as output:
        process = subprocess.Popen(found(command), env=environment, cwd=folder, stdout=output, stderr=output)
        try:
            _await(port, process, log)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def started(name: str, suite: Path, service: int, results: Path) -> Iterator[int]:
    """Run a cache in a folder of its own; its port."""
    cache = CACHES[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)  # servers that root starts write as another user
        place = Place(suite, Path(folder), free_port(), service)
        with running(cache.command(place), cache.variables(place), results / f"{name}.log", place.port, place.folder):
            yield place.port


def ask(port: int, suite: Path, file: Path) -> Path:
    """Run all cases against a cache; the file of results."""
    base = {"npm_config_base": f"http://127.0.0.1:{port}", "npm_config_id": "", "npm_package_config_id": ""}
    with file.open("wb") as output:
        client = [*found(["node"]), "--no-warnings", "test-engine/cli.mjs"]
        subprocess.run(client, cwd=suite, env=os.environ | base, stdout=output, timeout=LONGEST, check=True)
    return file


def version(name: str) -> str:
    done = subprocess.run(found([*CACHES[name].version]), capture_output=True, text=True, check=True)
    said = re.search(r"[0-9]+(?:\.[0-9]+)+", done.stdout + done.stderr)
    return said[0] if said else ""


def graded(suite: Path, files: Mapping[str, Path]) -> Mapping[str, Grades]:
    command = [*found(["node"]), str(GRADE), str(suite), *map(str, files.values())]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {name: said[str(file)] for name, file in files.items()}


def main(suite: Path, results: Path) -> int:
    """Run all caches, and print what came of it."""
    results.mkdir(parents=True, exist_ok=True)
    service = free_port()
    server = {"protocol": "http", "port": str(service), "pidfile": str(results / "server.pid")}
    variables = {f"npm_config_{name}": value for name, value in server.items()}
    with contextlib.ExitStack() as stack:
        command = ["node", "test-engine/server/server.mjs"]
        stack.enter_context(running(command, variables, results / "server.log", service, suite))
        ports = {name: stack.enter_context(started(name, suite, service, results)) for name in CACHES}
        pool = stack.enter_context(ThreadPoolExecutor(len(CACHES)))
        asked = {name: pool.submit(ask, port, suite, results / f"{name}.json") for name, port in ports.items()}
        files = {name: each.result() for name, each in asked.items()}
    grades = graded(suite, files)
    counts = {name: count(each) for name, each in grades.items()}
    print("\n".join(table(counts, sizes(grades[OURS]), {name: version(name) for name in CACHES})))
    for case, why in BEYOND.items():
        print(f"{case} is not judged: {why}")
    wrong = [*faults(OURS, grades)]
    print(*wrong, f"the results are in {results}", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    sys.exit(main(folder, folder.with_name("results")))
