"""What a process that listens gives to another process, and how the two name the listening sockets.

    predecessor                                   successor
      listens                                       connects to TAKEOVER_SOCKET
      offer: places, secrets, and the sockets  ──►  makes everything ready on the same sockets
                                               ◄──  ready: the numbers of the places it takes
      accepts no more connections;
      memory: what else the successor needs    ──►  accepts connections
                                               ◄──  done
      drains                                        is the gateway

The kernel queues the connections that come between the two. Until `done` the predecessor can go on as before: whatever
becomes of the successor, somebody accepts what waits in the queue. Each message is a line of JSON.

systemd hands sockets over by numbers and names (sd_listen_fds(3)), with neither addresses nor an answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

VERSION = 1  # of the messages
FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


class Role(Enum):
    """What a listening socket is for. The values are the names of sockets (FileDescriptorName=) in units of systemd."""

    PUBLIC = "public"
    OPERATORS = "operators"
    CONTROL = "control"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True)
class Place:
    """A listening socket, as both processes name the socket.

    Attributes:
        host: as configured: an address, a name, or the path of a unix socket.
        port: as configured; None for a unix socket.
        is_activated: whether systemd has bound the socket, so that no variable names the address.
    """

    role: Role
    host: str
    port: int | None = None
    is_activated: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What a predecessor gives.

    Attributes:
        pid: of the predecessor.
        places: of the sockets that come with the offer, in the same order.
        secrets: values that the predecessor has drawn, by name.
    """

    pid: int
    places: tuple[Place, ...]
    secrets: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> bytes:
        places = [[each.role.value, each.host, each.port, each.is_activated] for each in self.places]
        return line({"version": VERSION, "pid": self.pid, "places": places, "secrets": dict(self.secrets)})

    @classmethod
    def read(cls, said: bytes) -> "Offer":
        """
        Raises:
            ValueError: the line is no offer that this version understands.
        """
        values = read(said)
        if values.get("version") != VERSION:
            raise ValueError(f"messages of version {VERSION} are expected")
        try:
            places = tuple(Place(Role(role), *rest) for role, *rest in values["places"])
            return cls(int(values["pid"]), places, {str(name): str(text) for name, text in values["secrets"].items()})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no offer: {error}") from error


def line(values: Mapping[str, object]) -> bytes:
    """A message."""
    return json.dumps(values).encode("ascii") + b"\n"


def read(said: bytes) -> dict[str, Any]:
    """The values of a message.

    Raises:
        ValueError: the line is no message.
    """
    values = json.loads(said)
    if not isinstance(values, dict):
        raise ValueError("no message")
    return values


def taken(said: bytes, count: int) -> frozenset[int]:
    """The numbers of the places that a successor takes of so many.

    Raises:
        ValueError: the line does not say so.

    >>> sorted(taken(b'{"taken": [0, 2]}', 3))
    [0, 2]
    """
    numbers = read(said).get("taken")
    if not isinstance(numbers, list) or not all(each in range(count) for each in numbers):
        raise ValueError("no numbers of places")
    return frozenset(numbers)


def activated(environ: Mapping[str, str], pid: int) -> Sequence[Role]:
    """The roles of the sockets that systemd has given to the process, from descriptor 3 on; sd_listen_fds(3).

    A socket without the name of another role is for everybody.

    Raises:
        ValueError: the variables contradict each other.

    >>> [each.value for each in activated({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "x:control"}, 7)]
    ['public', 'control']
    >>> activated({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 8)
    []
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    told = environ.get("LISTEN_FDS", "")
    if not (told.isascii() and told.isdigit()):
        raise ValueError(f"LISTEN_FDS is {told!r}, not a number of sockets")
    names = environ["LISTEN_FDNAMES"].split(":") if environ.get("LISTEN_FDNAMES") else [""] * int(told)
    if len(names) != int(told):
        raise ValueError(f"LISTEN_FDNAMES has {len(names)} names for {told} sockets")
    by_name = {each.value: each for each in Role}
    return [by_name.get(name, Role.PUBLIC) for name in names]
