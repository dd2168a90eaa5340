"""docs/authentication.md, carried out: the commands that hash, run and ask."""

import asyncio
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start
from tests.support.sockets import echo
from tests.test_documents import documents

ROOT = Path(__file__).parent.parent
PAGE = documents()["docs/authentication.md"]
PASSWORD = "correct horse battery staple"


def block(name: str) -> list[str]:
    """The lines of the block of code between the marks of a name."""
    return PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0].splitlines()[1:-1]


async def bash(line: str, folder: Path, given: str = "", **variables: str) -> tuple[str, str]:
    """Run a line with `python` as this Python; return standard output and standard error."""
    (folder / "python").symlink_to(sys.executable)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": ":".join([str(ROOT), *sys.path[1:]]), **variables}
    process = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-c", line, env=env, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(given.encode())
    (folder / "python").unlink()
    assert process.returncode == 0, err
    return out.decode(), err.decode()


async def asked(line: str, serve: Serve, upstream: Start, folder: Path, item: str, **variables: str) -> str:
    """Start a gateway by the first line of a block with an item, and ask by the second line; return the answer."""
    start, curl = line.split("\n")
    env = dict(word.split("=", 1) for word in shlex.split(start) if re.match("[A-Z_]+=", word))
    assert env.pop("UPSTREAMS") == "..."
    env = {name: value.replace("$ITEM", item) for name, value in env.items()}
    running = await serve({"billing": [upstream(echo).url]}, **env)
    answer, _ = await bash(curl.replace("curl", "curl -isS").replace(":8080", f":{running.port}"), folder, **variables)
    return answer


@pytest.mark.gen_test
async def test_the_key_of_the_page_gets_in(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    (command,) = block("hash-key")
    item, said = await bash(command, tmp_path)
    key = said.split()[-1]
    use = "\n".join(block("use-key"))
    assert (await asked(use, serve, upstream, tmp_path, item.strip(), KEY=key)).startswith("HTTP/1.1 200 ")
    assert (await asked(use, serve, upstream, tmp_path, item.strip(), KEY=key[1:])).startswith("HTTP/1.1 401 ")


@pytest.mark.gen_test
async def test_the_password_of_the_page_gets_in(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    (command,) = block("hash-password")
    item, said = await bash(command, tmp_path, PASSWORD)
    assert said == ""
    use = "\n".join(block("use-password"))
    for password, status in ((PASSWORD, 200), (PASSWORD[1:], 401)):
        answer = await asked(use, serve, upstream, tmp_path, item.strip(), PASSWORD=password)
        assert answer.startswith(f"HTTP/1.1 {status} ")
