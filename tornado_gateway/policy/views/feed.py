"""What the viewers of the dashboard get: first everything, then differences.

All viewers get the same differences. A viewer that joins, or that has fallen behind, gets `whole()`: the rows as the
other viewers have the rows at that moment. The size of a difference is bounded: the rows whose state changed go first,
then the rows that were told longest ago. The rest follows with the next difference.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

BUDGET = 40 * 1024  # bytes of rows in a difference; with everything else, a viewer gets 50 KiB per second at most


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        state: the state in a word; a change of the state is urgent.
        text: the row as JSON.
    """

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """A difference.

    Attributes:
        rows: new and changed rows as JSON, by key.
        gone: keys of rows that are no more.
    """

    rows: Mapping[str, str]
    gone: tuple[str, ...]


class Feed:
    """The rows that viewers have."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._told: dict[str, Row] = {}
        self._told_at: dict[str, int] = {}
        self._turn = 0

    def update(self, rows: Mapping[str, Row]) -> Change:
        """The difference between the rows that viewers have and `rows`, or a part of the difference."""
        self._turn += 1
        gone = tuple(key for key in self._told if key not in rows)
        for key in gone:
            del self._told[key], self._told_at[key]
        changed = [key for key, row in rows.items() if self._told.get(key) != row]
        changed.sort(key=lambda key: (self._has_state(key, rows[key]), self._told_at.get(key, 0)))
        chosen = {key: rows[key] for key in self._within_budget(changed, rows)}
        self._told |= chosen
        self._told_at |= dict.fromkeys(chosen, self._turn)
        return Change({key: row.text for key, row in chosen.items()}, gone)

    def reset(self, rows: Mapping[str, Row]) -> None:
        """Take `rows` for told, because nobody has any rows."""
        self._told, self._told_at = dict(rows), dict.fromkeys(rows, self._turn)

    def whole(self) -> Mapping[str, str]:
        """All rows as JSON, as viewers have the rows."""
        return {key: row.text for key, row in self._told.items()}

    def _has_state(self, key: str, row: Row) -> bool:
        told = self._told.get(key)
        return told is not None and told.state == row.state

    def _within_budget(self, keys: Iterable[str], rows: Mapping[str, Row]) -> Iterator[str]:
        """The first keys, until their rows fill the budget."""
        left = self._budget
        for key in keys:
            if left <= 0:
                return
            left -= len(key) + len(rows[key].text)
            yield key
