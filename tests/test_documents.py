"""README.md, docs/ and their like: links lead somewhere, lines are short, and names are those of the source.

Each rule is a function from texts to violations, "file:line: what is wrong", so that the rule is also tried on a text
that breaks it.
"""

import ast
import json
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.examples import environments
from tornado_gateway.app import make_routes
from tornado_gateway.config.ineffective import ineffective
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES
from tornado_gateway.errors import BadRequest, NotFound
from tornado_gateway.handlers.proxied import ProxiedRequest
from tornado_gateway.policy.http.mount import Mount, MountConfig, Rewriting
from tornado_gateway.policy.http.rewriting import Asked, Place, public_lines
from tornado_gateway.policy.routing import RouteTable

ROOT = Path(__file__).parent.parent
WIDEST = 120  # characters of a line of prose or code; a row of a table cannot be broken

_FENCE = re.compile(r"^ *```")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")
_MODULE = re.compile(r"`([\w/]+\.py)`")
_CALL = re.compile(r" *([a-z0-9_/]+): ([\w.]+)")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")

# Words in capitals that are no variables: a state of breakers, a variable of CGI servers, two mistakes, a family, the
# variable of a command, settings of Django, a variable of systemd, and an option of sockets.
NO_VARIABLES = {
    "ALLOWED_HOSTS", "FORCE_SCRIPT_NAME", "GATEWAY_TOKEN", "HALF_OPEN", "HTTP_PROXY", "LISTEN_FDS", "MAX_STREAM",
    "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_RESOURCE_ATTRIBUTES", "PROXY_READ_TIMEOUT", "SO_PEERCRED", "SO_REUSEPORT", "WS_RATE_LIMIT",
}  # fmt: skip

Texts = Mapping[str, str]  # of documents, by path from the root


