"""The rules of the source tree, checked in the source: imports, purity, and lists that must agree.

Each rule is a function from sources to violations, "file:line: what is wrong", so that it is also tried on a source
that breaks it.
"""

import ast
import functools
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tornado_gateway.config import help as help_texts
from tornado_gateway.handlers.router import ROUTES

ROOT = Path(__file__).parent.parent
PACKAGE = "tornado_gateway"

# What each module, or floor, may import of this package. Floors go down in this order.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "policy": ("errors", "policy"),
    "registry": ("policy",),
    "demo": ("policy", "demo"),
    "ctl": ("adapters", "ctl"),
    "wire": ("errors", "policy", "wire"),
    "adapters": ("errors", "policy", "adapters"),
    "upkeep": ("errors", "policy", "wire", "upkeep"),
    "config": ("errors", "policy", "wire", "adapters", "upkeep", "config"),
    "gateway": ("errors", "policy", "registry", "wire", "adapters", "upkeep"),
    "memory": ("policy", "gateway"),
    "orders": ("adapters", "gateway", "handlers", "policy"),
    "neighbours": ("errors", "policy", "adapters", "gateway", "handlers"),
    "handlers": ("errors", "policy", "wire", "adapters", "upkeep", "gateway", "handlers"),
    "figures": ("policy", "registry", "wire", "adapters", "upkeep", "gateway"),
    "app": (
        "errors",
        "policy",
        "registry",
        "config",
        "wire",
        "adapters",
        "upkeep",
        "gateway",
        "handlers",
        "figures",
        "memory",
        "neighbours",
        "orders",
    ),
    "reload": (
        "errors",
        "policy",
        "config",
        "wire",
        "adapters",
        "upkeep",
        "gateway",
        "handlers",
        "figures",
        "neighbours",
        "app",
    ),
    "supervisor": ("errors", "policy", "config", "wire", "adapters", "upkeep", "app", "reload", "supervisor"),
    "__main__": ("errors", "config", "wire", "adapters", "upkeep", "app", "reload", "supervisor", "demo", "ctl"),
}

SHARED_BY_JOURNEYS = tuple(
    f"handlers.{each}"
    for each in (
        "journal", "cross_origin", "local_reply", "limiting", "ticketing", "session", "admission", "base", "admin_page",
        "acting", "response", "event_stream", "peek", "upload", "answerer", "hedge", "attempts",
        "looking", "storing", "replay", "revalidation", "refreshing", "collapsing", "second_look", "caching",
        "invalidating", "compressing",
        "forwarding", "http_forwarding", "cached_forwarding", "traced", "proxied",
    )
)  # fmt: skip
ROUTER = "handlers.router"

# What would make a decision depend on more than its arguments.
IMPURE_MODULES = {
    "asyncio", "concurrent", "logging", "os", "pathlib", "secrets", "select", "selectors", "signal", "socket", "ssl",
    "subprocess", "sys", "threading", "time", "tornado", "uuid", "uvloop",
}  # fmt: skip
IMPURE_CALLS = {"input", "open", "print"}

# Outside libraries that one place translates for all others.
ONLY_IN = {
    "argon2": "adapters",
    "brotli": "adapters",
    "zstandard": "adapters",
    "jwt": "adapters",
    "prometheus_client": "adapters",
    "opentelemetry": "adapters",
    "redis": "adapters",
    "pycares": "wire",
}


# Names of modules that nothing in the package reads, and why they are there.
WITHOUT_A_READER = {
    "handlers.router.ROUTES": "the tables of routes in README.md and docs/control.md are compared with these",
}


