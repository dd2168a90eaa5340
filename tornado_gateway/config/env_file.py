r"""The syntax of a .env file. A line has one meaning in all programs that read such files, or is refused.

    # comment                    only blanks before the #
    NAME=value # comment         a blank before the #; blanks around the value are dropped
    export NAME = value          "export" and blanks around = have no meaning
    NAME='any #, " or \'         literal
    NAME="a \"b\" c\n"           \" \\ \$ \n \r \t, and no other escape

Programs read other lines in different ways. The gateway refuses such lines: a # without a blank before the #, text
behind a closing quote, a quote that is not closed on the same line, a second NAME= on a line, ${NAME} and $(command),
a backslash at the end of a line. A problem never shows the value: the value may be a secret.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_BLANKS = " \t"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPORT = re.compile(r"^export[ \t]+(?=[^ \t])")
# Control characters except the tab, and characters that other programs take for the end of a line.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_COMMENT = re.compile(r"[ \t]#")
_SINGLE_QUOTED = re.compile(r"'([^']*)'")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BEHIND_QUOTE = re.compile(r"[ \t]*(?:[ \t]#.*)?")
_PIECE = re.compile(r"\\.|\$[{(]|.")
_ESCAPES = {r"\"": '"', r"\\": "\\", r"\$": "$", r"\n": "\n", r"\r": "\r", r"\t": "\t"}
_SECOND_NAME = re.compile(r"[ \t;][A-Za-z_][A-Za-z0-9_]*=")

_LINE = "NAME=value, # and a comment, or an empty line"
_QUOTED = "single quotes around a value that holds it"


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The variables of a .env file.

    Attributes:
        values: text of each variable; "" if the line ends behind the =.
        places: "file:line" of each variable.
        warnings: a warning for each variable that is set more than once.
    """

    values: Mapping[str, str]
    places: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def read_env_file(path: str) -> EnvFile:
    """Read a .env file.

    Raises:
        ConfigurationError: the file cannot be read, or lines are wrong; with a problem for each line.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = f"cannot be read ({getattr(error, 'strerror', None) or 'not a path'})"
        raise ConfigurationError((Problem("--env-file", shown(path), reason, "a file of NAME=value lines"),)) from None
    return parse_env(content, path)


def parse_env(content: bytes, file: str) -> EnvFile:
    """Parse the content of a .env file.

    Args:
        content: bytes of the file.
        file: name of the file, for messages.

    Raises:
        ConfigurationError: lines are wrong; with a problem for each line.

    >>> parse_env(b"PORT=80 # http\\nexport HOST='::1'\\n", ".env").values
    {'PORT': '80', 'HOST': '::1'}
    """
    values: dict[str, str] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    warnings: list[str] = []
    for place, line in _numbered(content, json.dumps(file)[1:-1]):
        name = ""
        try:
            name, rest = _split(line)
            text = _value(rest) if name else ""
        except (Invalid, UnicodeDecodeError) as error:
            problems.append(_problem(place, name, error))
            continue
        if name in values:
            warnings.append(f"{name} is set twice: the value at {place} counts, not the one at {places[name]}")
        if name:
            values[name], places[name] = text, place
    if problems:
        raise ConfigurationError(tuple(problems))
    return EnvFile(values, places, tuple(warnings))


def _numbered(content: bytes, file: str) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), 1):
        yield f"{file}:{number}", line.removesuffix(b"\r")


def _problem(place: str, name: str, error: Exception) -> Problem:
    variable = f"{place}: {name}" if name else place
    if isinstance(error, Invalid):
        return Problem(variable, "", error.reason, error.allowed)
    return Problem(variable, "", "is not UTF-8", "UTF-8 with or without a byte order mark")


def _split(line: bytes) -> tuple[str, str]:
    """The name, and the text behind the =; ("", "") for a comment or an empty line."""
    text = line.decode("utf-8")
    if found := _FORBIDDEN.search(text):
        raise Invalid(f"holds the character {json.dumps(found[0])}", "text, and LF or CR LF at the end of a line")
    name, equals, rest = text.partition("=")
    if text.strip(_BLANKS)[:1] in ("", "#"):
        return "", ""
    if not equals:
        raise Invalid("sets nothing: it has no =", _LINE)
    name = _EXPORT.sub("", name.strip(_BLANKS), count=1)
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"sets no variable: {_culprit(name)} before the =", "a name of letters, digits and _, not a digit first"
        )
    return name, rest


def _culprit(name: str) -> str:
    """The first character that may not be in a name. The rest is not shown: the text may be part of a secret."""
    wrong = re.sub("[A-Za-z0-9_]", "", name)
    return json.dumps(wrong[0]) if wrong else "a digit" if name else "nothing"


def _value(rest: str) -> str:
    text = rest.strip(_BLANKS)
    if text[:1] == "'":
        return _quoted(_SINGLE_QUOTED, text)
    if text[:1] == '"':
        return _unescaped(_quoted(_DOUBLE_QUOTED, text))
    return _unquoted(rest)


def _quoted(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.match(text)
    if not found:
        raise Invalid("has a quote that is not closed on its line", r"both on one line; \n in double quotes")
    if not _BEHIND_QUOTE.fullmatch(text, found.end()):
        raise Invalid("has text behind its closing quote", "a blank, # and a comment there")
    return found[1]


def _unescaped(text: str) -> str:
    pieces = _PIECE.findall(text)
    for piece in pieces:
        if piece[0] == "\\" and piece not in _ESCAPES:
            raise Invalid("has an escape of unknown meaning", rf"{' '.join(_ESCAPES)}; or single quotes")
    _check_expansion(pieces)
    return "".join(_ESCAPES.get(piece, piece) for piece in pieces)


def _unquoted(rest: str) -> str:
    text, *comment = _COMMENT.split(rest, maxsplit=1)
    text = text.strip(_BLANKS)
    if "#" in text:
        raise Invalid("has a # that touches the text before it", f"a blank before a comment; {_QUOTED}")
    if comment and text.count('"') % 2:
        raise Invalid("has a # within a pair of quotes", _QUOTED)
    if text[:1] == "`" or text[-1:] == "\\":
        raise Invalid("has a backquote first, or a backslash last", _QUOTED)
    if _SECOND_NAME.search(text):
        raise Invalid("is followed by another NAME=", f"one variable on a line; {_QUOTED}")
    _check_expansion(_PIECE.findall(text))
    return text


def _check_expansion(pieces: list[str]) -> None:
    if "${" in pieces or "$(" in pieces:
        raise Invalid("has ${ or $(, and nothing is put in their place", _QUOTED)
