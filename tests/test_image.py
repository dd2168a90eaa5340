"""The container image: .dockerignore sends the builder all that Dockerfile copies, and nothing else."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8")


def copied(dockerfile: str) -> list[str]:
    """The sources of COPY and ADD that come from the build context, in order; not those of other stages."""
    found: list[str] = []
    for instruction in re.sub(r"\\[ \t]*\n", " ", dockerfile).splitlines():
        keyword, _, rest = instruction.strip().partition(" ")
        if keyword.upper() in ("COPY", "ADD"):
            found += _sources(rest.strip())
    return found


def _sources(arguments: str) -> list[str]:
    flags = re.match(r"(?:--[a-z-]+(?:=\S+)?\s+)*", arguments)
    assert flags
    paths = arguments[flags.end() :]
    if "--from=" in flags[0]:
        return []
    words = json.loads(paths) if paths.startswith("[") else shlex.split(paths)
    return [word.strip("/") or "." for word in words[:-1]]


def is_sent(path: str, dockerignore: str) -> bool:
    """Whether a file of the context reaches the builder: the last pattern that matches it, or a folder of it, decides.

    Source: https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    sent = True
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            negated = pattern.startswith("!")
            if _pattern(pattern.removeprefix("!").strip().strip("/")).fullmatch(path):
                sent = negated
    return sent


def _pattern(pattern: str) -> re.Pattern[str]:
    """One pattern, as Go's filepath.Match reads it, with ** for any number of folders; what lies below matches too."""
    parts = []
    for part in re.findall(r"\*\*/?|\*|\?|\[[^\]]*\]|\\.|.", pattern):
        match part[0], part:
            case _, "**/":
                parts.append("(?:.*/)?")
            case _, "**":
                parts.append(".*")
            case "*", _:
                parts.append("[^/]*")
            case "?", _:
                parts.append("[^/]")
            case "[", _:
                parts.append(part)
            case _:
                parts.append(re.escape(part[-1]))
    return re.compile("".join(parts) + "(?:/.*)?")


def missing(dockerfile: str, dockerignore: str, files: Iterable[str]) -> Iterator[str]:
    """What Dockerfile copies and does not get: a source without any file, or a source's file that is not sent."""
    files = list(files)
    for source in copied(dockerfile):
        below = [each for each in files if source == "." or _pattern(source).fullmatch(each)]
        sent = [each for each in below if is_sent(each, dockerignore)]
        if not sent:
            yield source
        yield from (each for each in below if each not in sent and "__pycache__" not in PurePosixPath(each).parts)


def files_below(*folders: str) -> list[str]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in found]


FOLDERS = ("tornado_gateway", "static", "tests", "benchmarks", "deploy", "docs")


def test_the_builder_gets_what_it_copies() -> None:
    assert copied(DOCKERFILE)
    assert list(missing(DOCKERFILE, IGNORED, files_below(*FOLDERS))) == []


def test_the_builder_gets_nothing_else() -> None:
    sources = copied(DOCKERFILE)
    sent = [each for each in files_below(*FOLDERS) if is_sent(each, IGNORED)]
    assert [each for each in sent if not any(_pattern(source).fullmatch(each) for source in sources)] == []


@pytest.mark.parametrize(
    "path", [".env", ".git/config", "tornado_gateway/__pycache__/app.pyc", "static/__pycache__/x", "tests/test_app.py"]
)
def test_secrets_and_foreign_compiled_files_are_not_in_the_image(path: str) -> None:
    assert not is_sent(path, IGNORED)


@pytest.mark.parametrize("needed", ["!static", "!tornado_gateway", "!requirements.txt", "!requirements-extras.txt"])
def test_a_line_too_few_is_found(needed: str) -> None:
    source = needed.removeprefix("!")
    assert source in missing(DOCKERFILE, IGNORED.replace(f"{needed}\n", ""), files_below(*FOLDERS))


@pytest.mark.parametrize(
    ("dockerignore", "path", "sent"),
    [
        ("", "a", True),
        ("*", "a/b", False),
        ("*\n!a", "a/b", True),
        ("!a\n*", "a/b", False),
        ("*\n!a\na/b", "a/b", False),
        ("*\n!a\n**/b", "a/c/b/d", False),
        ("/a/", "a/b", False),
        ("a", "b/a", True),
        ("**/a", "b/a", False),
        ("*.md\n!README.md", "README.md", True),
        ("*.md", "docs/a.md", True),
        ("a?c", "abc", False),
        ("a[0-9]", "a7", False),
        ("# a\na", "a", False),
        ("# a", "a", True),
        ("! a", "a", True),
        ("a+", "aa", True),
    ],
)
def test_the_last_pattern_that_matches_decides(dockerignore: str, path: str, sent: bool) -> None:
    assert is_sent(path, dockerignore) is sent


@pytest.mark.parametrize(
    ("dockerfile", "sources"),
    [
        ("FROM a\nCOPY b c ./\n", ["b", "c"]),
        ("COPY --from=build /venv /venv\n", []),
        ("COPY --chown=1:1 --link b /b/\n", ["b"]),
        ('COPY ["b c", "/d"]\n', ["b c"]),
        ("copy b \\\n  c \\\n  /d\n", ["b", "c"]),
        ("ADD ./ /app\n", ["."]),
        ("RUN cp a b\n", []),
    ],
)
def test_what_a_dockerfile_copies(dockerfile: str, sources: list[str]) -> None:
    assert copied(dockerfile) == sources