@dataclass(frozen=True)
class Source:
    """A module of the package: its name without the package's, its file as violations show it, its text."""

    module: str
    file: str
    text: str

    @property
    def floor(self) -> str:
        return self.module.partition(".")[0]

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.file)

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(self.tree)

    @functools.cached_property
    def imports(self) -> Sequence[tuple[int, str]]:
        """Line and full name of everything imported, wherever in the file; of `from a import b` it is a.b."""
        return [*self._imports()]

    def _imports(self) -> Iterator[tuple[int, str]]:
        package = [PACKAGE, *self.module.split(".")]
        for node in self.nodes():
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(package[: -node.level]) if node.level else ""
                module = ".".join(filter(None, (base, node.module)))
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)

    def own_imports(self) -> Iterator[tuple[int, str]]:
        """Line and name below the package of each import of the package, except the version."""
        for line, name in self.imports:
            package, _, below = name.partition(".")
            if package == PACKAGE and below not in ("", "__version__"):
                yield line, below


@functools.cache
def package_sources() -> list[Source]:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return [
        Source(
            ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts),
            str(path.relative_to(ROOT)),
            path.read_text(encoding="utf-8"),
        )
        for path in files
        if path.name != "__init__.py"
    ]


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


# ---------------------------------------------------------------- the rules


