"""The directives of Cache-Control, CDN-Cache-Control and Pragma.

Directives are read conservatively. Unknown directives are kept and mean nothing (RFC 9111 §5.2.3). A directive that
occurs several times counts with the smallest of the arguments, and a malformed argument counts as 0 seconds (§4.2.1). A
list of fields that cannot be read makes `private` and `no-cache` count for the whole response.

CDN-Cache-Control is a Structured Fields dictionary (RFC 9213 §2.1): all of the field is used, or nothing.
Surrogate-Control is older (Edge Architecture Specification, W3C note of 2001) and has the syntax of Cache-Control.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tornado_gateway.policy.http.headers import KnownFields
from tornado_gateway.policy.http.lists import OWS, members, quoted_members

LONGEST = 2.0**31  # seconds; a longer duration counts as this many (RFC 9111 §1.2.2)
LONGEST_REMEMBERED = 1024  # bytes of a field's value that is remembered; anybody can make up values of 64 KiB

NO_CACHE, NO_STORE, PRIVATE, PUBLIC = b"no-cache", b"no-store", b"private", b"public"
MAX_AGE, S_MAXAGE = b"max-age", b"s-maxage"
STALE_WHILE_REVALIDATE, STALE_IF_ERROR = b"stale-while-revalidate", b"stale-if-error"

_OF_SECONDS = (MAX_AGE, S_MAXAGE, STALE_WHILE_REVALIDATE, STALE_IF_ERROR)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

# RFC 9651 §3: a dictionary's keys, bare items, inner lists and parameters.
_KEY = rb"[a-z*][a-z0-9_\-.*]*"
_INTEGER = re.compile(rb"-?[0-9]{1,15}")
_ITEM = (
    rb'(?:@?-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[ !#-\[\]-~]|\\["\\])*"'
    rb"|[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*|:[A-Za-z0-9+/=]*:|\?[01])"
)
_PARAMETERS = rb"(?:;[ ]*%b(?:=%b)?)*" % (_KEY, _ITEM)
_INNER_LIST = rb"\([ ]*(?:%b%b(?:[ ]+%b%b)*)?[ ]*\)" % (_ITEM, _PARAMETERS, _ITEM, _PARAMETERS)
_MEMBER = re.compile(rb"(%b)(?:=(%b|%b))?%b" % (_KEY, _ITEM, _INNER_LIST, _PARAMETERS))
_COMMA = re.compile(rb"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of a message.

    Attributes:
        arguments: the arguments of each directive in their order, by lower-case name; None for no argument.
    """

    arguments: Mapping[bytes, tuple[bytes | None, ...]]

    def __contains__(self, name: bytes) -> bool:
        return name in self.arguments

    def seconds(self, name: bytes) -> float | None:
        """The duration that a directive names, 0 to LONGEST; None without the directive.

        >>> read_directives([b'max-age=60, s-maxage=x, max-age="5"']).seconds(b"max-age")
        5.0
        """
        given = self.arguments.get(name)
        return min(map(_seconds, given)) if given else None

    def fields(self, name: bytes) -> frozenset[bytes] | None:
        """The lower-case names of fields that a directive is limited to (RFC 9111 §5.2.2.4, §5.2.2.7).

        Returns:
            None without the directive; no names for a directive that concerns the whole response.

        >>> read_directives([b'private="Set-Cookie, X-User"']).fields(b"private") == {b"set-cookie", b"x-user"}
        True
        """
        given = self.arguments.get(name)
        if given is None:
            return None
        lists = [members([argument.lower()]) if argument else [] for argument in given]
        is_limited = all(each and all(map(_TOKEN.fullmatch, each)) for each in lists)
        return frozenset(field for each in lists for field in each) if is_limited else frozenset()


NONE = Directives({})
_ONLY_NO_CACHE = Directives({NO_CACHE: (None,)})


class ResponseDirectives(NamedTuple):
    """The directives that a response has for this cache.

    Attributes:
        are_targeted: whether the directives stood in CDN-Cache-Control, so that Expires does not count (RFC 9213 §2.2).
    """

    directives: Directives
    are_targeted: bool


def read_directives(values: Sequence[bytes]) -> Directives:
    """The directives of the lines of a Cache-Control field."""
    value = b",".join(values)
    return _read(value) if len(value) <= LONGEST_REMEMBERED else _read.__wrapped__(value)


