"""Commands of the documents, as the tests run the commands."""

import itertools
import re
import shlex
from collections.abc import Iterator

_ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=")


def whole_lines(block: str) -> Iterator[str]:
    """The lines of a block of shell, with those that go on behind a backslash or within quotes.

    >>> list(whole_lines("a\\nB='1\\n2' c"))
    ['a', "B='1\\n2' c"]
    """
    line = ""
    for part in block.replace("\\\n", " ").splitlines():
        line = f"{line}\n{part}" if line else part
        try:
            shlex.split(line, comments=True)
        except ValueError:  # a quote is open
            continue
        yield line
        line = ""
    assert not line, f"a quote is not closed: {line}"


def environments(text: str) -> Iterator[dict[str, str]]:
    """The variables of the commands in blocks of shell that set UPSTREAMS to more than dots.

    >>> list(environments("```sh\\nA=1 UPSTREAMS='{}' \\\\\\nB='2 3' run C=4\\ncurl D=5\\n```\\n"))
    [{'A': '1', 'UPSTREAMS': '{}', 'B': '2 3'}]
    """
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in whole_lines(block):
            words = itertools.takewhile(_ASSIGNMENT.match, shlex.split(line, comments=True))
            env = dict(word.split("=", 1) for word in words)
            if env.get("UPSTREAMS", "...") != "...":
                yield env
