"""Standard streams that are closed or have no reader; in processes, because pytest replaces its own streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTS = "import os, sys; from tornado_gateway.adapters.stdio import say, secure, settle\n"


def run(program: str, redirection: str = "") -> subprocess.CompletedProcess[str]:
    """What a program prints and its exit code, the latter at the end of stderr."""
    script = f'"{sys.executable}" -c "$0" {redirection}; echo "exit $?" >&9'
    return subprocess.run(
        ["bash", "-c", f"exec 9>&2; {script}", IMPORTS + program],
        env={"PATH": os.environ["PATH"]}, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_lines_go_to_stdout_or_where_they_should() -> None:
    done = run("secure(); say('a'); say('b', sys.stderr); settle()")
    assert (done.stdout, done.stderr) == ("a\n", "b\nexit 0\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str) -> None:
    program = (
        "secure(); number = os.open('/dev/null', 0); say('a'); say('b', sys.stderr); settle(); sys.exit(number < 3)"
    )
    assert run(program, closed).stderr.endswith("exit 0\n")


@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_reader_that_has_gone_is_no_failure(lines: int) -> None:
    left = "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2)\n"
    said = f"secure()\nfor _ in range({lines}): say('a' * 100); say('b', sys.stderr)\n"
    assert run(left + said + "settle()").stderr == "exit 0\n"


def test_unflushable_earlier_output_is_no_failure() -> None:
    program = "r, w = os.pipe(); os.close(r); os.dup2(w, 1); secure(); sys.stdout.write('a'); settle()"
    assert run(program).stderr == "exit 0\n"


def test_what_an_encoding_cannot_hold_is_escaped() -> None:
    done = run("secure(); say('\\udcff\\u20ac'); settle()", "| cat")
    assert done.stdout == "\\udcff€\n"


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--other", 2)])
def test_a_parser_whose_reader_has_gone_keeps_its_exit_code(argument: str, code: int) -> None:
    left = "from tornado_gateway.adapters.stdio import ArgumentParser\n"
    left += "r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.dup2(w, 2); secure()\n"
    parse = f"try: ArgumentParser(prog='x' * 100_000).parse_args(['{argument}'])\nfinally: settle()"
    assert run(left + parse).stderr == f"exit {code}\n"
