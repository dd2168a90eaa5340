"""The process's log: levels by the names they have always had, one line per record."""

import errno
import io
import json
import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornado_gateway.adapters.line_writer import LineWriter
from tornado_gateway.adapters.logs import (
    LEVELS,
    TRACE,
    JsonFormatter,
    LogConfig,
    TextFormatter,
    WriterHandler,
    configure,
    is_news,
)


def make(level: int, message: str, *, failed: bool = False) -> logging.LogRecord:
    exc_info = None
    if failed:
        try:
            raise ValueError("inner")
        except ValueError:
            exc_info = sys.exc_info()
    return logging.LogRecord("tornado_gateway", level, __file__, 1, message, None, exc_info)


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.CRITICAL, "fatal"),
        (logging.WARNING, "warn"),
        (logging.INFO, "info"),
        (TRACE, "trace"),
        (25, "level 25"),
    ],
)
def test_json_lines_use_the_names_of_log_level(level: int, name: str) -> None:
    assert json.loads(JsonFormatter().format(make(level, "x")))["level"] == name


def test_a_traceback_stays_inside_its_line() -> None:
    line = JsonFormatter().format(make(logging.ERROR, "broken\nin two", failed=True))
    assert "\n" not in line
    assert "ValueError: inner" in json.loads(line)["traceback"]


@pytest.mark.parametrize(
    ("logger", "error", "passes"),
    [
        ("asyncio", OSError(errno.EMFILE, "Too many open files"), False),
        ("asyncio", OSError(errno.ENOBUFS, "No buffer space available"), True),
        ("asyncio", ValueError("a task has failed"), True),
        ("tornado_gateway", OSError(errno.EMFILE, "Too many open files"), True),
    ],
)
def test_what_asyncio_says_of_each_connection_without_a_descriptor_is_left_out(
    logger: str, error: Exception, passes: bool
) -> None:
    record = logging.LogRecord(logger, logging.ERROR, __file__, 1, "x", None, (type(error), error, None))
    assert is_news(record) is passes
    assert is_news(make(logging.INFO, "x"))


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize("secret", ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl", "Bearer 0123456789abcdef0123"])
def test_no_line_has_a_credential(formatter: logging.Formatter, secret: str) -> None:
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        failed = sys.exc_info()
    said = formatter.format(logging.LogRecord("a", logging.ERROR, __file__, 1, f"failed: {secret}", None, failed))
    assert secret not in said
    assert said.count("***") == 2


def test_text_lines_are_for_people() -> None:
    assert TextFormatter().format(make(logging.INFO, "hello")).endswith("INFO hello")


@settings(deadline=None)
@given(st.text(st.characters()))
def test_a_record_is_one_line_without_control_characters(text: str) -> None:
    """Surrogates are among the characters: so Python decodes what is no UTF-8."""
    line = TextFormatter().format(make(logging.WARNING, text))
    assert line.isprintable()
    said = JsonFormatter().format(make(logging.WARNING, text))
    assert said.isprintable()
    assert said.isascii()
    assert json.loads(said)["message"] == text


@pytest.mark.parametrize(
    "hostile", ["a\n12:00:00 INFO forged", "\x1b[2J", "a\rb", "\x9b31m", "\u202e", "a\u2028b", "\x00"]
)
def test_an_error_that_quotes_what_was_sent_forges_no_line(hostile: str) -> None:
    record = make(logging.ERROR, "broken")
    try:
        raise ValueError(hostile)
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *others = TextFormatter().format(record).split("\n")
    assert first.endswith(" ERROR broken")
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert others[0] == "    Traceback (most recent call last):"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", [True, False])
def test_records_below_the_level_are_not_written(level: str, text: bool, capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure(LogConfig(level, "text" if text else "json"))
        for name, number in LEVELS.items():
            if name != "silent":
                logging.getLogger("tornado_gateway").log(number, "at-%s", name)
        logging.getLogger().handlers[0].close()
        written = capfd.readouterr().err
    finally:
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger().setLevel(before[1])
    seen = {name for name in LEVELS if f"at-{name}" in written}
    assert seen == {name for name, number in LEVELS.items() if number >= LEVELS[level] and name != "silent"}


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("not to be shown")


def test_a_record_that_cannot_be_shown_costs_its_line_only(capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.BytesIO()
    handler = WriterHandler(LineWriter(stream, "log"), "ascii")
    handler.handle(logging.LogRecord("a", logging.ERROR, __file__, 1, "%s", (Unshowable(),), None))
    handler.handle(make(logging.ERROR, "caf\xe9"))
    handler.close()
    assert stream.getvalue() == b"caf\\xe9\n"
    assert "not to be shown" in capfd.readouterr().err
