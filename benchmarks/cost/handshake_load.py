"""A load of GETs over TLS 1.3 with a whole handshake for each: wrk would resume the session of its last connection.

    python -m benchmarks.cost.handshake_load '{"port": 8443, "path": "/api/svc/small", ...}'

The attributes of Handshakes are the argument, and those of Report are what is printed, both as JSON.
"""

import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

PATIENCE = 10.0  # seconds for a connection, its handshake and the answer
READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Handshakes:
    """The work.

    Attributes:
        host, port: the proxy.
        path: target of each request.
        fields: lines of header fields.
        connections: number of connections at a time.
        seconds: duration.
    """

    host: str
    port: int
    path: str
    fields: Sequence[str]
    connections: int
    seconds: float


@dataclass(slots=True)
class Report:
    """What was done.

    Attributes:
        requests: number of answers of status 200.
        latencies: seconds from connect() to the end of each of these answers.
        errors: number of other ends.
        first_fault: the first error; "" without an error.
    """

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    first_fault: str = ""

    @property
    def requests(self) -> int:
        return len(self.latencies)


def new_context() -> ssl.SSLContext:
    """A client of TLS 1.3 that trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def request_of(work: Handshakes) -> bytes:
    """The bytes of each request; the proxy closes the connection behind its answer."""
    lines = (f"GET {work.path} HTTP/1.1", f"Host: {work.host}:{work.port}", "Connection: close", *work.fields)
    return "\r\n".join((*lines, "", "")).encode("ascii")


def ask(work: Handshakes, context: ssl.SSLContext, request: bytes) -> None:
    """Connect, ask, and read the answer to its end.

    Raises:
        OSError: no connection, no handshake, or another answer than 200.
    """
    with (
        socket.create_connection((work.host, work.port), PATIENCE) as plain,
        context.wrap_socket(plain, suppress_ragged_eofs=False) as secure,
    ):
        secure.sendall(request)
        answer = b""
        while piece := secure.recv(READ_SIZE):
            answer += piece
        if secure.session_reused or not answer.startswith(b"HTTP/1.1 200 "):
            raise OSError(f"answered {answer[:30]!r}")


def carry_out(work: Handshakes) -> Report:
    """Ask again and again over so many connections at a time. OpenSSL does its work without Python's lock."""
    report, context, request = Report(), new_context(), request_of(work)
    end = time.monotonic() + work.seconds

    def go_on() -> None:
        while (began := time.monotonic()) < end:
            try:
                ask(work, context, request)
            except OSError as error:
                report.errors += 1
                report.first_fault = report.first_fault or str(error)
            else:
                report.latencies.append(time.monotonic() - began)

    threads = [threading.Thread(target=go_on) for _ in range(work.connections)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return report


if __name__ == "__main__":
    print(json.dumps(asdict(carry_out(Handshakes(**json.loads(sys.argv[1]))))))
