"""LISTEN: what is read, and how mistakes are told."""

import json

import pytest

from tornado_gateway.config.listeners import listeners_text, read_listeners
from tornado_gateway.config.problems import ConfigurationError, Invalid
from tornado_gateway.config.settings import ListenerSpec

GOOD = [
    ({"address": "0.0.0.0:8443", "tls": True}, ListenerSpec(host="0.0.0.0", port=8443, tls=True)),
    ({"address": "[::1]:80", "proxyProtocol": True}, ListenerSpec(host="::1", port=80, proxied=True)),
    ({"address": "*:80"}, ListenerSpec(host="*", port=80)),
    ({"unix": "/run/gateway.sock", "mode": "0600"}, ListenerSpec(path="/run/gateway.sock", mode=0o600)),
    ({"unix": "/run/gateway.sock", "mode": "0660"}, ListenerSpec(path="/run/gateway.sock")),
]

WRONG = [
    (["x"], "[0]", "is not an object"),
    ([{}], "[0]", "needs address or unix, and not both"),
    ([{"address": "a:1", "unix": "/a"}], "[0]", "needs address or unix, and not both"),
    ([{"address": "a"}], "[0].address", "is not an address to listen on"),
    ([{"address": "a:0"}], "[0].address", "is not an address to listen on"),
    ([{"address": "a:65536"}], "[0].address", "is not an address to listen on"),
    ([{"address": "a b:80"}], "[0].address", "is not an address to listen on"),
    ([{"address": 80}], "[0].address", "is not an address to listen on"),
    ([{"address": "a:80", "mode": "0600"}], "[0].mode", "is for unix alone"),
    ([{"address": "a:80", "tls": "yes"}], "[0].tls", "is neither true nor false"),
    ([{"unix": "relative"}], "[0].unix", "is no path of a socket"),
    ([{"unix": 1}], "[0].unix", "is no path of a socket"),
    ([{"unix": "/a", "mode": 600}], "[0].mode", "is no mode of a file"),
    ([{"unix": "/a", "mode": "0888"}], "[0].mode", "is no mode of a file"),
    ([{"unix": "/a", "speed": 1}], "[0].speed", "is unknown"),
    ([{"unix": "/a"}, {"unix": "/a"}], "[1]", "is the same as [0]"),
]


@pytest.mark.parametrize(("given", "wanted"), GOOD, ids=range(len(GOOD)))
def test_a_listener_is_read_and_written(given: dict[str, object], wanted: ListenerSpec) -> None:
    assert read_listeners(json.dumps([given])) == (wanted,)
    assert read_listeners(listeners_text([wanted])) == (wanted,)


@pytest.mark.parametrize(("given", "place", "reason"), WRONG, ids=range(len(WRONG)))
def test_a_mistake_is_told_with_its_place(given: list[object], place: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as failed:
        read_listeners(json.dumps(given))
    assert (place, reason) in {(each.variable, each.reason) for each in failed.value.problems}


@pytest.mark.parametrize("text", ["[]", "{}", "8080"])
def test_something_else_than_listeners_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not an array with listeners"):
        read_listeners(text)
    assert listeners_text(()) == ""
