"""The watchdog: a loop that is blocked is named while it is blocked, once, with the code that blocks it."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from tornado_gateway.adapters.logs import TextFormatter
from tornado_gateway.upkeep.watchdog import INTERVAL, PATIENCE, Watchdog, traceback_to


class Loop:
    """The clock, and the last sign of life of a loop."""

    def __init__(self) -> None:
        self.now = self.alive_at = 100.0
        self.watchdog = Watchdog(lambda: self.alive_at, lambda: self.now)

    def stand_still(self, seconds: float) -> None:
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            self.watchdog.look()

    def turn(self, seconds: float) -> None:
        for _ in range(round(seconds / INTERVAL)):
            self.now = self.alive_at = self.now + INTERVAL
            self.watchdog.look()


@pytest.fixture
def loop() -> Loop:
    return Loop()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tornado_gateway"]


def test_a_loop_that_turns_is_not_mentioned(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.turn(60)
    loop.stand_still(PATIENCE - INTERVAL)
    loop.turn(1)
    assert told(caplog) == []


def test_each_block_is_told_once_while_it_lasts(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.stand_still(PATIENCE)
    assert told(caplog) == ["the event loop is blocked for 1.0 s"]
    loop.stand_still(30)
    assert len(told(caplog)) == 1
    loop.turn(1)
    loop.stand_still(5)
    assert len(told(caplog)) == 2


def test_a_process_that_was_stopped_as_a_whole_is_not_blamed(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.now += 3600
    loop.watchdog.look()
    loop.turn(1)
    assert told(caplog) == []


def test_a_thread_that_has_ended_has_no_stack() -> None:
    assert traceback_to(None) is None


def busy_wait(until: threading.Event) -> None:
    while not until.is_set():
        time.sleep(0.01)


class Seen(logging.Handler):
    """Keeps records, and tells the blocked code to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(TextFormatter().format(record))
        self.came.set()


@pytest.fixture
def seen() -> Iterator[Seen]:
    log, handler = logging.getLogger("tornado_gateway"), Seen()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_the_code_that_blocks_is_named_while_it_blocks(seen: Seen) -> None:
    began = time.monotonic()
    watchdog = Watchdog(lambda: began, time.monotonic)
    watchdog.start()
    busy_wait(seen.came)  # ends because of the line in the log
    watchdog.stop()
    (text,) = seen.texts
    assert "the event loop is blocked for" in text
    assert "in busy_wait" in text
    assert "this code blocks the event loop" in text


def test_a_watchdog_that_has_stopped_has_no_thread() -> None:
    threads = threading.active_count()
    watchdog = Watchdog(time.monotonic, time.monotonic)
    watchdog.stop()
    watchdog.start()
    assert threading.active_count() == threads + 1
    watchdog.stop()
    watchdog.stop()
    assert "watchdog" not in [each.name for each in threading.enumerate()]
