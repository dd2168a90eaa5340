"""Counts of a source tree that show how easily the source is read and changed: python -m benchmarks.counts [FOLDER ...]

A folder is a package, or holds the package `tornado_gateway`. Several folders are shown side by side, so that two
commits can be compared. All counts come from syntax trees; nothing is imported.

* Function body: lines without the docstring; nested functions count too.
* Constructor parameters: of `__init__` or `initialize` without `self`; of a dataclass, the fields.
* Fan-out: modules of the package that a module imports, for types too.
* Circle: modules that import each other, directly or through others, for types too; the sizes are given.
* Predicate: a property, or a function whose name begins with a word of PREDICATES. A predicate writes if the predicate
  assigns or deletes an attribute or an item, calls a mutator of either, or calls such a method of the same class.
* Prose: words of docstrings without examples.
"""

import argparse
import ast
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PREDICATES = (
    *("is", "has", "may", "can", "must", "should", "makes", "asks", "keeps", "takes", "passes", "admits", "needs"),
    *("wants", "accepts", "allows", "holds", "heeds", "honours"),
)
MUTATORS = {
    *("append", "appendleft", "add", "clear", "discard", "remove", "pop", "popleft", "popitem", "extend", "update"),
    *("setdefault", "insert", "sort", "reverse"),
}
PRONOUNS = re.compile(r"\b(it|its|one|they|them)\b", re.IGNORECASE)
PERSONS = re.compile(r"\b(who|whoever|whose)\b", re.IGNORECASE)
CLAUSES = re.compile(r"\b(those (that|which|who)|what (is|was|are|were))\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_EXAMPLE = re.compile(r"^\s*>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the package.

    Attributes:
        name: dotted name.
        tree: syntax tree.
        lines: number of lines.
    """

    name: str
    tree: ast.Module
    lines: int


@dataclass(frozen=True, slots=True)
class Count:
    """A figure.

    Attributes:
        name: description of the figure.
        value: the figure as text.
        place: module and name behind a maximum, or the names behind a count; "" for none.
    """

    name: str
    value: str
    place: str = ""


def read(folder: Path) -> list[Module]:
    """The modules of a package.

    Raises:
        FileNotFoundError: the folder holds no Python file.
    """
    package = folder / "tornado_gateway" if (folder / "tornado_gateway").is_dir() else folder
    sources = {path.relative_to(package.parent): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    if not sources:
        raise FileNotFoundError(f"{folder} holds no Python file")
    return parse({path.as_posix(): text for path, text in sorted(sources.items())})


def parse(sources: Mapping[str, str]) -> list[Module]:
    """Modules of sources by path, such as "package/module.py"."""
    return [
        Module(
            path.removesuffix(".py").removesuffix("/__init__").replace("/", "."),
            ast.parse(text),
            len(text.splitlines()),
        )
        for path, text in sources.items()
    ]


# ---------------------------------------------------------------- sizes


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node


def methods(node: ast.ClassDef) -> list[Function]:
    return [each for each in node.body if isinstance(each, Function)]


def body_lines(node: Function) -> int:
    """Lines of a function's body without the docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def fields(node: ast.ClassDef) -> int:
    """Fields of a dataclass; 0 for another class."""
    is_dataclass = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    if not is_dataclass:
        return 0
    return sum(isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation) for each in node.body)


def parameters(node: ast.ClassDef) -> int:
    """The number of a constructor's parameters."""
    for each in methods(node):
        if each.name in ("__init__", "initialize"):
            arguments = each.args
            return len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs) - 1
    return fields(node)


# ---------------------------------------------------------------- imports


def imports(module: Module, names: frozenset[str]) -> set[str]:
    """The modules of the package that a module imports."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in names else node.module)
    return (found & names) - {module.name}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that reach each other, largest circle first."""
    reach = {name: _reachable(graph, name) for name in graph}
    found = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph}
    return sorted((list(each) for each in found if len(each) > 1), key=lambda each: (-len(each), each))


def _reachable(graph: Mapping[str, set[str]], name: str) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


# ---------------------------------------------------------------- predicates


def is_predicate(node: Function) -> bool:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    return "property" in decorators or node.name.strip("_").partition("_")[0] in PREDICATES


def _is_lasting(node: ast.AST, local: set[str]) -> bool:
    """Whether an expression names an object that outlives the function: an attribute, or a name from outside."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and node.id not in local)


def writes(node: Function) -> bool:
    """Whether a function changes an attribute, an item or a container that outlives the function."""
    local = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute | ast.Subscript) and isinstance(each.ctx, ast.Store | ast.Del):
            if _is_lasting(each, local):
                return True
        elif _is_mutation(each, local):
            return True
    return False


def _is_mutation(node: ast.AST, local: set[str]) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr in MUTATORS and _is_lasting(node.func.value, local)


def own_calls(node: Function) -> set[str]:
    """Names of the methods that a method calls on self."""
    return {
        each.func.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and isinstance(each.func.value, ast.Name)
        and each.func.value.id == "self"
    }


def writing_predicates(module: Module) -> tuple[int, list[str]]:
    """The number of a module's predicates, and the names of the writing predicates."""
    total, found = 0, []
    groups = [(node.name + ".", methods(node)) for node in classes(module.tree)]
    groups.append(("", [each for each in module.tree.body if isinstance(each, Function)]))
    for prefix, members in groups:
        by_name = {each.name: each for each in members}
        writing = {each.name for each in members if writes(each)}
        while more := {name for name, each in by_name.items() if own_calls(each) & writing} - writing:
            writing |= more
        predicates = [each for each in members if is_predicate(each)]
        total += len(predicates)
        found += [f"{module.name}: {prefix}{each.name}" for each in predicates if each.name in writing]
    return total, found


