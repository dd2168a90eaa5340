"""The connection of `ctl` to a gateway: a private unix socket, or a URL with a token."""

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0  # seconds


class Failed(Exception):
    """The gateway cannot be reached, or has refused. The text is for a person.

    Attributes:
        is_refusal: whether the gateway has answered.
    """

    def __init__(self, text: str, *, is_refusal: bool = False) -> None:
        super().__init__(text)
        self.is_refusal = is_refusal


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway to steer.

    Attributes:
        socket: path of the unix socket; "" for the URL.
        url: of the gateway, without a path.
        token: for the URL; "" for none.
    """

    socket: str = ""
    url: str = ""
    token: str = ""

    def ask(self, path: str, order: dict[str, Any] | None = None, method: str = "") -> Any:
        """The JSON of an answer.

        Args:
            order: the body of a POST; None for a GET.
            method: another method than these two.

        Raises:
            Failed: no answer, or a refusal.
        """
        connection = self._connection()
        try:
            answer = self._answer(connection, path, order, method)
            return json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"{self.place}: {reason_of(error)}") from None
        finally:
            connection.close()

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """The events of a stream: name and JSON, until the stream ends.

        Raises:
            Failed: no answer, a refusal, or an end in the middle.
        """
        connection = self._connection()
        try:
            yield from read_events(self._answer(connection, path))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"{self.place}: {reason_of(error)}") from None
        finally:
            connection.close()

    @property
    def place(self) -> str:
        return self.socket or self.url

    def _connection(self) -> http.client.HTTPConnection:
        if self.socket:
            return _Unix(self.socket)
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.netloc, timeout=TIMEOUT)

    def _answer(
        self, connection: http.client.HTTPConnection, path: str, order: dict[str, Any] | None = None, method: str = ""
    ) -> http.client.HTTPResponse:
        fields = {"Accept": "application/json"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        body = None if order is None else json.dumps(order)
        connection.request(method or ("GET" if body is None else "POST"), path, body, fields)
        answer = connection.getresponse()
        if answer.status not in (200, 201):
            raise Failed(_complaint(answer), is_refusal=True)
        return answer


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """The events in the lines of an event stream (WHATWG HTML §9.2.6), with their data read as JSON."""
    name, data = "message", b""
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode()
        elif field == b"data":
            data += value
        elif not field and data:
            yield name, json.loads(data)
            name, data = "message", b""


def reason_of(error: Exception) -> str:
    """Why an exchange has failed, for a person."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "the answer is not that of a gateway"


def _complaint(answer: http.client.HTTPResponse) -> str:
    """What the gateway says about a refusal."""
    try:
        said = json.loads(answer.read())
        return f"{answer.status}: {said['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status}: {answer.reason}"
