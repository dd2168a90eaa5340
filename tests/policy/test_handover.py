"""What is said between a process that listens and its successor, and what systemd says."""

import pytest

from tornado_gateway.policy.handover import Offer, Place, Role, activated, line, read, taken

OFFER = Offer(7, (Place(Role.PUBLIC, "*", 80), Place(Role.CONTROL, "/run/x", None, is_activated=True)), {"a": "b"})


def test_an_offer_is_understood() -> None:
    assert Offer.read(OFFER.line()) == OFFER


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\xff\n", b"[]\n", b"{}\n", b'{"version": 2, "pid": 1, "places": [], "secrets": {}}\n',
        b'{"version": 1, "pid": 1, "places": [["nobody", "", 1]], "secrets": {}}\n',
        b'{"version": 1, "pid": 1, "places": [[]], "secrets": {}}\n',
        b'{"version": 1, "pid": 1, "places": [], "secrets": []}\n',
    ],
)  # fmt: skip
def test_what_is_no_offer_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError):
        Offer.read(said)


@pytest.mark.parametrize(
    "said", [b"\n", b"7\n", b"{}\n", b'{"taken": 1}\n', b'{"taken": [2]}\n', b'{"taken": ["0"]}\n']
)
def test_what_names_no_places_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError):
        taken(said, 2)


def test_a_message_is_one_line() -> None:
    said = line({"a": "1\n2", "b": "ü"})
    assert (said.count(b"\n"), read(said)) == (1, {"a": "1\n2", "b": "ü"})


@pytest.mark.parametrize(
    ("variables", "roles"),
    [
        ({}, []),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, []),  # of another process, which has left its environment here
        ({"LISTEN_FDS": "1"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, [Role.PUBLIC, Role.PUBLIC]),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "operators:gateway.socket"}, [
            Role.OPERATORS, Role.PUBLIC,
        ]),
    ],
)  # fmt: skip
def test_systemd_names_its_sockets(variables: dict[str, str], roles: list[Role]) -> None:
    assert list(activated(variables, 7)) == roles


@pytest.mark.parametrize(
    "variables", [{"LISTEN_FDS": "two"}, {}, {"LISTEN_FDS": "²"}, {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}]
)
def test_what_systemd_would_not_say_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="LISTEN_FD"):
        activated({"LISTEN_PID": "7"} | variables, 7)
