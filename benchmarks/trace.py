"""The calls of a proxied GET in the gateway's own code, in order: python -m benchmarks.trace

The gateway runs in this process with its default settings, the access log included. A client and an upstream keep their
connections. The first requests warm caches; then a profiler hook records RECORDED requests. The most frequent sequence
of calls is shown, because now and then a request also pays for work that is due once per second. A call is a frame of
the package `tornado_gateway`; calls into Tornado, the event loop and C extensions do not count. Indentation shows which
call made which. A phase begins at the first call that matches its pattern.
"""

import argparse
import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

from tornado_gateway.app import App
from tornado_gateway.config.load import load_settings

PACKAGE = "tornado_gateway"
WARMING = 200  # requests before the recorded ones
RECORDED = 25
HOST = "127.0.0.1"

REQUEST = (
    b"GET /api/svc/small HTTP/1.1\r\nHost: gateway.example\r\nAccept: application/json, text/plain, */*\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n"
    b"Cookie: session=9f86d081884c7d65; theme=dark\r\nReferer: http://localhost/app\r\nX-Client-Version: 4.2.1\r\n"
    b"Sec-Fetch-Mode: cors\r\n\r\n"
)
BODY = b'{"id":17,"name":"Grace Hopper","email":"grace@example.org","roles":["admin"],"active":true}'
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Tue, 01 Dec 2026 11:00:00 GMT\r\nContent-Type: application/json\r\n"
    b'Content-Length: %d\r\nConnection: keep-alive\r\nCache-Control: no-store\r\nETag: "5f2b-17"\r\nVary: Accept\r\n'
    b"X-Response-Time: 3ms\r\nStrict-Transport-Security: max-age=31536000\r\n\r\n%b" % (len(BODY), BODY)
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call.

    Attributes:
        depth: calls of the package that were in progress, 0 for a callback of the event loop.
        module: path of the file below the package, without ".py".
        function: qualified name.
    """

    depth: int
    module: str
    function: str


# The phases of a request, in order, each with the pattern of "module function" at which it begins.
PHASES = (
    ("read the request's head", r"wire/server/connection "),
    ("route and admit", r"handlers/"),
    ("choose an endpoint", r"policy/upstream/service \w+\.lease"),
    ("send the request", r"wire/client/client "),
    ("read the response's head", r"wire/client/connection \w+\.data_received"),
    ("judge the answer and pass its head on", r"handlers/"),
    ("pass the body on", r"wire/client/connection \w+\._read_body"),
    ("settle and log", r"handlers/\w+ \w+\.on_end"),
)


class Recorder:
    """A profiler hook that keeps the calls of the package's own frames."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._depth = 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event not in ("call", "return"):
            return
        _, found, path = frame.f_code.co_filename.rpartition(f"{PACKAGE}{os.sep}")
        if not found:
            return
        if event == "call":
            self.calls.append(Call(self._depth, path.removesuffix(".py"), frame.f_code.co_qualname))
            self._depth += 1
        else:
            self._depth = max(0, self._depth - 1)


def phases(calls: Sequence[Call], table: Sequence[tuple[str, str]] = PHASES) -> list[tuple[str, list[Call]]]:
    """Cut calls into phases. A phase whose pattern matches no later call is left out."""
    found: list[tuple[str, list[Call]]] = []
    waiting = list(table)
    for place, call in enumerate(calls):
        while waiting and _is_absent(waiting[0][1], calls[place:]):
            waiting.pop(0)
        if waiting and re.match(waiting[0][1], f"{call.module} {call.function}"):
            found.append((waiting.pop(0)[0], []))
        if not found:
            found.append(("before", []))
        found[-1][1].append(call)
    return found


def _is_absent(pattern: str, calls: Sequence[Call]) -> bool:
    return not any(re.match(pattern, f"{call.module} {call.function}") for call in calls)


def text(calls: Sequence[Call]) -> str:
    """The trace for a terminal."""
    lines = []
    for name, members in phases(calls):
        lines.append(f"{name} ({len(members)})")
        lines += [f"  {'  ' * call.depth}{call.function}  [{call.module}]" for call in members]
    return "\n".join([*lines, "", summary(calls)])


def markdown(calls: Sequence[Call]) -> str:
    """The trace for a document: a heading and a block of code for each phase."""
    parts = [summary(calls)]
    for name, members in phases(calls):
        lines = [f"{'  ' * call.depth}{call.module}: {call.function}" for call in members]
        parts.append(f"**{name[0].upper()}{name[1:]}** ({len(members)} calls)\n\n```\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts)


def in_document(document: str, calls: Sequence[Call]) -> str:
    """The document with the trace between the marks <!-- trace --> and <!-- /trace -->.

    Raises:
        ValueError: the document has no such marks.
    """
    before, _, after = re.split(r"(?<=<!-- trace -->\n)(.*)(?=<!-- /trace -->)", document, flags=re.DOTALL)
    return f"{before}{markdown(calls)}\n{after}"


def summary(calls: Sequence[Call]) -> str:
    deepest = max((call.depth + 1 for call in calls), default=0)
    modules = len({call.module for call in calls})
    return f"{len(calls)} calls of {modules} modules, at most {deepest} deep."


class _Upstream(asyncio.Protocol):
    """Answers each piece of data with a response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, _data: bytes) -> None:
        self._transport.write(RESPONSE)


async def record() -> list[Call]:
    """Run a gateway, and record the most frequent sequence of calls of a request."""
    upstream = await asyncio.get_running_loop().create_server(_Upstream, HOST, 0)
    url = f"http://{HOST}:{upstream.sockets[0].getsockname()[1]}"
    app = App(load_settings({"HOST": HOST, "PORT": "0", "UPSTREAMS": json.dumps({"svc": [url]})}))
    ((_, port),) = await app.start()
    reader, writer = await asyncio.open_connection(HOST, port)
    recorded: Counter[tuple[Call, ...]] = Counter()
    try:
        for turn in range(WARMING + RECORDED):
            recorder = Recorder()
            sys.setprofile(recorder if turn >= WARMING else None)
            writer.write(REQUEST)
            await reader.readuntil(BODY)
            sys.setprofile(None)
            recorded[tuple(recorder.calls)] += turn >= WARMING
    finally:
        sys.setprofile(None)
        writer.close()
        await app.close()
        upstream.close()
    ((calls, _),) = recorded.most_common(1)
    return list(calls)


@contextmanager
def _without_output() -> Iterator[None]:
    """Discard standard output during the with block."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def run() -> list[Call]:
    """Record a request, on a new event loop."""
    with _without_output():
        return asyncio.run(record())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print the trace as Markdown")
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the trace between the marks of a document")
    options = parser.parse_args()
    calls = run()
    if options.document:
        document = options.document.read_text(encoding="utf-8")
        options.document.write_text(in_document(document, calls), encoding="utf-8")
    else:
        print(markdown(calls) if options.markdown else text(calls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
