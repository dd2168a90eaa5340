"""A reader of plain YAML: what the files of deploy/ are written in, and nothing else.

Mappings and sequences in blocks, scalars on one line, flow collections that are JSON, comments on lines of their own.
Everything else is refused, so that no two programs read a file of deploy/ differently.
"""

import json
import re
from typing import Any

_KEY = re.compile(r"([A-Za-z0-9_./-]+):(?: +(\S.*))?")
_SPECIAL = re.compile(r"[&*!|>%@`?\[\]{},#]|- |.*(?: #|: )")
_WORDS = {"true": True, "false": False}

Line = tuple[int, str]  # columns of indentation, and the text


class NotPlain(ValueError):
    """The text is not plain YAML."""


def read_yaml(text: str) -> list[Any]:
    """The documents of a file.

    >>> read_yaml("a:\\n  - b: 1\\n    c: '2'\\n  - [\\"d\\"]\\n---\\ne")
    [{'a': [{'b': 1, 'c': '2'}, ['d']]}, 'e']

    Raises:
        NotPlain: the text is not plain YAML.
    """
    documents = []
    for part in re.split(r"^---$", text, flags=re.MULTILINE):
        lines = [(len(line) - len(line.lstrip(" ")), line.strip()) for line in part.splitlines()]
        lines = [(column, line) for column, line in lines if line and not line.startswith("#")]
        documents.append(_node(lines, 0))
        if lines:
            raise NotPlain(f"what is {lines[0][1]!r} part of?")
    return documents


def _node(lines: list[Line], least: int) -> Any:
    """Take a node, whose lines are indented by `least` columns or more, from the front of the lines."""
    if not lines or lines[0][0] < least:
        raise NotPlain("a value is missing")
    column, line = lines[0]
    if line.startswith("- ") or line == "-":
        return _sequence(lines, column)
    return _mapping(lines, column) if _KEY.fullmatch(line) else _scalar(lines.pop(0)[1])


def _sequence(lines: list[Line], column: int) -> list[Any]:
    items = []
    while lines and lines[0][0] == column and lines[0][1].startswith("-"):
        rest = lines[0][1][1:]
        text = rest.lstrip(" ")
        lines[0] = (column + 1 + len(rest) - len(text), text)
        items.append(_node(lines, column + 1))
    return items


def _mapping(lines: list[Line], column: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    while lines and lines[0][0] == column and (found := _KEY.fullmatch(lines[0][1])):
        lines.pop(0)
        if found[1] in members:
            raise NotPlain(f"{found[1]} stands twice")
        # A sequence may stand in the column of its key.
        is_sequence = bool(lines) and lines[0][1].startswith("- ")
        members[found[1]] = _scalar(found[2]) if found[2] else _node(lines, column + (not is_sequence))
    return members


def _scalar(text: str) -> Any:
    if re.fullmatch(r"'[^']*'", text):
        return text[1:-1]
    if not text:
        raise NotPlain("a value is missing")
    if text[0] in '"[{':
        try:
            return json.loads(text)
        except ValueError:
            raise NotPlain(f"{text} is no JSON") from None
    if _SPECIAL.match(text) or text.endswith(":"):
        raise NotPlain(f"{text} needs quotes")
    return int(text) if re.fullmatch(r"0|[1-9][0-9]*", text) else _WORDS.get(text, text)
