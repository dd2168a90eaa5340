"""What the viewers of the dashboard get: first everything, then differences.

All viewers get the same differences. A viewer that joins, or that has fallen behind, gets `whole()`: the rows as the
other viewers have the rows at that moment. The size of a difference is bounded: the rows whose state changed go first,
then the rows that were told longest ago. The rest follows with the next difference.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

OF_A_ROW = 4  # bytes of a row in a difference beside key and text: quotes, colon and comma


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
        size: bytes of `rows` as JSON.
    """

    rows: Mapping[str, str]
    gone: tuple[str, ...]
    size: int


class Feed:
    """The rows that viewers have."""

    def __init__(self) -> None:
        self._told: dict[str, Row] = {}
        self._told_at: dict[str, int] = {}
        self._turn = 0

    def update(self, rows: Mapping[str, Row], budget: float) -> Change:
        """The difference between the rows that viewers have and `rows`, or a part of the difference.

        Args:
            budget: bytes of rows; at least one row is told, however large.
        """
        self._turn += 1
        gone = tuple(key for key in self._told if key not in rows)
        for key in gone:
            del self._told[key], self._told_at[key]
        changed = [key for key, row in rows.items() if self._told.get(key) != row]
        changed.sort(key=lambda key: (self._has_state(key, rows[key]), self._told_at.get(key, 0)))
        chosen = {key: rows[key] for key in _within(budget, changed, rows)}
        self._told |= chosen
        self._told_at |= dict.fromkeys(chosen, self._turn)
        size = sum(_size_of(key, row) for key, row in chosen.items())
        return Change({key: row.text for key, row in chosen.items()}, gone, size)

    def reset(self, rows: Mapping[str, Row]) -> None:
        """Take `rows` for told, because nobody has any rows."""
        self._told, self._told_at = dict(rows), dict.fromkeys(rows, self._turn)

    def whole(self) -> Mapping[str, str]:
        """All rows as JSON, as viewers have the rows."""
        return {key: row.text for key, row in self._told.items()}

    def _has_state(self, key: str, row: Row) -> bool:
        told = self._told.get(key)
        return told is not None and told.state == row.state


def _within(budget: float, keys: Iterable[str], rows: Mapping[str, Row]) -> Iterator[str]:
    """The first key, and the following keys whose rows fit into the budget."""
    left = budget
    for number, key in enumerate(keys):
        left -= _size_of(key, rows[key])
        if left < 0 and number:
            return
        yield key


def _size_of(key: str, row: Row) -> int:
    return len(key) + len(row.text) + OF_A_ROW
