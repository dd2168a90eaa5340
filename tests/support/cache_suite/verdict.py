"""What grades say: a table of all caches, and what keeps the gateway from being the best of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Grades = Mapping[str, tuple[str, str, str]]  # by id of a case: its kind, its grade, and what the suite says
KINDS = ("required", "optimal", "check")
FIELDS = ("cache", "required", "optimal", "together", "checks: yes", "not judged")
# Required cases that cannot be judged, and why. The suite does not count these as failed.
BEYOND = {
    "headers-store-Transfer-Encoding": "the suite's server names a transfer coding that does not exist, so that nobody "
    "knows where the response ends; the gateway answers 502",
}
_PASSED = {"pass", "yes"}
_JUDGED = {"pass", "yes", "fail", "optional_fail", "no"}


@dataclass(frozen=True, slots=True)
class Count:
    """How many cases of a cache passed, by kind.

    Attributes:
        passed: by kind; a passed check answers a question of the suite with yes, which is neither good nor bad.
        unjudged: cases that the suite does not judge, because a case that they build on failed.
    """

    passed: Mapping[str, int]
    unjudged: int

    @property
    def together(self) -> int:
        return self.passed["required"] + self.passed["optimal"]


def count(grades: Grades) -> Count:
    of_kinds = {kind: [grade for each, grade, _ in grades.values() if each == kind] for kind in KINDS}
    passed = {kind: sum(grade in _PASSED for grade in found) for kind, found in of_kinds.items()}
    return Count(passed, sum(grade not in _JUDGED for _, grade, _ in grades.values()))


def sizes(grades: Grades) -> Mapping[str, int]:
    """Number of cases, by kind."""
    return {kind: sum(each == kind for each, _, _ in grades.values()) for kind in KINDS}


def table(counts: Mapping[str, Count], size: Mapping[str, int], versions: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    both = size["required"] + size["optimal"]
    yield "| " + " | ".join(FIELDS) + " |"
    yield "|---" + "|---:" * (len(FIELDS) - 1) + "|"
    for name, each in counts.items():
        cells: Sequence[str] = (
            f"{name} {versions[name]}", f"{each.passed['required']} of {size['required']}",
            f"{each.passed['optimal']} of {size['optimal']}", f"{each.together} of {both}",
            f"{each.passed['check']} of {size['check']}", str(each.unjudged),
        )  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def faults(ours: str, grades: Mapping[str, Grades]) -> Iterator[str]:
    """Required cases that our cache does not pass, and caches that pass as many cases as ours."""
    for case, (kind, grade, said) in grades[ours].items():
        is_beyond = case in BEYOND and grade not in _JUDGED
        if kind == "required" and grade not in _PASSED and not is_beyond:
            yield f"{case}: {grade}: {said}"
    best = count(grades[ours])
    for name, each in grades.items():
        other = count(each)
        if name != ours and (
            other.together >= best.together or other.passed["required"] >= best.passed["required"]
        ):  # fmt: skip
            yield f"{name} passes as many cases as {ours}"
