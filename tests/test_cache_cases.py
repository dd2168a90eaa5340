"""The cases of tests/support/cache_cases.py: each one from outside, on real sockets."""

import re
import time
from collections import Counter

import pytest

from tests.conftest import Running, Serve
from tests.support.cache_cases import ASKED, CACHED, CHAPTERS, CHECKED, Case, Chapter, Step
from tests.support.caching import age, frozen
from tests.support.journeys import Start
from tests.support.sockets import Client, Message, Peer, get
from tornado_gateway.policy.http.caching.dates import format_date

_DATE = re.compile(rb"(?:DATE|MODIFIED)([+-][0-9]+)")
_CONDITIONS = (b"if-none-match", b"if-modified-since")


class Service:
    """A service that gives the answers of the present step.

    Attributes:
        wall: seconds since 1970 when the present case began.
        step: the present step.
        got: requests in the present step.
        bodies: of the answers in the present case, by number of the step.
    """

    def __init__(self) -> None:
        self.wall, self.step, self.here = time.time() // 1, Step(ASKED), b""
        self.got: list[Message] = []
        self.bodies: dict[int, bytes] = {}
        self.number = self.count = 0

    def bytes_of(self, line: str) -> bytes:
        line = line.replace("HERE", self.here.decode())
        return _DATE.sub(lambda found: format_date(self.wall + int(found[1])), line.encode())

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.got.append(request)
            await peer.send(self.answer(request))

    def answer(self, request: Message) -> bytes:
        step, status = self.step, self.step.status
        self.count += 1
        body = b"answer %d" % self.count if step.content in (None, "first", "again") else (step.content or "").encode()
        lines = [self.bytes_of(each) for each in step.gives]
        if status.startswith("304") and len(self.got) > 1:  # asked again after a 304 that was not believed
            status, body = "200 OK", b"again"
        if status[:3] in ("204", "304"):
            return b"\r\n".join([b"HTTP/1.1 " + status.encode(), *lines, b"", b""])
        if request.method != b"HEAD":
            self.bodies[self.number] = body
        length = b"Content-Length: %d" % len(body if request.method != b"HEAD" else self.bodies.get(0, body))
        head = b"\r\n".join([b"HTTP/1.1 " + status.encode(), *lines, length, b"", b""])
        return head if request.method == b"HEAD" else head + body


def faults(service: Service, step: Step, answer: Message) -> list[str]:
    """What is wrong with the result of a step."""
    found = []
    own = [each for each in step.lines if each.partition(":")[0].lower().encode() in _CONDITIONS]
    condition = not own and any(each.get(name) for each in service.got for name in _CONDITIONS)
    way = (CHECKED if condition or step.wants == CHECKED else ASKED) if service.got else CACHED
    if way != step.wants:
        found.append(f"{way}, not {step.wants}")
    wanted = step.sees or int((step.status if service.got else "200").split()[0])
    if answer.status != wanted and (step.sees or service.got):
        found.append(f"status {answer.status}, not {wanted}")
    found += [f"the client got no {each}" for each in step.shows if not shows(answer, service.bytes_of(each))]
    found += [f"the service got no {each}" for each in step.got if not shows(service.got[0], service.bytes_of(each))]
    body = wanted_body(service, step, answer)
    if body is not None and answer.body != body:
        found.append(f"body {answer.body[:20]!r}, not {body[:20]!r}")
    return found


def wanted_body(service: Service, step: Step, answer: Message) -> bytes | None:
    if step.method == "HEAD":
        return b""
    if step.content == "first":
        return service.bodies[0]
    if step.content is not None:
        return step.content.encode()
    if answer.status in (204, 206, 304, 504):
        return None
    if step.like >= 0:
        return service.bodies[step.like]
    return service.bodies[max(service.bodies)] if service.bodies else None


def shows(message: Message, line: bytes) -> bool:
    name, mark, value = line.partition(b": ")
    return value in message.all(name) if mark else not message.all(name)


async def walk(running: Running, client: Client, service: Service, case: Case, path: bytes) -> list[str]:
    """Go through the steps of a case; the faults."""
    service.wall, service.bodies, service.here = time.time() // 1, {}, path.removeprefix(b"/api/svc")
    found = []
    for number, step in enumerate(case.steps):
        if step.after:
            age(running, step.after)
        service.step, service.got, service.number = step, [], number
        lines = [service.bytes_of(each) for each in step.lines]
        method = step.method.encode()
        request = get(path + step.path.encode(), *lines, method=method, body=step.body.encode())
        answer = await client.ask(request, method)
        found += [f"{case.section}, {case.name}, step {number}: {each}" for each in faults(service, step, answer)]
    return found


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
@pytest.mark.gen_test
async def test_every_case_of_a_chapter_holds(serve: Serve, upstream: Start, chapter: Chapter) -> None:
    service = Service()
    variables = {"CACHE_ENABLED": "true", "CACHE_DEFAULT_TTL_MS": "0", "RETRY_ATTEMPTS": "1", "BREAKER_FAILURES": "0"}
    running = await frozen(serve, {"svc": [upstream(service).url]}, **variables, **chapter.variables)
    client, found = await running.client(), []
    for number, case in enumerate(chapter.cases):
        found += await walk(running, client, service, case, b"/api/svc/%d" % number)
    assert not found, "\n".join(found)


def test_no_case_stands_twice() -> None:
    names = Counter((chapter.name, case.section, case.name) for chapter in CHAPTERS for case in chapter.cases)
    assert [each for each, count in names.items() if count > 1] == []
