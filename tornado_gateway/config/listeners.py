"""Parses the listeners of LISTEN from JSON, and reports all problems at once.

A listener is an object with "address", a host and a port, or with "unix", the path of a socket, which may have "mode".
Each may have "tls" and "proxyProtocol".
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tornado_gateway.config.documents import DocumentReader, Members, parse_json
from tornado_gateway.config.parsers import EVERY_ADDRESS, hosts, socket_path
from tornado_gateway.config.problems import ConfigurationError, Invalid, shown
from tornado_gateway.config.settings import DEFAULT_MODE, ListenerSpec

ARRAY_OF_LISTENERS = 'a JSON array of listeners: [{"address": "0.0.0.0:8443", "tls": true}]'
_KEYS = ("address", "unix", "mode", "tls", "proxyProtocol")
_ADDRESS = "a host and a port of 1 to 65535, such as 0.0.0.0:8443, [::1]:8080 or *:8080"
_MODE = 'permissions in octal digits, such as "0660"'
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")
_PERMISSIONS = re.compile(r"0?[0-7]{3}")


def read_listeners(text: str) -> tuple[ListenerSpec, ...]:
    """Listeners in the order given.

    Raises:
        Invalid: the text is not a JSON array, or an empty one.
        ConfigurationError: with a problem for each wrong part.
    """
    document = parse_json(text, ARRAY_OF_LISTENERS)
    if not isinstance(document, list) or not document:
        raise Invalid("is not an array with listeners", ARRAY_OF_LISTENERS)
    reader = _ListenersReader({})
    found = tuple(reader.listener(f"[{index}]", item) for index, item in enumerate(document))
    reader.check_places(found)
    if reader.problems:
        raise ConfigurationError(tuple(reader.problems))
    return found


def listeners_text(listeners: Iterable[ListenerSpec]) -> str:
    """Listeners as read_listeners() reads these; "" for none."""
    shown_as = [_shown(each) for each in listeners]
    return json.dumps(shown_as) if shown_as else ""


def _shown(listener: ListenerSpec) -> dict[str, object]:
    said: dict[str, object] = {"unix": listener.path} if listener.path else {"address": listener.address}
    said |= {"mode": f"{listener.mode:04o}"} if listener.mode != DEFAULT_MODE else {}
    said |= {"tls": True} if listener.tls else {}
    return said | ({"proxyProtocol": True} if listener.proxied else {})


class _ListenersReader(DocumentReader):
    """Reads listeners."""

    def listener(self, path: str, value: Any) -> ListenerSpec:
        if not isinstance(value, Members):
            self.report(path, shown(value), "is not an object", ", ".join(_KEYS))
            return ListenerSpec()
        self.check_keys(path, value, *_KEYS)
        if ("address" in value) is ("unix" in value):
            self.report(path, "", "needs address or unix, and not both", "one of the two")
        where = self._unix(path, value) if "unix" in value else self._tcp(path, value)
        return replace(where, tls=self._flag(path, "tls", value), proxied=self._flag(path, "proxyProtocol", value))

    def _unix(self, path: str, value: Members) -> ListenerSpec:
        return ListenerSpec(path=self._path(f"{path}.unix", value["unix"]), mode=self._mode(f"{path}.mode", value))

    def _tcp(self, path: str, value: Members) -> ListenerSpec:
        if "mode" in value:
            self.report(f"{path}.mode", shown(value["mode"]), "is for unix alone", "no mode")
        host, port = self._address(f"{path}.address", value["address"]) if "address" in value else ("", 0)
        return ListenerSpec(host=host, port=port)

    def check_places(self, listeners: Iterable[ListenerSpec]) -> None:
        """Report a place that is given twice."""
        first: dict[str, int] = {}
        for index, each in enumerate(listeners):
            if first.setdefault(each.place, index) != index and each.place:
                self.report(f"[{index}]", shown(each.place), f"is the same as [{first[each.place]}]", "each place once")

    def _flag(self, path: str, key: str, value: Members) -> bool:
        given = value.get(key, False)
        if not isinstance(given, bool):
            self.report(f"{path}.{key}", shown(given), "is neither true nor false", "true or false")
        return given is True

    def _path(self, path: str, value: Any) -> str:
        try:
            if not isinstance(value, str) or not value:
                raise Invalid("is no path of a socket", "an absolute path")
            return socket_path.parse(value)
        except Invalid as error:
            self.report(path, shown(value), error.reason, error.allowed)
            return ""

    def _mode(self, path: str, value: Members) -> int:
        given = value.get("mode", f"{DEFAULT_MODE:04o}")
        if isinstance(given, str) and _PERMISSIONS.fullmatch(given):
            return int(given, 8)
        self.report(path, shown(given), "is no mode of a file", _MODE)
        return DEFAULT_MODE

    def _address(self, path: str, value: Any) -> tuple[str, int]:
        found = _HOST_AND_PORT.fullmatch(value) if isinstance(value, str) else None
        if found and 0 < int(found[3]) <= 65535 and _is_host(found[1] or found[2]):
            return found[1] or found[2], int(found[3])
        self.report(path, shown(value), "is not an address to listen on", _ADDRESS)
        return "", 0


def _is_host(text: str) -> bool:
    try:
        return text == EVERY_ADDRESS or hosts.parse(text) == (text,)
    except Invalid:
        return False