def documents() -> dict[str, str]:
    at_the_top = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")]
    paths = [*at_the_top, *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


# ---------------------------------------------------------------- reading Markdown


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside of blocks of code, with their numbers."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            yield number, line


def anchors(text: str) -> set[str]:
    """The fragments that GitHub makes of headings: lower case, without punctuation, "-" for a blank.

    >>> sorted(anchors("# What `/readyz` says\\n## Retries\\n## Retries\\n"))
    ['retries', 'retries-1', 'what-readyz-says']
    """
    found: Counter[str] = Counter()
    names = set()
    for _, line in prose_lines(text):
        if heading := _HEADING.match(line):
            slug = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
            found[slug] += 1
    return names


def links(text: str) -> Iterator[tuple[int, str]]:
    for number, line in prose_lines(text):
        for target in _LINK.findall(_CODE.sub("", line)):
            yield number, target


# ---------------------------------------------------------------- the rules


def broken_links(texts: Texts, files: Iterable[str]) -> Iterator[str]:
    """Links to no file of the tree, or to no heading of a document.

    Args:
        files: paths from the root that exist, documents included.
    """
    existing = set(files)
    for file, text in texts.items():
        for number, target in links(text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, fragment = target.partition("#")
            wanted = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
            if wanted not in existing:
                yield f"{file}:{number}: {target} leads to no file"
            elif fragment and fragment not in anchors(texts.get(wanted, "")):
                yield f"{file}:{number}: {target} leads to no heading"


def pages_without_links(texts: Texts, start: str = "README.md") -> Iterator[str]:
    """Pages that the README does not link to."""
    linked = {target.partition("#")[0] for _, target in links(texts[start])}
    for file in texts:
        if file != start and file not in linked:
            yield f"{start}:1: no link to {file}"


def wide_lines(texts: Texts) -> Iterator[str]:
    for file, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > WIDEST and not line.startswith("|"):
                yield f"{file}:{number}: {len(line)} characters"


def words_without_mention(words: Iterable[str], file: str, text: str) -> Iterator[str]:
    """Words of the source that a document does not name in code."""
    named = set(re.findall(r"\w+", " ".join(_CODE.findall(text))))
    for word in sorted(set(words) - named):
        yield f"{file}:1: {word} is not mentioned"


def unknown_modules(texts: Texts, files: Iterable[str]) -> Iterator[str]:
    """Names of Python files in documents that are the end of no path of the tree."""
    paths = [f"/{each}" for each in files]
    for file, text in texts.items():
        for number, line in prose_lines(text):
            for name in _MODULE.findall(line):
                if not any(path.endswith(f"/{name}") for path in paths):
                    yield f"{file}:{number}: there is no {name}"


def unknown_variables(texts: Texts, variables: Collection[str]) -> Iterator[str]:
    for file, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for name in _VARIABLE.findall(line):
                if name not in variables:
                    yield f"{file}:{number}: there is no variable {name}"


def json_blocks(text: str) -> Iterator[str]:
    return (found[1] for found in re.finditer(r"```json\n(.*?)```", text, re.DOTALL))


def rows(text: str, name: str) -> list[list[str]]:
    """The cells of the table between <!-- name --> and <!-- /name -->, without the head.

    >>> rows("<!-- a -->\\n| x | y |\\n|---|---|\\n| `1` | |\\n<!-- /a -->", "a")
    [['`1`', '']]
    """
    part = text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def unknown_functions(file: str, text: str, functions: Collection[str]) -> Iterator[str]:
    """Calls of a trace, "module: Class.function", that the source does not have."""
    for number, line in enumerate(text.splitlines(), 1):
        call = _CALL.fullmatch(line)
        if call and f"{call[1]}: {call[2]}" not in functions:
            yield f"{file}:{number}: there is no {call[1]}: {call[2]}; python -m benchmarks.trace --document {file}"


def functions_of(tree: ast.AST, module: str, above: str = "") -> Iterator[str]:
    """Functions and methods of a module, named as in a trace."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module}: {above}{node.name}"
        elif isinstance(node, ast.ClassDef):
            yield from functions_of(node, module, f"{above}{node.name}.")


# ---------------------------------------------------------------- the documents keep them


def keep(violations: Iterable[str]) -> None:
    found = "\n".join(violations)
    if found:
        pytest.fail(f"the documents break their rules:\n{found}", pytrace=False)


def tree() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if ".venv" not in path.parts]


def test_every_link_leads_somewhere() -> None:
    keep(broken_links(documents(), tree()))


def test_the_readme_leads_to_every_page() -> None:
    keep(pages_without_links(documents()))


def test_lines_are_short() -> None:
    keep(wide_lines(documents()))


def test_every_named_module_exists() -> None:
    keep(unknown_modules(documents(), tree()))


def test_the_trace_names_functions_of_the_source() -> None:
    file, package = "docs/architecture.md", ROOT / "tornado_gateway"
    functions = {
        each
        for path in package.rglob("*.py")
        for each in functions_of(
            ast.parse(path.read_text(encoding="utf-8")), path.relative_to(package).with_suffix("").as_posix()
        )
    }
    keep(unknown_functions(file, documents()[file], functions))


def test_every_named_variable_exists() -> None:
    names = {name for variable in VARIABLES for name in (variable.name, *variable.aliases)}
    keep(unknown_variables(documents(), {*names, *NO_VARIABLES}))


@pytest.mark.parametrize("block", [each for text in documents().values() for each in json_blocks(text)])
def test_every_json_example_is_json_and_a_configuration_if_it_says_so(block: str) -> None:
    example = json.loads(block)
    if isinstance(example, list):
        assert len(routed(block).routes) == len(example)
    elif "requestId" not in example:  # a line of the access log
        assert len(load_settings({"UPSTREAMS": block, "JWT_SECRET": "k" * 32}).services) == len(example)


def routed(routes: str) -> Settings:
    """The settings with a value for ROUTES, and with the services of the routes; no warning may be told."""
    services = {each["service"]: [f"http://{each['service']}.internal"] for each in json.loads(routes)}
    env = {"UPSTREAMS": json.dumps(services), "ROUTES": routes}
    settings = load_settings(env)
    assert ineffective(settings, env) == []
    return settings


@pytest.mark.parametrize("env", [each for text in documents().values() for each in environments(text)], ids=" ".join)
def test_every_command_with_services_has_a_valid_configuration(env: dict[str, str]) -> None:
    env = {name: value.replace("$SECRET", "s" * 32) for name, value in env.items()}
    settings = load_settings(env)
    assert settings.services
    assert ineffective(settings, env) == []


# ---------------------------------------------------------------- docs/routes.md: each row of a table, carried out

ROUTES = documents()["docs/routes.md"]
MOUNT, PLACE = Mount(b"/app"), Place(b"http", b"10.0.0.7:8080", b"/base")


def code(cell: str) -> list[str]:
    """
    >>> code("`a`, `b c` and d")
    ['a', 'b c']
    """
    return [each.strip("`") for each in _CODE.findall(cell)]


def table_of_the_document() -> RouteTable[type[ProxiedRequest]]:
    (block,) = json_blocks(ROUTES.partition("<!-- look-up -->")[2].partition("<!-- /look-up -->")[0])
    return make_routes(routed(block))


def looked_up(host: str, target: str) -> list[str]:
    """Cells of a row: the service, and the target at an endpoint."""
    try:
        match = table_of_the_document().match(target.encode(), host.encode())
    except NotFound:
        return ["404", ""]
    if not match:
        return ["the gateway" if target in ("/healthz", "/metrics") else "404", ""]
    return [f"`{match.service.decode()}`", f"`{match.mount.inner_target(match.rest).decode()}`"]


@pytest.mark.parametrize("row", rows(ROUTES, "look-up"), ids=" ".join)
def test_the_look_ups_of_the_document_are_those_of_the_table(row: list[str]) -> None:
    (host,), (target,) = code(row[0]), code(row[1])
    assert looked_up(host, target) == row[2:]


@pytest.mark.parametrize("path", [path for row in rows(ROUTES, "refused") for path in code(row[0])])
def test_the_paths_that_the_document_calls_refused_are_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        looked_up("example.com", path)


@pytest.mark.parametrize("path", code(ROUTES.partition("<!-- accepted -->")[2].partition("<!-- /accepted -->")[0]))
def test_the_paths_that_the_document_calls_accepted_pass(path: str) -> None:
    assert looked_up("example.com", path) == ["`jupyter`", f"`{path}`"]


def said_to_the_client(line: str, config: MountConfig) -> str:
    asked = Asked(b"http", b"www.example.com")
    return public_lines(f"{line}\r\n".encode(), MOUNT, config, PLACE, asked).decode().removesuffix("\r\n")


@pytest.mark.parametrize("row", rows(ROUTES, "location"), ids=" ".join)
@pytest.mark.parametrize(("column", "mode"), list(enumerate(Rewriting, 1)))
def test_the_locations_of_the_document_are_rewritten_so(row: list[str], column: int, mode: Rewriting) -> None:
    for sent in code(row[0]):
        (expected,) = code(row[column]) or [sent]
        assert said_to_the_client(f"Location: {sent}", MountConfig(location=mode)) == f"Location: {expected}"


@pytest.mark.parametrize("row", rows(ROUTES, "cookies"), ids=" ".join)
def test_the_cookies_of_the_document_are_rewritten_so(row: list[str]) -> None:
    (sent,), (expected,) = map(code, row)
    assert said_to_the_client(sent, MountConfig(maps_cookie_path=True)) == expected


def test_the_tables_of_the_document_are_found() -> None:
    assert [len(rows(ROUTES, name)) for name in ("look-up", "refused", "location", "cookies")] == [11, 6, 9, 4]


# ---------------------------------------------------------------- and each of them can be broken


@pytest.mark.parametrize(
    ("link", "violation"),
    [
        ("[a](docs/a.md)", None),
        ("[a](docs/a.md#first-of-all)", None),
        ("[b](#start)", None),
        ("[c](https://example.org/#x)", None),
        ("[d](static)", None),
        ("`[e](nowhere.md)`", None),
        ("```\n[f](nowhere.md)\n```", None),
        ("[g](nowhere.md)", "README.md:3: nowhere.md leads to no file"),
        ("[h](docs/a.md#second)", "README.md:3: docs/a.md#second leads to no heading"),
        ("[i](#begin)", "README.md:3: #begin leads to no heading"),
        ("![j](docs/j.svg)", "README.md:3: docs/j.svg leads to no file"),
    ],
)
def test_a_broken_link_is_found(link: str, violation: str | None) -> None:
    texts = {"README.md": f"# Start\n\n{link}\n", "docs/a.md": "# A\n## First, of all\n[back](../README.md#start)\n"}
    assert list(broken_links(texts, [*texts, "static"])) == ([violation] if violation else [])


def test_a_page_without_a_link_is_found() -> None:
    texts = {"README.md": "[a](docs/a.md#x)", "docs/a.md": "", "docs/b.md": ""}
    assert list(pages_without_links(texts)) == ["README.md:1: no link to docs/b.md"]


def test_a_wide_line_is_found() -> None:
    texts = {"a.md": f"{'x' * 120}\n{'x' * 121}\n| {'x' * 200} |\n"}
    assert list(wide_lines(texts)) == ["a.md:2: 121 characters"]


def test_a_word_without_a_mention_is_found() -> None:
    assert list(words_without_mention(["a_b", "c", "d"], "x.md", "`a_b{c}` d")) == ["x.md:1: d is not mentioned"]


def test_an_unknown_module_is_found() -> None:
    texts = {"a.md": "`b.py`, `c/b.py`\n`d.py`\n```\n`e.py`\n```\n"}
    assert list(unknown_modules(texts, ["x/c/b.py"])) == ["a.md:2: there is no d.py"]


def test_an_unknown_function_is_found() -> None:
    source = "class A:\n    def b(self):\n        pass\n\n\nasync def c():\n    pass\n"
    functions = set(functions_of(ast.parse(source), "x/y"))
    assert functions == {"x/y: A.b", "x/y: c"}
    found = list(unknown_functions("a.md", "x/y: A.b\n  x/y: c\n  x/y: A.c\nSome: prose.\n", functions))
    assert found == ["a.md:3: there is no x/y: A.c; python -m benchmarks.trace --document a.md"]


def test_an_unknown_variable_is_found() -> None:
    found = list(unknown_variables({"a.md": "`A_B` and `C_D=1`\n```sh\nE_F=2 run\n```\n"}, {"A_B"}))
    assert found == ["a.md:1: there is no variable C_D", "a.md:3: there is no variable E_F"]


def test_blocks_of_json_are_found() -> None:
    assert list(json_blocks('```json\n{"a": 1}\n```\n```\nb\n```\n```json\n2\n```\n')) == ['{"a": 1}\n', "2\n"]
