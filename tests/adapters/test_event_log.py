"""The events of the gateway's own log: short, printable, bounded, and without credentials."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tornado_gateway.adapters.event_log import LOGGER, LONGEST, WAITING, EventLog

log = logging.getLogger(f"{LOGGER}.audit")


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[EventLog]:
    caplog.set_level(logging.DEBUG, LOGGER)
    found = EventLog()
    found.open()
    yield found
    found.close()


def test_lines_are_events_in_their_order(events: EventLog) -> None:
    log.debug("not told")
    log.info("POST %s by %s", "/admin/login", "ada")
    log.warning("Redis is away")
    log.error("broken")
    logging.getLogger("tornado").error("not the gateway's")
    told = events.take()
    assert [(each.level, each.text) for each in told] == [
        ("note", "POST /admin/login by ada"),
        ("warning", "Redis is away"),
        ("bad", "broken"),
    ]
    assert told[0].at <= told[2].at
    assert events.take() == []


def test_a_flood_is_bounded_and_counted(events: EventLog) -> None:
    for number in range(WAITING + 7):
        log.warning("line %d", number)
    told = events.take()
    assert [each.text for each in told[:2]] == ["7 more lines are in the gateway's log", "line 7"]
    assert len(told) == WAITING + 1
    log.warning("again")
    assert [each.text for each in events.take()] == ["again"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("a\nb\x00\u202e", "a\\nb\\x00\\u202e"),
        ("Bearer 0123456789abcdef0123", "Bearer ***"),
        ("x" * 100_000, "x" * (LONGEST - 1) + "…"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # the page shows texts as texts
    ],
)
def test_hostile_texts_are_harmless(events: EventLog, said: str, told: str) -> None:
    log.warning("%s", said)
    assert [each.text for each in events.take()] == [told]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(), max_size=400))
def test_any_text_is_short_and_printable(events: EventLog, text: str) -> None:
    # Not by the logger: pytest-xdist would send what pytest captures, and cannot send half a surrogate pair.
    events.handle(logging.LogRecord(LOGGER, logging.WARNING, __file__, 1, "%s", (text,), None))
    (told,) = events.take()
    assert told.text.isprintable()
    assert len(told.text) <= LONGEST


def test_a_line_that_cannot_be_made_is_no_event(events: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    events.handle(logging.LogRecord(LOGGER, logging.ERROR, __file__, 1, "%d", ("a",), None))
    assert events.take() == []


def test_nothing_is_collected_after_the_close(events: EventLog) -> None:
    events.close()
    log.warning("late")
    assert events.take() == []
