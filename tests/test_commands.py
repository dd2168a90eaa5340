"""Each command of the documents is executed by a test, or checked as far as a test can go.

a block with a mark that a test names    the test executes the commands of the block
a block of EXECUTED                      the tests of the page execute the commands
a block marked external                  the programs are in EXTERNAL, each with what checks the program's files
any other block                          CHECKS has a check for each command; tests/long starts each gateway
"""

import contextlib
import hashlib
import http.client
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.examples import whole_lines
from tests.support.ports import free_port
from tests.test_documents import ROOT, code, documents, rows
from tests.test_main import CLEAN, wait_for
from tornado_gateway.__main__ import parse
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError
from tornado_gateway.config.variables import VARIABLES

# Programs of others, and where what they read is checked.
EXTERNAL = {
    "caddy": "tests/test_entrances.py",
    "docker": "tests/test_deployment.py",
    "git": "tests/test_deployment.py",
    "haproxy": "tests/test_entrances.py",
    "heroku": "tests/test_deployment.py",
    "kubectl": "tests/test_deployment.py",
    "nginx": "tests/test_entrances.py",
    "systemctl": "tests/test_deployment.py",
    "uv": "tests/test_locks.py",
}

_BLOCK = re.compile(r"(?:<!-- ([\w-]+) -->\n)?```sh\n(.*?)```", re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_OPERATORS = {"&&", "||", "|", ";", "&"}
_OWN = {name for variable in VARIABLES for name in (variable.name, *variable.aliases)}
PLACEHOLDERS = {
    "UPSTREAMS": '{"svc": ["http://127.0.0.1:1"]}', "JWT_SECRET": "k" * 32, "SECRET": "s" * 32,
    **{name: hashlib.sha256(name.encode()).hexdigest() for name in ("HASH", "OLD", "NEW")},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands.

    Attributes:
        place: file and line.
        mark: "" without a mark.
    """

    place: str
    mark: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """The words of each command, assignments of variables included."""
        for line in whole_lines(self.text):
            command: list[str] = []
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
            lexer.whitespace_split = True
            for word in [*lexer, ";"]:
                if word not in _OPERATORS:
                    command.append(word)
                elif command:
                    yield command
                    command = []


def blocks() -> Iterator[Block]:
    for file, text in documents().items():
        for found in _BLOCK.finditer(text):
            yield Block(f"{file}:{text[: found.start()].count(chr(10)) + 1}", found[1] or "", found[2])


BLOCKS = list(blocks())
EXECUTED = {"docs/getting-started.md": "tests/test_getting_started.py"}
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]


def is_executed(block: Block) -> bool:
    """Whether a test executes the commands."""
    named = any(f'"{block.mark}"' in each or f"<!-- {block.mark} -->" in each for each in SOURCES)
    return block.place.partition(":")[0] in EXECUTED or (bool(block.mark) and named)


PLAIN = [block for block in BLOCKS if block.mark != "external" and not is_executed(block)]


def test_some_blocks_are_executed() -> None:
    marks = {block.mark for block in BLOCKS if is_executed(block)}
    assert {"takeover", "ticket", "activate", "check"} <= marks
    assert all((ROOT / each).is_file() for each in EXECUTED.values())


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.mark == "external"], ids=lambda each: each.place)
def test_external_blocks_have_only_programs_of_others(block: Block) -> None:
    programs = {command[0] for command in block.commands()}
    assert programs <= set(EXTERNAL)
    assert all((ROOT / EXTERNAL[each]).is_file() for each in programs)


# ---------------------------------------------------------------- checks of commands, by program


class Refused(Exception):
    """A command is not what the check expects."""


def check(command: list[str]) -> None:
    """Check a command.

    Raises:
        Refused: there is no check for the command, or the command is wrong.
    """
    leading = itertools.takewhile(bool, map(_ASSIGNMENT.fullmatch, command))
    variables = dict(found.groups() for found in leading if found)
    words = command[len(variables) :]
    if not words or words[-2:] == ["-m", "tornado_gateway"]:
        check_variables({name: value for name, value in variables.items() if name in _OWN})
        return
    program = words[0].removeprefix(".venv/bin/")
    if program not in CHECKS:
        raise Refused(f"no check for {program}")
    CHECKS[program](words[1:])


def check_variables(variables: dict[str, str]) -> None:
    """The gateway accepts the variables. Dots and variables of the shell stand for any valid value."""
    load_settings({"UPSTREAMS": PLACEHOLDERS["UPSTREAMS"], **filled(variables)})


def filled(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without dots and variables of the shell."""
    return {name: PLACEHOLDERS[name] if value == "..." else _filled(value) for name, value in variables.items()}


def _filled(value: str) -> str:
    return re.sub(r"\$([A-Z]+)", lambda found: PLACEHOLDERS[found[1]], value)


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        raise Refused("a script")
    module, arguments = words[1], words[2:]
    if module == "tornado_gateway":
        check_options(arguments)
    elif module.startswith("benchmarks"):
        check_benchmark(module, arguments)
    elif importlib.util.find_spec(module) is None:
        raise Refused(f"no module {module}")


def check_options(arguments: list[str]) -> None:
    """The command line is accepted."""
    try:
        parse(arguments)
    except SystemExit as end:
        if end.code:
            raise Refused(f"wrong usage: {arguments}") from None


def check_benchmark(module: str, arguments: list[str]) -> None:
    """The module exists, and it or its package names each word, or each part of a list."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Refused(f"no module {module}")
    folder = Path(spec.origin).parent
    own = folder.rglob("*.py") if spec.submodule_search_locations else [Path(spec.origin)]
    source = "".join(path.read_text(encoding="utf-8") for path in own)
    for word in [part for each in arguments for part in each.split(",")]:
        if not (word in source or word.isdigit() or (ROOT / word).exists()):
            raise Refused(f"{module} has no {word}")


def check_pip(words: list[str]) -> None:
    if words[0] != "install" or not all((ROOT / each).is_file() for each in words if each.endswith(".txt")):
        raise Refused("pip installs what is not there")


def check_bash(words: list[str]) -> None:
    if not (ROOT / words[0]).is_file():
        raise Refused(f"no script {words[0]}")
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    for word in words[1:]:
        if not (ROOT / word).exists() and f"\n{word}() {{" not in script:
            raise Refused(f"{words[0]} has no {word}")


def check_curl(words: list[str]) -> None:
    """The URL is below a route of the README."""
    (url,) = [word for word in words if word.startswith("http://127.0.0.1:8080/")]
    path = url.removeprefix("http://127.0.0.1:8080").partition("?")[0]
    known = [target for row in rows_of_routes() for target in code(row[1])]
    stems = [re.sub(r"<service>.*|\*$|\?.*", "", each) for each in known]
    if not any(path.startswith(stem) for stem in stems):
        raise Refused(f"no route for {path}")


def rows_of_routes() -> list[list[str]]:
    return rows(documents()["README.md"], "routes")


def check_docker(words: list[str]) -> None:
    """The image has the name that all files use; the gateway accepts the variables."""
    given = [_ASSIGNMENT.fullmatch(words[at + 1]) for at, word in enumerate(words) if word == "-e"]
    check_variables({found[1]: found[2] for found in given if found})
    if "tornado-gateway" not in words:
        raise Refused("another image")


def check_ruff(words: list[str]) -> None:
    if words[0] not in ("check", "format"):
        raise Refused(f"tests/run has no ruff {words[0]}")


def check_mypy(words: list[str]) -> None:
    if words:
        raise Refused("tests/run has mypy alone")


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "python": check_python, "python3": check_python, "pip": check_pip, "bash": check_bash, "curl": check_curl,
    "docker": check_docker, "ruff": check_ruff, "mypy": check_mypy,
}  # fmt: skip


@pytest.mark.parametrize("block", PLAIN, ids=lambda each: each.place)
def test_each_command_is_checked(block: Block) -> None:
    for command in block.commands():
        check(command)


# ---------------------------------------------------------------- starts of the gateway


def starts() -> Iterator[dict[str, str]]:
    """The variables of each command that starts the gateway."""
    for block in PLAIN:
        for command in block.commands():
            if command[-2:] == ["-m", "tornado_gateway"] and _ASSIGNMENT.fullmatch(command[0]):
                given = dict(found.groups() for found in map(_ASSIGNMENT.fullmatch, command) if found)
                yield {"UPSTREAMS": PLACEHOLDERS["UPSTREAMS"], **filled(given)}


# A tenth of the starts takes some seconds; bash tests/long commands tries all.
TRIED = [*starts()][:: 1 if "STARTS" in os.environ else 10]


@pytest.mark.parametrize("variables", TRIED, ids=json.dumps)
def test_each_start_of_the_documents_is_a_gateway_that_answers(variables: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    env = CLEAN | variables | {"HOST": "127.0.0.1", "PORT": str(port)}
    with subprocess.Popen([sys.executable, "-m", "tornado_gateway"], env=env, cwd=tmp_path, text=True) as popen:
        try:
            wait_for(port, popen)
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
                client.request("GET", "/healthz")
                assert client.getresponse().status == 200
        finally:
            popen.terminate()
        assert popen.wait(30) == 0


# ---------------------------------------------------------------- and each check can fail


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /", "python -m tornado_gateway --chek", "python -m tornado_gateway hash tea",
        "python -m nothing_like_this", "python x.py", "python -m benchmarks.nothing",
        "python -m benchmarks.trace --nothing", "bash tests/nothing", "bash tests/long nothing",
        "pip install -r nothing.txt", "curl http://127.0.0.1:8080/nothing", "docker run another",
        "UPSTREAMS=x python -m tornado_gateway", "NOTHING", "ruff nothing", "mypy nothing",
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(command: str) -> None:
    (words,) = Block("", "", command).commands()
    with pytest.raises((Refused, ConfigurationError)):
        check(words)


def test_commands_are_split_at_operators_alone() -> None:
    block = Block("", "", "A='x && y' b | c -d \"e;f\" && \\\n  g  # h\ni")
    assert list(block.commands()) == [["A=x && y", "b"], ["c", "-d", "e;f"], ["g"], ["i"]]
