"""Watches files by their state on disk: modification, size, place.

A look every second costs a few microseconds for each file, works on every file system, and sees a file that is replaced
or reached by another link, as Kubernetes replaces the files of a ConfigMap. A file that is being written changes again
until the next look: a change is told once two looks in a row see the same.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

INTERVAL = 1.0  # seconds between two looks

_State = tuple[int, int, int] | None


class FileWatch:
    """A Sweeper that tells of changed files.

    Args:
        on_change: called once for each change.
    """

    shortest_timeout = math.inf

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._known: dict[str, _State] = {}  # as last told
        self._seen: dict[str, _State] = {}  # at the last look
        self._next_look = -math.inf

    def use(self, paths: Iterable[str]) -> None:
        """Watch these files alone, from their present state on. Files that are watched already stay as they are."""
        self._known = {path: self._known[path] if path in self._known else _state(path) for path in paths}
        self._seen = {path: self._seen.get(path, self._known[path]) for path in self._known}

    def sweep(self, now: float) -> None:
        """Look at the files, if a look is due."""
        if self._known and now >= self._next_look:
            self._next_look = now + INTERVAL
            self._look()

    def _look(self) -> None:
        found = {path: _state(path) for path in self._known}
        is_settled, self._seen = found == self._seen, found
        if is_settled and found != self._known:
            self._known = found
            self._on_change()


def _state(path: str) -> _State:
    """The state of a file; None for no file."""
    try:
        said = Path(path).stat()
    except (OSError, ValueError):
        return None
    return said.st_mtime_ns, said.st_size, said.st_ino
