"""What is shown of the variables: `--help`, `--print-config`, `.env.example` and the README's table."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from tornado_gateway.config.parsers import ServiceSettings
from tornado_gateway.config.problems import MASK
from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES, Variable

_PATH, _PATH_KEY = "health_path", "healthPath"  # the only URL, or part of one, that may have a query


MARKS = """\
*: a service in UPSTREAMS may have a value of its own, under the name in camel case: "healthPath" for HEALTH_PATH.
(reserved): checked now, without effect in this version."""


def environment_help() -> str:
    """All variables for --help."""
    lines = [
        f"{group}:\n" + "\n".join(f"  {each.name}={each.default}\n      {each.line}" for each in variables)
        for group, variables in groupby(VARIABLES, lambda variable: variable.group)
    ]
    return "\n\n".join(lines)


def example_env() -> str:
    """What .env.example holds: UPSTREAMS to be filled in, every other variable as a comment with its default."""
    blocks = [_ABOUT_ENV]
    for group, variables in groupby(VARIABLES, lambda variable: variable.group):
        blocks.append(f"# --- {group} ---")
        blocks += [f"# {each.line}\n{_mark(each)}{each.name}={each.default}" for each in variables]
    return "\n\n".join(blocks) + "\n"


_ABOUT_ENV = """\
# Copy to .env and set UPSTREAMS. The default of every other variable stands behind its =; remove the # to set it.
# An empty value means: not set. Put single quotes around a value that holds a #.
#
# *: a service in UPSTREAMS may have a value of its own, under the name in camel case: "healthPath" for HEALTH_PATH.
# (reserved): checked now, without effect in this version."""


def _mark(variable: Variable) -> str:
    return "" if variable.name == "UPSTREAMS" else "#"


def markdown_table() -> str:
    """The README's table."""
    rows = [f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.line} |" for each in VARIABLES]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def effective(settings: Settings) -> list[tuple[str, str]]:
    """Each variable with the value in force, as text that could be given for it; secrets are masked."""
    return [(variable.name, _as_text(variable, getattr(settings, variable.attribute))) for variable in VARIABLES]


def _without_query(path: str) -> str:
    """A path with its query masked, which may hold a key.

    >>> _without_query("/health?key=1"), _without_query("/health")
    ('/health?********', '/health')
    """
    return re.sub(r"(?<=\?).+", MASK, path)


def _as_text(variable: Variable, value: Any) -> str:
    if variable.secret:
        return MASK if value else ""
    match value:
        case bool():
            text = str(value).lower()
        case float():
            text = f"{value * 1000:.6f}".rstrip("0").rstrip(".")
        case (ServiceSettings(), *_):
            text = json.dumps({service.name: _as_json(service) for service in value})
        case frozenset():
            text = ",".join(_ranges(sorted(value)))
        case tuple():
            text = ",".join(map(str, value))
        case None:
            text = ""
        case str() if variable.attribute == _PATH:
            text = _without_query(value)
        case _:
            text = str(value)
    return text


def _ranges(numbers: list[int]) -> Iterator[str]:
    """
    >>> list(_ranges([200, 201, 202, 404]))
    ['200-202', '404']
    """
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"


def _as_json(service: ServiceSettings) -> dict[str, object]:
    endpoints = [
        {"url": each.url, "weight": each.weight} if each.weight != 1 else each.url for each in service.endpoints
    ]
    given = {key: value if key != _PATH_KEY else _without_query(str(value)) for key, value in service.given.items()}
    return {"endpoints": endpoints, **given}
