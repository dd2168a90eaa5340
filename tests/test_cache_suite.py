"""What is told of the grades of the public test suite of HTTP caches; `bash tests/long suite` runs the suite."""

import json
from pathlib import Path

from tests.support.cache_suite.caches import CACHES, GATEWAY, OURS, Place
from tests.support.cache_suite.verdict import BEYOND, Grades, count, faults, sizes, table
from tornado_gateway.config.load import load_settings

(BEYOND_ALL,) = BEYOND


def grades(**named: str) -> Grades:
    """Three required cases, an optimal one and a check, all passed but for those that are named."""
    kinds = {"a": "required", "b": "required", BEYOND_ALL: "required", "c": "optimal", "d": "check"}
    good = {"check": "yes"}
    return {
        case: (kind, named.get(case, good.get(kind, "pass")), "why" if case in named else "")
        for case, kind in kinds.items()
    }


def test_cases_are_counted_by_kind() -> None:
    found = count(grades(a="fail", c="dependency_fail", d="no"))
    assert (found.passed, found.together, found.unjudged) == ({"required": 2, "optimal": 0, "check": 0}, 2, 1)
    assert sizes(grades()) == {"required": 3, "optimal": 1, "check": 1}


def test_a_table_has_a_row_for_each_cache() -> None:
    counts = {"one": count(grades()), "other": count(grades(a="fail", c="setup_fail"))}
    *_, first, second = table(counts, sizes(grades()), {"one": "1.0", "other": "2.0"})
    assert first == "| one 1.0 | 3 of 3 | 1 of 1 | 4 of 4 | 1 of 1 | 0 |"
    assert second == "| other 2.0 | 2 of 3 | 0 of 1 | 2 of 4 | 1 of 1 | 1 |"


def test_the_best_cache_that_passes_all_required_cases_has_no_fault() -> None:
    ours = grades(c="optional_fail", d="no")
    assert [*faults("ours", {"ours": ours, "other": grades(a="fail", b="fail")})] == []


def test_a_required_case_that_fails_or_is_not_judged_is_a_fault() -> None:
    for grade in ("fail", "setup_fail", "dependency_fail", "untested", "retry"):
        assert [*faults("ours", {"ours": grades(a=grade)})] == [f"a: {grade}: why"]


def test_what_nobody_can_judge_is_a_fault_only_if_it_was_judged() -> None:
    assert [*faults("ours", {"ours": grades(**{BEYOND_ALL: "setup_fail"})})] == []
    assert [*faults("ours", {"ours": grades(**{BEYOND_ALL: "fail"})})] == [f"{BEYOND_ALL}: fail: why"]


def test_another_cache_that_passes_as_many_cases_is_a_fault() -> None:
    ours = grades(c="optional_fail")
    assert [*faults("ours", {"ours": ours, "other": ours})] == ["other passes as many cases as ours"]
    assert [*faults("ours", {"ours": ours, "other": grades(a="fail")})] == ["other passes as many cases as ours"]


def test_the_gateway_runs_as_the_page_says(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "cache.md").read_text(encoding="utf-8")
    for name, value in GATEWAY.items():
        if name.startswith(("CACHE", "BREAKER")):
            assert f"{name}={value}" in page
    variables = CACHES[OURS].variables(Place(tmp_path, tmp_path, 8080, 8081))
    settings = load_settings({name: text for name, text in variables.items() if name != "PYTHONPATH"})
    assert [each.name for each in settings.services] == ["suite"]
    assert json.loads(variables["UPSTREAMS"]) == {"suite": ["http://127.0.0.1:8081"]}