# ---------------------------------------------------------------- prose


def prose(tree: ast.AST) -> str:
    """All docstrings, without examples."""
    nodes = (each for each in ast.walk(tree) if isinstance(each, ast.Module | ast.ClassDef | Function))
    return "\n".join(_EXAMPLE.sub("", text) for node in nodes if (text := ast.get_docstring(node)))


def per_thousand(pattern: re.Pattern[str], text: str) -> float:
    """Matches per 1,000 words; 0 without words."""
    words = len(_WORD.findall(text))
    return 1000 * len(pattern.findall(text)) / words if words else 0.0


# ---------------------------------------------------------------- the table


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest value that at least a share of the values does not exceed; 0 without values.

    >>> percentile([1, 2, 3, 4, 100], 0.8)
    4
    """
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else 0


def _greatest(name: str, found: Iterable[tuple[int, str]]) -> Count:
    value, place = max(found, default=(0, ""))
    return Count(name, f"{value:,}", place)


def counts(modules: Sequence[Module]) -> list[Count]:
    """All figures of a package."""
    names = frozenset(module.name for module in modules)
    graph = {module.name: imports(module, names) for module in modules}
    bodies = [
        (body_lines(each), f"{module.name}: {each.name}") for module in modules for each in functions(module.tree)
    ]
    held = [(module, node) for module in modules for node in classes(module.tree)]
    sizes = [(len(methods(node)), f"{module.name}: {node.name}") for module, node in held]
    predicates = [writing_predicates(module) for module in modules]
    writing = [name for _, found in predicates for name in found]
    found_circles = circles(graph)
    text = "\n".join(prose(module.tree) for module in modules)
    return [
        Count("modules", f"{len(modules):,}"),
        Count("lines", f"{sum(module.lines for module in modules):,}"),
        Count("function body, p95", f"{percentile([size for size, _ in bodies], 0.95)}"),
        _greatest("function body, max", bodies),
        Count("methods per class, p95", f"{percentile([size for size, _ in sizes], 0.95)}"),
        _greatest("methods per class, max", sizes),
        _greatest(
            "fields of a config, max",
            ((fields(node), node.name) for _, node in held if node.name.endswith(("Config", "Settings"))),
        ),
        _greatest("constructor parameters, max", ((parameters(node), node.name) for _, node in held)),
        _greatest("fan-out of a module, max", ((len(found), name) for name, found in graph.items())),
        Count(
            "circles, types included", f"{len(found_circles)}", "; ".join(" - ".join(each) for each in found_circles)
        ),
        Count(
            "predicates that write", f"{len(writing)} of {sum(total for total, _ in predicates)}", "; ".join(writing)
        ),
        Count("it, its, one, they, them per 1,000 words", f"{per_thousand(PRONOUNS, text):.1f}"),
        Count("who, whoever, whose per 1,000 words", f"{per_thousand(PERSONS, text):.1f}"),
        Count("those that, what is per 1,000 words", f"{per_thousand(CLAUSES, text):.1f}"),
        Count("docstring words", f"{len(_WORD.findall(text)):,}"),
    ]


def table(columns: Mapping[str, Sequence[Count]]) -> str:
    """A table with a column for each tree, then the places of the last column."""
    rows = [["", *columns]]
    rows += [[each[0].name, *(count.value for count in each)] for each in zip(*columns.values(), strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    *_, last = columns.values()
    places = [f"{count.name}: {count.place}" for count in last if count.place]
    return "\n".join([*lines, "", *places])


def by_module(modules: Sequence[Module]) -> str:
    """Pronouns per 1,000 docstring words of each module, most first."""
    found = [
        (per_thousand(PRONOUNS, text), len(_WORD.findall(text)), module.name)
        for module in modules
        for text in [prose(module.tree)]
    ]
    return "\n".join(
        f"{rate:6.1f} of {words:5,} words  {name}" for rate, words, name in sorted(found, reverse=True) if rate
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__.partition("\n\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="of a source tree (this one)")
    parser.add_argument("--modules", action="store_true", help="pronouns by module, of the last folder")
    options = parser.parse_args(argv)
    folders = options.folders or [Path(__file__).parents[1]]
    try:
        trees = {str(folder): read(folder) for folder in folders}
    except OSError as error:
        parser.error(str(error))
    print(table({name: counts(modules) for name, modules in trees.items()}))
    if options.modules:
        print("\n" + by_module(trees[str(folders[-1])]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
