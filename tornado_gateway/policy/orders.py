"""Orders: the JSON bodies by which operators tell the gateway to do something; and the parameters of questions.

An order is an object. Each member is named in the list of the act; a complaint names the member, the value and what is
allowed, so that whoever wrote the order need not look further.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from tornado_gateway.errors import BadRequest

SHOWN = 80  # characters of a value that a complaint shows


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an order.

    Attributes:
        name: of the member.
        allowed: the allowed values, in words.
        accepts: whether a value is allowed.
        default: value of a member that is missing; REQUIRED for none.
    """

    name: str
    allowed: str
    accepts: Callable[[Any], bool]
    default: Any = None


REQUIRED: Any = object()


def text(name: str, longest: int, default: Any = REQUIRED) -> Member:
    """A member that is a string, not empty."""
    return Member(name, f"a string of 1 to {longest} characters",
                  lambda said: isinstance(said, str) and 1 <= len(said) <= longest, default)  # fmt: skip


def whole(name: str, low: int, high: int, default: Any = REQUIRED) -> Member:
    """A member that is a whole number."""
    return Member(name, f"a whole number from {low} to {high}",
                  lambda said: type(said) is int and low <= said <= high, default)  # fmt: skip


def flag(name: str, default: Any = REQUIRED) -> Member:
    """A member that is true or false."""
    return Member(name, "true or false", lambda said: isinstance(said, bool), default)


def words(name: str, most: int, longest: int, default: Any = REQUIRED) -> Member:
    """A member that is a list of words: strings without blanks and commas."""
    return Member(name, f"a list of 1 to {most} words of 1 to {longest} characters, without blanks and commas",
                  lambda said: isinstance(said, list) and 1 <= len(said) <= most
                  and all(_is_word(each, longest) for each in said), default)  # fmt: skip


def _is_word(said: object, longest: int) -> bool:
    return isinstance(said, str) and len(said) <= longest and said.replace(",", " ").split() == [said]


def word(name: str, words: Collection[str], default: Any = REQUIRED) -> Member:
    """A member that is one of several words."""
    return Member(name, f"one of {', '.join(words)}", lambda said: isinstance(said, str) and said in words, default)


def read_order(body: bytes, members: Sequence[Member]) -> dict[str, Any]:
    """The values of all members of an order.

    Raises:
        BadRequest: the body is no such order.

    >>> read_order(b'{"weight": 3}', [whole("weight", 0, 9), whole("overMs", 0, 9, 5)])
    {'weight': 3, 'overMs': 5}
    """
    said = read_object(body)
    names = [each.name for each in members]
    if unknown := sorted(set(said) - set(names)):
        raise BadRequest(f"{shown(unknown[0])} is no member of this order; {', '.join(names)} are")
    return {each.name: _value(said, each) for each in members}


def read_object(body: bytes) -> dict[str, Any]:
    """The members of a body that is a JSON object.

    Raises:
        BadRequest: the body is no JSON object.

    >>> read_object(b'{"weight": 3}')
    {'weight': 3}
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
    if not isinstance(said, dict):
        raise BadRequest("the body is no JSON object")
    return said


def _value(said: dict[str, Any], member: Member) -> Any:
    if member.name not in said:
        if member.default is REQUIRED:
            raise BadRequest(f"{member.name} is missing; it must be {member.allowed}")
        return member.default
    value = said[member.name]
    if not member.accepts(value):
        raise BadRequest(f"{member.name} is {shown(value)}, and must be {member.allowed}")
    return value


def shown(value: object) -> str:
    """A value as a complaint and the log of acts show the value: as JSON, in ASCII, cut where long.

    >>> shown("a" * 200)[-6:], shown("\\u202e")
    ('aaa...', '"\\\\u202e"')
    """
    said = json.dumps(value)
    return said if len(said) <= SHOWN else f"{said[: SHOWN - 3]}..."


def parameters(query: str, known: Sequence[str]) -> dict[str, str]:
    """The parameters of a query.

    Raises:
        BadRequest: a parameter is unknown or stands twice.
    """
    given = parse_qsl(query, keep_blank_values=True)
    said = dict(given)
    if wrong := next((name for name in said if name not in known), ""):
        raise BadRequest(f"{shown(wrong)} is no parameter of this page; {', '.join(known)} are")
    if len(said) < len(given):
        raise BadRequest("a parameter stands twice")
    return said


def number(said: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    """A parameter that is a whole number; `default` without.

    Raises:
        BadRequest: the value is no whole number from `low` to `high`.
    """
    value = said.get(name, "")
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
        raise BadRequest(f"{name} is {shown(value)}, and must be a whole number from {low} to {high}")
    return int(value)