def imports_that_go_up(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.floor not in MAY_IMPORT:
            yield f"{source.file}:1: {source.floor} has no floor; give it one in MAY_IMPORT"
            continue
        for line, name in source.own_imports():
            if name.partition(".")[0] not in MAY_IMPORT[source.floor]:
                yield f"{source.file}:{line}: {source.floor} may not import {name}"


def imported_modules(source: Source, modules: Iterable[str]) -> set[str]:
    """The modules of the package that a module imports, for its types too (TYPE_CHECKING)."""
    names = [name for _, name in source.own_imports()]
    return {module for module in modules for name in names if name == module or name.rpartition(".")[0] == module}


def circles(sources: Iterable[Source]) -> Iterator[str]:
    """Every set of modules that import each other, directly or through others."""
    by_module = {source.module: source for source in sources}
    imports = {module: imported_modules(source, by_module) for module, source in by_module.items()}
    reached = {module: set(direct) for module, direct in imports.items()}
    for via in imports:
        for module in imports:
            if via in reached[module]:
                reached[module] |= reached[via]
    found = {frozenset(other for other in reached[module] if module in reached[other]) for module in imports}
    for circle in sorted(map(sorted, found - {frozenset()})):
        yield f"{by_module[circle[0]].file}:1: these modules import each other: {', '.join(circle)}"


def _below(shared: str) -> tuple[str, ...]:
    return SHARED_BY_JOURNEYS[: SHARED_BY_JOURNEYS.index(shared)]


def journeys_that_know_each_other(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.floor != "handlers" or source.module == ROUTER:
            continue
        for line, name in source.own_imports():
            below = SHARED_BY_JOURNEYS if source.module not in SHARED_BY_JOURNEYS else _below(source.module)
            shared = any(is_within(name, each) for each in below)
            if is_within(name, "handlers") and not shared:
                yield f"{source.file}:{line}: a journey may not import {name}"


def impure_decisions(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.floor != "policy":
            continue
        for line, name in source.imports:
            outside = name.partition(".")[0]
            if outside in IMPURE_MODULES or (outside == "random" and name not in ("random", "random.Random")):
                yield f"{source.file}:{line}: a policy may not import {name}"
        for node in source.nodes():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "random" and node.attr != "Random":
                    yield f"{source.file}:{node.lineno}: random.{node.attr} is state of the module; take an rng"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                yield f"{source.file}:{node.lineno}: a policy may not call {node.func.id}()"


def libraries_out_of_place(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        for line, name in source.imports:
            place = ONLY_IN.get(name.partition(".")[0], source.floor)
            if place != source.floor:
                yield f"{source.file}:{line}: only {place} may import {name}"


def modules_without_tests(sources: Iterable[Source], tests: set[str]) -> Iterator[str]:
    for source in sources:
        *folders, name = source.module.split(".")
        wanted = "/".join(["tests", *folders, f"test_{name.strip('_')}.py"])
        if wanted not in tests:
            yield f"{source.file}:1: its tests, {wanted}, do not exist"


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module defines, but for names of Python's own."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        return [name for name in names if not name.startswith("__")]
    return []


@functools.cache
def _read(statement: ast.AST) -> set[str]:
    """The names that a statement reads: of variables, of attributes, and in annotations that are strings."""
    read: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        elif isinstance(node, ast.Attribute):
            read.add(node.attr)
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for text in [each for found in annotations if found for each in ast.walk(found)]:
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                read |= _read(ast.parse(text.value, mode="eval"))
    return read


def names_without_readers(sources: Iterable[Source], allowed: Collection[str]) -> Iterator[str]:
    """Names of modules that no module of the package reads: only tests do, or nobody.

    Args:
        allowed: names that need no reader, as "module.name".
    """
    bodies = {source: source.tree.body for source in sources}
    read_in = {source.module: Counter(name for each in body for name in _read(each)) for source, body in bodies.items()}
    imported = {(name, source.module) for source in bodies for _, name in source.own_imports()}
    for source, body in bodies.items():
        importers = {module for name, module in imported if is_within(name, source.module)}
        elsewhere = set[str]().union(*[read_in[module] for module in importers - {source.module}])
        here = read_in[source.module]  # by name: how many statements read the name
        for statement in body:
            for name in _defined(statement):
                beside = here[name] - (name in _read(statement))
                if name not in elsewhere and not beside and f"{source.module}.{name}" not in allowed:
                    yield f"{source.file}:{statement.lineno}: nothing in the package reads {name}"


def lines_that_differ(file: str, first_line: int, text: str, wanted: str) -> Iterator[str]:
    pairs = itertools.zip_longest(text.splitlines(), wanted.splitlines())
    for number, (line, other) in enumerate(pairs, first_line):
        if line != other:
            yield f"{file}:{number}: is {line!r}, should be {other!r}"


def section(file: str, text: str, name: str) -> tuple[int, str]:
    """What stands between <!-- name --> and <!-- /name -->, and the number of its first line."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found, f"{file}:1: no section <!-- {name} --> … <!-- /{name} -->"
    return text.count("\n", 0, found.start(1)) + 1, found[1]


def variables_that_differ(file: str, text: str, wanted: str) -> Iterator[str]:
    line, table = section(file, text, "variables")
    yield from lines_that_differ(file, line, table.strip("\n"), wanted)


def routes_that_differ(file: str, text: str, routes: set[tuple[str, str]]) -> Iterator[str]:
    first, table = section(file, text, "routes")
    named = set()
    for number, line in enumerate(table.splitlines(), first):
        row = re.match(r"\| `([^`]+)` \| `([^`]+)` \|", line)
        if row:
            route = (row[1], row[2])
            if route not in routes or route in named:
                yield f"{file}:{number}: {' '.join(route)} is not a route, or stands twice"
            named.add(route)
        elif number > first + 1 and line.strip():
            yield f"{file}:{number}: a row begins with methods and path, each in backticks"
    for route in sorted(routes - named):
        yield f"{file}:{first}: {' '.join(route)} is missing"


# ---------------------------------------------------------------- the tree keeps them


def keep(violations: Iterable[str]) -> None:
    """Fail with every violation, each on its line."""
    found = "\n".join(violations)
    if found:
        pytest.fail(f"the tree breaks its rules:\n{found}", pytrace=False)


def test_imports_only_go_down() -> None:
    keep(imports_that_go_up(package_sources()))


def test_no_modules_import_each_other() -> None:
    keep(circles(package_sources()))


def test_no_journey_imports_another() -> None:
    keep(journeys_that_know_each_other(package_sources()))


def test_policy_is_pure() -> None:
    keep(impure_decisions(package_sources()))


def test_outside_libraries_are_translated_in_one_place() -> None:
    keep(libraries_out_of_place(package_sources()))


def test_every_module_has_its_own_tests() -> None:
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    keep(modules_without_tests(package_sources(), tests))


def test_every_name_has_a_reader_in_the_package() -> None:
    keep(names_without_readers(package_sources(), WITHOUT_A_READER))


def test_every_name_without_a_reader_is_there_and_has_none() -> None:
    found = {violation.rpartition(" ")[2] for violation in names_without_readers(package_sources(), ())}
    assert {name.rpartition(".")[2] for name in WITHOUT_A_READER} == found


def test_the_example_environment_names_the_variables_of_the_settings() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    keep(lines_that_differ(".env.example", 1, example, help_texts.example_env()))


def test_the_documents_name_the_variables_of_the_settings() -> None:
    file = "docs/configuration.md"  # python -m tornado_gateway.config.help writes the table
    text = (ROOT / file).read_text(encoding="utf-8")
    keep(variables_that_differ(file, text, help_texts.markdown_table()))


@pytest.mark.parametrize(("file", "has_pages_of_operators"), [("README.md", False), ("docs/control.md", True)])
def test_the_documents_name_the_routes(file: str, has_pages_of_operators: bool) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    pages = {each for each in ROUTES if each.path.startswith("/admin/") is has_pages_of_operators}
    keep(routes_that_differ(file, text, {(route.methods_text, route.path) for route in pages}))


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


# ---------------------------------------------------------------- and each of them can be broken


def source(module: str, *lines: str) -> Source:
    return Source(module, f"{module.replace('.', '/')}.py", "\n".join(lines))


def test_the_package_is_read_whole() -> None:
    found = {source.module: source for source in package_sources()}
    assert {"__main__", "app", "wire.server.server", "policy.http.target", "handlers.http_proxy"} <= set(found)
    assert found["wire.server.server"].file == "tornado_gateway/wire/server/server.py"


def test_violations_fail_a_test() -> None:
    keep([])
    with pytest.raises(pytest.fail.Exception, match=r"a\.py:1: wrong\nb\.py:2: wrong"):
        keep(["a.py:1: wrong", "b.py:2: wrong"])


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("policy.target", "from tornado_gateway.wire.server import HTTPServer"),
        ("policy.target", "import tornado_gateway.config.settings"),
        ("policy.target", "from .. import gateway"),
        ("policy.target", "from ..adapters import logs"),
        ("wire.server", "from tornado_gateway.adapters.logs import configure"),
        ("wire.server", "from tornado_gateway import gateway"),
        ("wire.server", "from tornado_gateway.handlers import base"),
        ("adapters.logs", "from tornado_gateway.wire.http1 import fields"),
        ("handlers.ops", "from tornado_gateway.config.settings import Settings"),
        ("handlers.ops", "def later():\n    from tornado_gateway.app import App"),
        ("gateway", "from tornado_gateway.handlers.local_reply import problem"),
        ("config.settings", "from tornado_gateway.app import App"),
        ("upkeep.heartbeat", "from tornado_gateway.app import App"),
        ("errors", "from tornado_gateway.policy.target import Origin"),
        ("app", "from tornado_gateway.__main__ import main"),
        ("demo", "from tornado_gateway.app import App"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, line: str) -> None:
    number = 1 + 1 + line.count("\n")
    (violation,) = imports_that_go_up([source(module, "import math", line)])
    assert violation.startswith(f"{module.replace('.', '/')}.py:{number}: {module.partition('.')[0]} may not import ")


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ([], []),
        ([source("wire.a", "from tornado_gateway.wire.b import B"), source("wire.b")], []),
        (
            [
                source("wire.b", "from tornado_gateway.wire import a"),
                source("wire.a", "if TYPE_CHECKING:\n    from tornado_gateway.wire.b import B"),
            ],
            ["wire/a.py:1: these modules import each other: wire.a, wire.b"],
        ),
        (
            [
                source("wire.a", "from .b import B"),
                source("wire.b", "def later():\n    import tornado_gateway.wire.c"),
                source("wire.c", "from tornado_gateway.wire.d import D", "from tornado_gateway.wire.a import A"),
                source("wire.d", "from tornado_gateway.errors import E"),
                source("errors"),
            ],
            ["wire/a.py:1: these modules import each other: wire.a, wire.b, wire.c"],
        ),
        (
            [source("wire.a", "from tornado_gateway.wire.a import A")],
            ["wire/a.py:1: these modules import each other: wire.a"],
        ),
        (
            [
                source("a", "import tornado_gateway.b"),
                source("b", "import tornado_gateway.a"),
                source("c", "import tornado_gateway.a", "import tornado_gateway.d"),
                source("d", "import tornado_gateway.c"),
            ],
            ["a.py:1: these modules import each other: a, b", "c.py:1: these modules import each other: c, d"],
        ),
    ],
)
def test_modules_that_import_each_other_are_found(sources: list[Source], found: list[str]) -> None:
    assert list(circles(sources)) == found


def test_a_module_without_a_floor_is_found() -> None:
    assert list(imports_that_go_up([source("utilities")])) == [
        "utilities.py:1: utilities has no floor; give it one in MAY_IMPORT"
    ]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("policy.target", "from tornado_gateway.errors import BadRequest"),
        ("policy.target", "from .endpoint import Endpoint"),
        ("wire.server", "from tornado_gateway import __version__"),
        ("handlers.router", "from tornado_gateway.handlers.ops import HealthHandler"),
        ("__main__", "from tornado_gateway.app import App"),
        ("errors", "import tornado_gatewayish"),
    ],
)
def test_an_import_that_goes_down_is_allowed(module: str, line: str) -> None:
    assert not list(imports_that_go_up([source(module, line)]))


@pytest.mark.parametrize(
    ("module", "line", "allowed"),
    [
        ("handlers.ops", "from tornado_gateway.handlers.http_proxy import PREFIX", False),
        ("handlers.ops", "from tornado_gateway.handlers import http_proxy", False),
        ("handlers.ops", "from . import http_proxy", False),
        ("handlers.ops", "import tornado_gateway.handlers.router", False),
        ("handlers.base", "from tornado_gateway.handlers.ops import HealthHandler", False),
        ("handlers.ops", "from tornado_gateway.handlers.base import PageHandler", True),
        ("handlers.router", "from tornado_gateway.handlers.http_proxy import PREFIX", True),
        ("app", "from tornado_gateway.handlers.http_proxy import PREFIX", True),
    ],
)
def test_a_journey_that_imports_another_is_found(module: str, line: str, allowed: bool) -> None:
    found = list(journeys_that_know_each_other([source(module, "import math", line)]))
    assert allowed or found[0].startswith(f"{module.replace('.', '/')}.py:2: ")
    assert len(found) == (0 if allowed else 1)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        *((f"import {module}", False) for module in sorted(IMPURE_MODULES)),
        ("from tornado.httputil import HTTPHeaders", False),
        ("import os.path", False),
        ("from time import monotonic as now", False),
        ("def now():\n    import time", False),
        ("from random import choice", False),
        ("x = random.random()", False),
        ("random.seed(1)", False),
        ("print('decided')", False),
        ("open('/etc/hosts')", False),
        ("import random", True),
        ("from random import Random", True),
        ("def choose(rng: random.Random): return rng.random()", True),
        ("import ipaddress, re, math", True),
    ],
)
def test_an_impure_policy_is_found(line: str, allowed: bool) -> None:
    found = list(impure_decisions([source("policy.choice", "", line)]))
    assert allowed or found[0].startswith(f"policy/choice.py:{2 + line.count(chr(10))}: ")
    assert len(found) == (0 if allowed else 1)
    assert not list(impure_decisions([source("wire.choice", line)]))


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_out_of_place_is_found(library: str) -> None:
    assert not list(libraries_out_of_place([source(f"{ONLY_IN[library]}", f"import {library}")]))
    (violation,) = libraries_out_of_place([source("handlers.ops", "", f"from {library} import x")])
    assert violation == f"handlers/ops.py:2: only {ONLY_IN[library]} may import {library}.x"


def test_a_module_without_tests_is_found() -> None:
    sources = [source("__main__"), source("app"), source("wire.server"), source("wire.pool")]
    tests = {"tests/test_main.py", "tests/test_app.py", "tests/wire/test_server.py", "tests/test_pool.py"}
    assert list(modules_without_tests(sources, tests)) == [
        "wire/pool.py:1: its tests, tests/wire/test_pool.py, do not exist"
    ]


@pytest.mark.parametrize(
    ("lines", "is_read"),
    [
        ((), False),
        (("LIMIT = 2",), False),
        (("limit = LIMIT",), True),
        (("def limit(of: 'LIMIT | None') -> None: ...",), True),
        (("def limit() -> 'list[LIMIT]': ...",), True),
        (("text = 'LIMIT'",), False),
        (("print(self.LIMIT)",), True),
    ],
)
def test_a_name_that_only_tests_read_is_found(lines: tuple[str, ...], is_read: bool) -> None:
    here = source("wire.pool", "import math", "LIMIT = 1", *lines)
    found = [each for each in names_without_readers([here], ("wire.pool.limit", "wire.pool.text")) if "LIMIT" in each]
    assert found[:1] == ([] if is_read else ["wire/pool.py:2: nothing in the package reads LIMIT"])
    assert not list(names_without_readers([here], {"wire.pool.LIMIT", "wire.pool.limit", "wire.pool.text"}))


@pytest.mark.parametrize(
    ("line", "is_read"),
    [
        ("from tornado_gateway.wire.pool import LIMIT", False),
        ("from tornado_gateway.wire.pool import LIMIT\nprint(LIMIT)", True),
        ("from tornado_gateway.wire import pool\nprint(pool.LIMIT)", True),
        ("import tornado_gateway.wire.pool\nprint(tornado_gateway.wire.pool.LIMIT)", True),
        ("LIMIT = 3\nprint(LIMIT)", False),
    ],
)
def test_a_name_that_another_module_reads_has_a_reader(line: str, is_read: bool) -> None:
    sources = [source("wire.pool", "LIMIT = 1"), source("wire.client", line)]
    assert list(names_without_readers(sources, ())) == (
        [] if is_read else ["wire/pool.py:1: nothing in the package reads LIMIT"]
    )


def test_a_function_that_only_calls_itself_has_no_reader() -> None:
    assert len(list(names_without_readers([source("wire.pool", "def again() -> None: again()")], ()))) == 1


@pytest.mark.parametrize(
    ("text", "number"), [("A=1\nB=3\n", 2), ("A=1\n", 2), ("A=1\nB=2\nC=3\n", 3), ("B=2\nA=1\n", 1)]
)
def test_a_line_that_differs_is_found(text: str, number: int) -> None:
    assert next(lines_that_differ(".env.example", 1, text, "A=1\nB=2\n")).startswith(f".env.example:{number}: ")
    assert not list(lines_that_differ(".env.example", 1, "A=1\nB=2\n", "A=1\nB=2\n"))


README = """# Title

<!-- routes -->
| methods | path | what |
|---|---|---|
| `GET` | `/healthz` | alive |
{row}
<!-- /routes -->
<!-- variables -->
| `PORT` | `80` |
<!-- /variables -->
"""


@pytest.mark.parametrize(
    ("row", "violation"),
    [
        ("| `ANY` | `/api/*` | proxied |", None),
        ("", "README.md:4: ANY /api/* is missing"),
        ("| `GET` | `/api/*` | proxied |", "README.md:7: GET /api/* is not a route, or stands twice"),
        ("| `GET` | `/healthz` | again |", "README.md:7: GET /healthz is not a route, or stands twice"),
        ("| ANY | /api/* | proxied |", "README.md:7: a row begins with methods and path, each in backticks"),
    ],
)
def test_a_route_that_differs_is_found(row: str, violation: str | None) -> None:
    found = list(routes_that_differ("README.md", README.format(row=row), {("GET", "/healthz"), ("ANY", "/api/*")}))
    assert found[:1] == ([violation] if violation else [])


def test_a_variable_that_differs_is_found() -> None:
    assert not list(variables_that_differ("README.md", README, "| `PORT` | `80` |\n"))
    (violation,) = variables_that_differ("README.md", README, "| `PORT` | `8080` |\n")
    assert violation.startswith("README.md:10: ")


def test_a_missing_section_is_found() -> None:
    with pytest.raises(AssertionError, match="no section <!-- variables -->"):
        section("README.md", "# Title\n", "variables")
