"""An Answerer that asks no endpoint, as a cache would: no journey needs a lease or a connection to an upstream."""

import math
from typing import cast

import pytest

from tests.conftest import Serve
from tests.support.endpoints import service_of
from tests.support.journeys import Start, ask, capture, only_line
from tests.support.sockets import echo, eventually, get
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.answerer import Answerer, AnswerReceiver, Delegating
from tornado_gateway.handlers.attempts import Attempts
from tornado_gateway.handlers.http_forwarding import HttpForwarding
from tornado_gateway.policy.upstream.endpoint import CLIENT_GONE, SUCCESS, Endpoint, Kind, Outcome
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.receivers import BodyReceiver
from tornado_gateway.wire.http1 import parse_response

PATH = b"/api/svc/x"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Remembered:
    """An Answerer with an answer in memory, and the source of its body.

    Args:
        answer: the head and the body; no head for an answer that never comes.
    """

    endpoint: Endpoint | None = None
    attempt_count = 0
    may_replace_stream = is_held = False
    is_blocked = True
    min_rate = 0.0
    heard_at = -math.inf

    def __init__(self, receiver: AnswerReceiver, answer: tuple[bytes, bytes]) -> None:
        self._receiver, self._answer = receiver, answer
        self.body_receiver: BodyReceiver | None = None
        self.ends: list[str | Outcome] = []

    def begin(self) -> None:
        head, body = self._answer
        if not head:
            return
        self.body_receiver = self._receiver.on_head(parse_response(head, b"GET"), self)
        if self.body_receiver:
            self.body_receiver.on_chunk(body)
            self.body_receiver.on_end([])

    def abort(self) -> None:
        self.ends.append("aborted")

    def close(self, outcome: Outcome, now: float) -> None:
        self.ends.append(outcome)

    def becomes(self, kind: Kind) -> None:
        self.kind = kind

    def replace_stream(self) -> bool:
        return False

    def hand_to(self, receiver: BodyReceiver) -> None:
        self.body_receiver = receiver

    def allow(self, seconds: float) -> None:
        pass

    def forget_fields(self) -> None:
        pass


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> list[Remembered]:
    """The Answerers of the requests that say X-Remembered; all other requests go to their endpoints."""
    made: list[Remembered] = []
    answers = {b"whole": (WHOLE, b"hello"), b"stream": (STREAM, b"data: a\n\n"), b"never": (b"", b"")}

    def answerer_of(forwarding: HttpForwarding, admitted: Admitted[Service], *_: object) -> Answerer:
        wanted = next(
            (name for name in answers if b"X-Remembered: %b\r\n" % name in forwarding._client.head.block), None
        )
        if wanted is None:
            return Attempts(forwarding._gateway, admitted.found, forwarding, forwarding)
        made.append(Remembered(forwarding, answers[wanted]))
        return made[-1]

    monkeypatch.setattr(HttpForwarding, "_answerer_of", answerer_of)
    return made


@pytest.mark.gen_test
async def test_an_answer_can_come_without_an_endpoint(
    serve: Serve, upstream: Start, remembered: list[Remembered]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, STICKY="redistribute")
    lines = capture(running)
    answer = await ask(running, get(PATH, b"X-Remembered: whole"))
    assert (answer.status, answer.get(b"content-type"), answer.body) == (200, b"text/plain", b"hello")
    assert answer.get(b"set-cookie") is None  # there is no endpoint that the client could be bound to
    line = await only_line(lines)
    assert (line["status"], line["endpoint"], line["attempts"], line["reason"]) == (200, "", 0, "")
    assert (remembered[0].ends, up.accepted, service_of(running).requests) == ([SUCCESS], 0, 0)
    assert (await ask(running, get(PATH))).body == b"ok"  # the endpoint's


@pytest.mark.gen_test
async def test_a_stream_can_come_without_an_endpoint(
    serve: Serve, upstream: Start, remembered: list[Remembered]
) -> None:
    up = upstream(echo)
    running = await serve({"svc": [up.url]}, SSE_PEEK_MS="1000")
    answer = await ask(running, get(PATH, b"X-Remembered: stream"))
    assert (answer.status, answer.body, answer.complete) == (200, b"data: a\n\n", True)
    assert (remembered[0].kind, remembered[0].ends, up.accepted) == (Kind.SSE, [SUCCESS], 0)
    assert not running.app.gateway.streams.open


@pytest.mark.gen_test
async def test_an_answer_that_has_not_come_when_the_client_leaves_is_aborted_and_closed(
    serve: Serve, upstream: Start, remembered: list[Remembered]
) -> None:
    running = await serve({"svc": [upstream(echo).url]})
    client = await running.client()
    await client.send(get(PATH, b"X-Remembered: never"))
    await eventually(lambda: remembered)
    client.close()
    await eventually(lambda: remembered[0].ends)
    assert remembered[0].ends == ["aborted", CLIENT_GONE]


def test_what_another_answerer_carries_out_is_nothing_while_there_is_no_other() -> None:
    class Waiting(Delegating):
        answerer: Answerer | None = None

    waits = Waiting()
    waits.becomes(Kind.SSE)
    assert (waits.endpoint, waits.may_replace_stream, waits.replace_stream()) == (None, False, False)
    assert (waits.is_blocked, waits.is_held) == (False, False)
    other = Remembered(cast(AnswerReceiver, None), (WHOLE, b"hello"))
    other.is_held = other.may_replace_stream = True
    waits.answerer = other
    waits.becomes(Kind.SSE)
    assert (other.kind, waits.endpoint, waits.replace_stream()) == (Kind.SSE, None, False)
    assert (waits.is_blocked, waits.is_held, waits.may_replace_stream) == (True, True, True)
