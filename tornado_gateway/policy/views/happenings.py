"""Spells of refusals, told as events: that a limit refuses requests, and that the limit has stopped to refuse.

    count of a State:   0   0   3   9   9   9   ...   9
    events:                     ▲ begins              ▲ ended: "9 in 2 s", QUIET after the last refusal

A refusal is no event, because a flood makes thousands of refusals a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tornado_gateway.policy.limits.totals import OBSERVED, REFUSED
from tornado_gateway.policy.views.board import GOOD, NOTE, WARNING, Event
from tornado_gateway.policy.views.state import State

QUIET = 10.0  # seconds without a refusal after which a spell has ended

_ENDS = {REFUSED: ("refuses requests", WARNING), OBSERVED: ("would refuse requests", NOTE)}


@dataclass(slots=True)
class _Spell:
    """Refusals with less than QUIET between two of them.

    Attributes:
        began, last: seconds since 1970 of the first and of the newest look with a new refusal.
        before: the count before the spell.
    """

    began: float
    last: float
    before: int


class Happenings:
    """Compares each State with the State before."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._spells: dict[str, _Spell] = {}
        self._is_first = True

    def update(self, state: State, at: float) -> list[Event]:
        """The events since the last call; none for the first call.

        Args:
            at: seconds since 1970.
        """
        found = list(_counted(state))
        events = [event for each in found for event in self._told(*each, at)]
        self._counts = {subject: count for subject, _, _, count in found}
        self._is_first = False
        return events

    def _told(self, subject: str, does: str, level: str, count: int, at: float) -> Iterator[Event]:
        before, spell = self._counts.get(subject, 0), self._spells.get(subject)
        if count > before and not self._is_first:
            if spell is None:
                self._spells[subject] = _Spell(at, at, before)
                yield Event(at, level, f"{subject} {does}")
            else:
                spell.last = at
        elif spell and at - spell.last >= QUIET:
            del self._spells[subject]
            seconds = max(1.0, spell.last - spell.began)
            yield Event(at, GOOD, f"{subject} {does} no more: {count - spell.before} in {seconds:.0f} s")


def _counted(state: State) -> Iterator[tuple[str, str, str, int]]:
    """What refuses, what that does, the level of an event, and the count. The configuration bounds the number."""
    for priority, count in state.process.shed.items():
        yield f"overload: class {priority}", "is shed", WARNING, count
    for key, count in state.limits.limited.items():
        outcome, policy = key.split(" ", 1)
        does, level = _ENDS[outcome]
        yield f"rate limit {policy}", does, level, count
