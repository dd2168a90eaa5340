"""Reads JSON documents of variables, and reports all problems of a document at once, each with its JSON path."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import ConfigurationError, Invalid, Problem, shown

_CLOSE = 0.8  # ratio of difflib: "wsMaxMessageBytes" (a variable of no service) is not meant for "sseMaxBytes"
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")

Options = Mapping[str, Syntax[Any]]  # by the key that an object may have beside its own keys

# Objects within a service or a route, with the beginning of the variables' keys that are shorter there:
# {"cache": {"enabled": true}} is the same as {"cacheEnabled": true}.
OBJECTS = {"cache": "cache", "tls": "upstreamTls"}
_SHORTER = {"cacheDefaultTtlMs": "ttlMs", "upstreamTlsCert": "certificate", "upstreamTlsCaFile": "ca"}


class Members(dict[str, Any]):
    """A JSON object.

    Attributes:
        repeated: keys that were given more than once.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


def parse_json(text: str | bytes, allowed: str) -> Any:
    """Parse a document; objects become Members.

    Args:
        allowed: description of a valid document.

    Raises:
        Invalid: the text is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=Members)
    except (ValueError, RecursionError) as error:  # RecursionError: a million brackets
        raise Invalid(f"is not JSON: {error}", allowed) from None


class DocumentReader:
    """Reads on after a problem, to find all problems. A result is valid only if there are none.

    Attributes:
        problems: found so far.
        options: syntax of the values that an object may have for variables.
    """

    def __init__(self, options: Options) -> None:
        self.problems: list[Problem] = []
        self.options = options

    @property
    def objects(self) -> tuple[str, ...]:
        """The keys of objects that an object may have for values of variables."""
        return tuple(name for name in OBJECTS if self._names_in(name))

    def _names_in(self, name: str) -> dict[str, str]:
        """The keys of variables, by the names in an object."""
        return {short_name(name, key): key for key in self.options if key.startswith(OBJECTS[name])}

    def own_values(self, path: str, members: Members) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values that an object has for variables, by key: as given, and read.

        Args:
            members: of the object. Some values may stand in objects of their own; see OBJECTS.
        """
        given = {key: members[key] for key in members if key in self.options}
        places = {key: f"{path}.{key}" for key in given}
        for name in (each for each in self.objects if each in members):
            self._read_object(f"{path}.{name}", members[name], self._names_in(name), given, places)
        return given, {key: self.option(places[key], key, value) for key, value in given.items()}

    def _read_object(
        self, path: str, nested: Any, names: Mapping[str, str], given: dict[str, Any], places: dict[str, str]
    ) -> None:
        """Add the values of a nested object."""
        if not isinstance(nested, Members):
            self.report(path, shown(nested), "is not an object", f"an object with {', '.join(names)}")
            return
        self.check_keys(path, nested, *names)
        for name, key in ((name, names[name]) for name in nested if name in names):
            if key in given:
                self.report(f"{path}.{name}", shown(nested[name]), f"is set, and so is {key}", "one of the two")
            given[key], places[key] = nested[name], f"{path}.{name}"

    def option(self, path: str, key: str, value: Any) -> Any:
        """A value, read like the text of a variable: 5 is "5", true is "true"."""
        text = _as_text(value, is_list=self.options[key].is_list)
        try:
            if not isinstance(text, str):
                raise Invalid("is neither text, a number, true nor false", "what the variable of that name takes")
            return self.options[key].parse(text)
        except Invalid as error:
            self.report(path, shown(value), error.reason, error.allowed)
        except ConfigurationError as error:
            for problem in error.problems:
                self.report(f"{path}{problem.variable}", problem.given, problem.reason, problem.allowed)
        return None

    def check_keys(self, path: str, members: Members, *known: str, shown_as: str = "") -> None:
        """Report unknown and repeated keys.

        Args:
            shown_as: description of the known keys; "" to list the keys.
        """
        self.check_repeated(path, members)
        for key in (key for key in members if key not in known):
            meant = difflib.get_close_matches(key, known, n=1, cutoff=_CLOSE) if shown_as else []
            hint = f" (did you mean {meant[0]}?)" if meant else ""
            given = shown(members[key], secret=isinstance(members[key], str))  # an unknown key may hold a secret
            self.report(path + member(key), given, f"is unknown{hint}", shown_as or ", ".join(known))

    def check_repeated(self, path: str, members: Members) -> None:
        """Report repeated keys."""
        for key in members.repeated:
            self.report(path + member(key), "", "is given more than once", "each name once")

    def report(self, path: str, given: str, reason: str, allowed: str) -> None:
        """Add a problem; see Problem."""
        self.problems.append(Problem(path, given, reason, allowed))


def _as_text(value: Any, *, is_list: bool) -> Any:
    """The text of a JSON value; a value that has no text, unchanged."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if is_list and isinstance(value, list) and all(type(each) in (str, int) and "," not in str(each) for each in value):
        return ",".join(map(str, value))
    return value


def short_name(name: str, key: str) -> str:
    """The name in an object of a service or a route, for a key of the service or the route.

    Args:
        name: of the object.

    >>> short_name("cache", "cacheMaxBodyBytes"), short_name("cache", "cacheDefaultTtlMs")
    ('maxBodyBytes', 'ttlMs')
    >>> short_name("tls", "upstreamTlsServerName")
    'serverName'
    """
    short = key.removeprefix(OBJECTS[name])
    return _SHORTER.get(key, short[:1].lower() + short[1:])


def member(key: str) -> str:
    """The path of a member, behind the path of its object."""
    return f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{shown(key)}]"
