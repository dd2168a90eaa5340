"""Checks that a server answers correctly before a measurement."""

import http.client
import socket
import ssl
import time

from benchmarks.processes import Child, ChildFailed

HOST = "127.0.0.1"
START_TIMEOUT = 15.0  # seconds; a cold Python with TLS libraries takes two on a slow machine
ANSWER_TIMEOUT = 10.0  # seconds for a whole answer of up to 64 MiB
POLL = 0.05  # seconds


def free_port() -> int:
    """A free TCP port on loopback."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_served(child: Child, port: int, path: str, body_bytes: int, *, tls: bool = False) -> None:
    """Wait until a GET of `path` is answered by 200 with a body of `body_bytes`.

    Called before every measurement: a proxy that answers an error or half of the body would look cheap.

    Args:
        tls: whether to ask over TLS, of whatever certificate.

    Raises:
        ChildFailed: the child ended, or gave no such answer within START_TIMEOUT.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        seen = _look(_connection(port, tls=tls), path, body_bytes)
        if not seen:
            return
        if child.has_ended():
            raise ChildFailed(f"ended instead of serving; it said: {child.last_words()}")
        if time.monotonic() > deadline:
            raise ChildFailed(f"GET {path}: {seen} after {START_TIMEOUT:.0f} s; it said: {child.last_words()}")
        time.sleep(POLL)


def _connection(port: int, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection(HOST, port, timeout=ANSWER_TIMEOUT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(HOST, port, timeout=ANSWER_TIMEOUT, context=context)


def _look(connection: http.client.HTTPConnection, path: str, body_bytes: int) -> str:
    """The fault of the answer to a GET; "" for a correct answer."""
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        length = len(response.read())
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error})"
    finally:
        connection.close()
    if response.status != http.client.OK:
        return f"status {response.status}"
    return "" if length == body_bytes else f"a body of {length} bytes, not {body_bytes}"
