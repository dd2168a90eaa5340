"""docs/authentication.md, carried out: the commands that hash, run and ask."""

import asyncio
import json
import os
import re
import shlex
import string
import sys
from pathlib import Path

import jwt
import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask
from tests.support.sockets import echo, get
from tests.test_documents import documents
from tests.upkeep.test_key_set import FIRST, KEYS, Issuer, json_reply, token

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


def variables_of(command: str) -> dict[str, str]:
    """The variables that a command of the page sets, without the services, which the page leaves out."""
    env = dict(word.split("=", 1) for word in shlex.split(command) if re.match("[A-Z_]+=", word))
    assert env.pop("UPSTREAMS") == "..."
    return env


async def asked(line: str, serve: Serve, upstream: Start, folder: Path, **variables: str) -> str:
    """Start a gateway by the first line of a block, and ask by the second line; return the answer."""
    start, curl = line.split("\n")
    env = {name: string.Template(value).substitute(variables) for name, value in variables_of(start).items()}
    running = await serve({"billing": [upstream(echo).url]}, **env)
    answer, _ = await bash(curl.replace("curl", "curl -isS").replace(":8080", f":{running.port}"), folder, **variables)
    return answer


@pytest.mark.gen_test
async def test_the_token_of_the_page_gets_in(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    secret, use = "s" * 32, "\n".join(block("first"))
    for key, status in ((secret, 200), ("t" * 32, 401)):
        given = jwt.encode({"sub": "ada"}, key)
        answer = await asked(use, serve, upstream, tmp_path, SECRET=secret, TOKEN=given)
        assert answer.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.gen_test
async def test_the_tokens_of_the_issuer_of_the_page_get_in(serve: Serve, upstream: Start) -> None:
    env = variables_of("\n".join(block("issuer")).replace("\\\n", ""))
    issuer = Issuer(realm_keys=KEYS)
    url = upstream(issuer).url + env["OIDC_ISSUER"].removeprefix("https://id.example.com")
    said = {"issuer": url, "jwks_uri": f"{url}/keys"}
    issuer.answers["realm_.well-known_openid-configuration"] = json_reply(json.dumps(said).encode())
    running = await serve({"billing": [upstream(echo).url]}, **env | {"OIDC_ISSUER": url})
    valid = {"iss": url, "aud": env["JWT_AUDIENCE"]}
    for claims, status in ((valid, 200), (valid | {"aud": "other"}, 401), (valid | {"iss": "other"}, 401)):
        field = b"Authorization: Bearer " + token(FIRST, "one", **claims)
        assert (await ask(running, get(b"/api/billing/", field))).status == status


@pytest.mark.gen_test
async def test_the_key_of_the_page_gets_in(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    (command,) = block("hash-key")
    item, said = await bash(command, tmp_path)
    key = said.split()[-1]
    use = "\n".join(block("use-key"))
    assert (await asked(use, serve, upstream, tmp_path, ITEM=item.strip(), KEY=key)).startswith("HTTP/1.1 200 ")
    assert (await asked(use, serve, upstream, tmp_path, ITEM=item.strip(), KEY=key[1:])).startswith("HTTP/1.1 401 ")


@pytest.mark.gen_test
async def test_the_password_of_the_page_gets_in(serve: Serve, upstream: Start, tmp_path: Path) -> None:
    (command,) = block("hash-password")
    item, said = await bash(command, tmp_path, PASSWORD)
    assert said == ""
    use = "\n".join(block("use-password"))
    for password, status in ((PASSWORD, 200), (PASSWORD[1:], 401)):
        answer = await asked(use, serve, upstream, tmp_path, ITEM=item.strip(), PASSWORD=password)
        assert answer.startswith(f"HTTP/1.1 {status} ")
