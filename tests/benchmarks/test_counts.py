"""The counts of a source tree, each on a small tree that was counted by hand."""

from pathlib import Path

import pytest

from benchmarks.counts import (
    CLAUSES,
    PERSONS,
    PRONOUNS,
    by_module,
    circles,
    counts,
    imports,
    main,
    parse,
    per_thousand,
    percentile,
    prose,
    writing_predicates,
)

TREE = {
    "package/__init__.py": '"""It is one package."""\n',
    "package/a.py": (
        "from typing import TYPE_CHECKING\n"
        "from package import b\n"
        "from package.c import X, Y\n"
        "class AConfig:\n"
        "    def __init__(self, x, *, y): ...\n"
        "    def two(self):\n"
        '        """Three words here."""\n'
        "        x = 1\n"
        "        return x\n"
    ),
    "package/b.py": "import json\ndef f():\n    from package.a import AConfig\n",
    "package/c.py": (
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class XConfig:\n"
        "    a: int\n"
        "    b: int = 0\n"
        "    c: ClassVar[int] = 0\n"
        "    d: str = ''\n"
    ),
}


def figures(sources: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {each.name: (each.value, each.place) for each in counts(parse(sources))}


def test_a_tree_is_counted() -> None:
    found = figures(TREE)
    assert found["modules"] == ("4", "")
    assert found["lines"] == ("20", "")
    assert found["function body, max"] == ("2", "package.a: two")
    assert found["methods per class, max"] == ("2", "package.a: AConfig")
    assert found["fields of a config, max"] == ("3", "XConfig")
    assert found["constructor parameters, max"] == ("3", "XConfig")
    assert found["fan-out of a module, max"] == ("2", "package.a")
    assert found["circles, types included"] == ("1", "package.a - package.b")


def test_imports_are_of_modules_also_where_a_name_is_imported() -> None:
    modules = parse(TREE)
    names = frozenset(module.name for module in modules)
    assert {module.name: imports(module, names) for module in modules} == {
        "package": set(),
        "package.a": {"package.b", "package.c"},
        "package.b": {"package.a"},
        "package.c": set(),
    }


def test_circles_are_found_through_others() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": {"e"}}
    assert circles(graph) == [["a", "b", "c"], ["e", "f"]]
    assert circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize(
    "body",
    [
        "self.x = 1",
        "self.x += 1",
        "del self.x",
        "self.x[0] = 1",
        "self.x.append(1)",
        "other.pop()",
        "other.x = 1",
        "for each in y: self.x.discard(each)",
        "self._prune()",
    ],
)
def test_a_predicate_that_writes_is_found(body: str) -> None:
    tree = f"class C:\n    def is_so(self, other):\n        {body}\n    def _prune(self):\n        self.x.clear()\n"
    (module,) = parse({"p/m.py": tree})
    assert writing_predicates(module) == (1, ["p.m: C.is_so"])


@pytest.mark.parametrize(
    "body", ["return self.x == 1", "x = []; x.append(1); return x", "x = {}; x['a'] = 1", "return self.x.get(1)"]
)
def test_a_predicate_that_reads_is_not(body: str) -> None:
    (module,) = parse({"p/m.py": f"class C:\n    def has(self):\n        {body}\n    def set(self): self.x = 1\n"})
    assert writing_predicates(module) == (1, [])


def test_properties_and_functions_are_predicates_too() -> None:
    function = "def may_go(x):\n    x.clear()\n"
    source = function + "class C:\n    @property\n    def size(self):\n        self.n = 1\n    def island(self): ...\n"
    (module,) = parse({"m.py": source})
    assert writing_predicates(module) == (2, ["m: C.size", "m: may_go"])


def test_words_are_those_of_docstrings_without_examples() -> None:
    (module,) = parse({"m.py": '"""One.\n\n>>> it(its)\n{"it": "them"}\n\nRest."""\n# it\ndef f():\n    """Who?"""\n'})
    assert prose(module.tree).split() == ["One.", "Rest.", "Who?"]


def test_pronouns_are_counted_per_thousand_words() -> None:
    assert per_thousand(PRONOUNS, "It is one of them") == 600
    assert per_thousand(PRONOUNS, "item written someone") == 0
    assert per_thousand(PERSONS, "Whoever asks whose") == pytest.approx(2000 / 3)
    assert per_thousand(CLAUSES, "those that pass what is left") == pytest.approx(2000 / 6)
    assert per_thousand(PRONOUNS, "") == 0


@pytest.mark.parametrize(("values", "share", "value"), [([], 0.95, 0), ([7], 0.95, 7), (list(range(1, 101)), 0.95, 95)])
def test_percentiles(values: list[int], share: float, value: int) -> None:
    assert percentile(values, share) == value


def test_two_trees_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, source in {"old": '"""It is."""\n', "new": '"""Plain."""\n\n\n'}.items():
        folder = tmp_path / name / "tornado_gateway"
        folder.mkdir(parents=True)
        (folder / "m.py").write_text(source)
    assert main([str(tmp_path / "old"), str(tmp_path / "new" / "tornado_gateway"), "--modules"]) == 0
    lines = {line[:9].strip(): line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    assert lines["modules"] == ["1", "1"]
    assert lines["lines"] == ["1", "3"]
    assert lines["it, its,"] == ["500.0", "0.0"]


def test_a_folder_without_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])


def test_modules_are_listed_by_their_pronouns() -> None:
    assert by_module(parse({"a.py": '"""It is it."""', "b.py": '"""It is a tree."""', "c.py": ""})).split("\n") == [
        " 666.7 of     3 words  a",
        " 250.0 of     4 words  b",
    ]
