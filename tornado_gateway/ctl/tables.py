"""Tables for a terminal: columns as wide as their content, numbers to the right. Pure."""

from collections.abc import Iterable, Sequence

WIDEST = 60  # characters of a cell

Cell = str | int | float | bool | None


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Rows below the names of their columns.

    >>> print(table(["service", "rate"], [["billing", 12.5], ["chat", None]]))
    service  rate
    billing  12.5
    chat        –
    """
    cells = [[written(each) for each in row] for row in rows]
    rights = [
        any(isinstance(each, int | float) and not isinstance(each, bool) for each in column)
        for column in zip(*rows, strict=True)
    ]
    rights = rights or [False] * len(columns)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    return "\n".join(_line(row, widths, rights) for row in [[*columns], *cells])


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(cells, widths, rights, strict=True)
    ]
    return "  ".join(padded).rstrip()


def written(value: Cell) -> str:
    """A value for a terminal. A terminal obeys control characters, so control characters are escaped.

    >>> written(None), written(True), written(0.5), written("a\\x1b[31m")
    ('–', 'yes', '0.5', 'a\\\\x1b[31m')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    safe = printable(str(value))
    return safe if len(safe) <= WIDEST else f"{safe[: WIDEST - 1]}…"


def printable(text: str) -> str:
    """A text without control characters and marks of direction."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def duration(milliseconds: float) -> str:
    """Milliseconds in words.

    >>> duration(300), duration(61_000), duration(7_300_000), duration(200_000_000)
    ('0 s', '61 s', '2 h', '2 d')
    """
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min"
    return f"{seconds // 3600:.0f} h" if seconds < 172_800 else f"{seconds // 86_400:.0f} d"