@functools.lru_cache(maxsize=512)
def _read(value: bytes) -> Directives:
    found: dict[bytes, list[bytes | None]] = {}
    for member in quoted_members([value]):
        name, mark, argument = member.partition(b"=")
        plain = name.rstrip(OWS)
        # Whitespace before the sign is malformed (RFC 9111 §5.2), and so is an argument that is left out.
        said = (_unquoted(argument) if plain == name else b"") if mark else None
        found.setdefault(plain.lower(), []).append(said)
    return Directives({name: tuple(arguments) for name, arguments in found.items()}) if found else NONE


def request_directives(fields: KnownFields) -> Directives:
    """The directives of a request. Pragma: no-cache counts where no Cache-Control stands (RFC 9111 §5.4)."""
    if b"cache-control" in fields:
        return read_directives(fields[b"cache-control"])
    if b"pragma" in fields and NO_CACHE in read_directives(fields[b"pragma"]):
        return _ONLY_NO_CACHE
    return NONE


def response_directives(fields: KnownFields, *, reads_surrogate: bool = False) -> ResponseDirectives:
    """The directives of a response: CDN-Cache-Control if valid, else Cache-Control (RFC 9213 §2.2).

    Args:
        reads_surrogate: whether Surrogate-Control counts before Cache-Control.
    """
    if b"cdn-cache-control" in fields:
        targeted = read_targeted(fields[b"cdn-cache-control"])
        if targeted:
            return ResponseDirectives(targeted, True)
    if reads_surrogate and b"surrogate-control" in fields:
        return ResponseDirectives(read_surrogate(fields[b"surrogate-control"]), True)
    return ResponseDirectives(read_directives(fields.get(b"cache-control", ())), False)


def read_targeted(values: Sequence[bytes]) -> Directives | None:
    """The directives of the lines of a targeted field; None for an empty or malformed field (RFC 9213 §2.1).

    A duration that is no integer is ignored. `?0` says that a directive is absent.

    >>> read_targeted([b"max-age=60, no-store=?0"]) == Directives({b"max-age": (b"60",)})
    True
    >>> read_targeted([b"max-age=60,"]) is None
    True
    """
    pairs = _dictionary(b", ".join(values).strip(b" "))
    if not pairs:
        return None
    return Directives({name: (argument,) for name, value in pairs.items() for argument in _targeted(name, value)})


def read_surrogate(values: Sequence[bytes]) -> Directives:
    """The directives of the lines of Surrogate-Control.

    The second number of max-age is the time for which a stale response may be used while it is validated. A directive
    with a parameter is for the surrogate of that name, and ignored.

    >>> read_surrogate([b"max-age=60+30, no-store;other"]).arguments
    {b'max-age': (b'60',), b'stale-while-revalidate': (b'30',)}
    """
    found = read_directives([each for each in quoted_members(values) if b";" not in each]).arguments
    ages = [(each or b"").partition(b"+") for each in found.get(MAX_AGE, ())]
    if not any(plus for _, plus, _ in ages):
        return Directives(found)
    own = {MAX_AGE: tuple(age for age, _, _ in ages), STALE_WHILE_REVALIDATE: tuple(more for _, _, more in ages)}
    return Directives({**found, **own})


def _targeted(name: bytes, value: bytes | None) -> Iterator[bytes | None]:
    """The argument of a member of a targeted field; nothing for a member that means nothing."""
    if name in _OF_SECONDS:
        if value is not None and _INTEGER.fullmatch(value):
            yield value
    elif value != b"?0":
        yield None if value in (None, b"?1") else _unquoted(value or b"")


def _dictionary(text: bytes) -> dict[bytes, bytes | None]:
    """The members of a Structured Fields dictionary; no members for a malformed text (RFC 9651 §4.2.2)."""
    found: dict[bytes, bytes | None] = {}
    at = 0
    while member := _MEMBER.match(text, at):
        found[member[1]] = member[2]  # the last member of a name counts
        if member.end() == len(text):
            return found
        comma = _COMMA.match(text, member.end())
        if comma is None:
            break
        at = comma.end()
    return {}


def _unquoted(argument: bytes) -> bytes:
    quoted = _QUOTED.fullmatch(argument)
    return _ESCAPED.sub(rb"\1", quoted[1]) if quoted else argument


def _seconds(argument: bytes | None) -> float:
    if argument is None or not argument.isdigit():
        return 0.0
    digits = argument.lstrip(b"0")
    return min(float(digits or b"0"), LONGEST) if len(digits) < 20 else LONGEST
