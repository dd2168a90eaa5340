"""How the variables are shown: `--help`, `--print-config`, `.env.example`, docs/configuration.md and docs/reload.md.

python -m tornado_gateway.config.help    writes .env.example and the documents' lists, below the current directory
"""

import re
from itertools import groupby
from pathlib import Path

from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import VARIABLES, Variable

MARKS = """\
*: a service in UPSTREAMS may have a value of its own, under the name in camel case: "healthPath" for HEALTH_PATH.
!: a change needs a restart; a reload changes all others."""


def environment_help() -> str:
    """All variables for --help."""
    lines = [
        f"{group}:\n" + "\n".join(f"  {each.name}={each.default}\n      {each.line}" for each in variables)
        for group, variables in groupby(VARIABLES, lambda variable: variable.group)
    ]
    return "\n\n".join(lines)


def example_env() -> str:
    """The content of .env.example: UPSTREAMS to be filled in, every other variable as a comment with its default."""
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
# !: a change needs a restart; a reload changes all others."""


def _mark(variable: Variable) -> str:
    return "" if variable.name == "UPSTREAMS" else "#"


def markdown_table() -> str:
    """The table of docs/configuration.md."""
    rows = [f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.line} |" for each in VARIABLES]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def restart_list() -> str:
    """The list in docs/reload.md."""
    return "".join(f"* `{each.name}`\n" for each in VARIABLES if each.needs_restart)


def effective(settings: Settings) -> list[tuple[str, str]]:
    """Each variable with the value in force, as text that could be given for the variable; secrets are masked."""
    return [(variable.name, variable.text(settings)) for variable in VARIABLES]


def write(root: Path) -> None:
    """Write .env.example, and what stands between the marks in docs/configuration.md and docs/reload.md."""
    (root / ".env.example").write_text(example_env(), encoding="utf-8")
    write_between(root / "docs" / "configuration.md", "variables", markdown_table())
    write_between(root / "docs" / "reload.md", "restart", restart_list())


def write_between(document: Path, mark: str, said: str) -> None:
    text = document.read_text(encoding="utf-8")
    before, _, after = re.split(rf"(?<=<!-- {mark} -->\n)(.*)(?=<!-- /{mark} -->)", text, flags=re.DOTALL)
    document.write_text(before + said + after, encoding="utf-8")


if __name__ == "__main__":
    write(Path())
