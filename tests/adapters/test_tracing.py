"""The queue of spans: the event loop never waits, every span is counted, and losses stand in the log once."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from tests.policy.test_spans import TOLD
from tests.support.sockets import eventually
from tornado_gateway.adapters.tracing import BATCH, MOST_WAITING, Sink, Tracer
from tornado_gateway.policy.spans import Span

pytestmark = pytest.mark.parametrize("io_loop", ["uvloop"], indirect=True)  # the thread sees no event loop

PAIRS = MOST_WAITING // TOLD.count


class ScriptedSink(Sink):
    """Takes spans as a script says.

    Attributes:
        answers: what send() returns or raises; "" behind the end.
        batches: sizes of what was sent.
        gate: send() waits while the gate is shut.
    """

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def send(self, spans: Sequence[Span]) -> str:
        self.batches.append(len(spans))
        self.gate.wait()
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.gate.set()


def tracer_with(sink: Sink) -> Tracer:
    return Tracer(1.0, sink, lambda: b"a" * 32, time.monotonic, time.time)


@pytest.mark.gen_test
async def test_what_waits_is_sent_in_batches_before_the_stop() -> None:
    sink = ScriptedSink()
    tracer = tracer_with(sink)
    for _ in range(BATCH):
        tracer.add(TOLD)
    await tracer.close()
    assert sum(sink.batches) == tracer.exported == BATCH * TOLD.count
    assert max(sink.batches) <= BATCH
    assert (tracer.waiting, tracer.counts) == (0, {"dropped": 0, "exported": 2 * BATCH, "failed": 0})


@pytest.mark.gen_test
async def test_a_batch_that_is_not_full_is_sent_soon() -> None:
    sink = ScriptedSink()
    tracer = tracer_with(sink)
    tracer.add(TOLD)
    await eventually(lambda: tracer.exported == TOLD.count)
    await tracer.close()
    assert sink.batches == [TOLD.count]


@pytest.mark.gen_test
async def test_a_collector_that_hangs_costs_spans_alone_and_each_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    sink = ScriptedSink()
    sink.gate.clear()
    tracer = tracer_with(sink)
    for _ in range(PAIRS + 100):
        tracer.add(TOLD)
    assert (tracer.waiting, tracer.dropped) == (MOST_WAITING, 100 * TOLD.count)
    await eventually(lambda: sink.batches)
    with caplog.at_level(logging.WARNING):
        await tracer.close()  # the sink is told to give up, and opens the gate
    assert f"{MOST_WAITING} spans are lost by the stop" in caplog.text
    await eventually(lambda: tracer.waiting == 0)


@pytest.mark.gen_test
async def test_loss_and_return_stand_in_the_log_once_each(caplog: pytest.LogCaptureFixture) -> None:
    sink = ScriptedSink("refused: 401", ValueError("nonsense"), "refused: 401")
    tracer = tracer_with(sink)
    with caplog.at_level(logging.INFO):
        for sent in range(1, 6):
            for _ in range(BATCH // TOLD.count):
                tracer.add(TOLD)
            await eventually(lambda sent=sent: tracer.exported + tracer.failed == sent * BATCH)
    await tracer.close()
    assert [each.getMessage() for each in caplog.records if "tracing" in each.getMessage()] == [
        "tracing: the collector takes no spans: refused: 401",
        "tracing: the collector takes spans again; 1536 spans are lost",
    ]
    assert tracer.counts == {"dropped": 0, "exported": 2 * BATCH, "failed": 3 * BATCH}


@pytest.mark.gen_test
async def test_a_stop_restores_what_the_process_had() -> None:
    before = sys.getswitchinterval()
    tracer = tracer_with(ScriptedSink())
    assert sys.getswitchinterval() < before
    await tracer.close()
    assert sys.getswitchinterval() == before


@pytest.mark.gen_test
async def test_new_requests_have_a_place_and_a_wall_clock() -> None:
    tracer = tracer_with(ScriptedSink())
    context = tracer.begin(())
    assert (context.is_sampled, context.parent_id, tracer.new_span_id()) == (True, b"", b"a" * 16)
    assert abs(tracer.began + time.monotonic() - time.time()) < 60
    await tracer.close()
    await asyncio.sleep(0)
