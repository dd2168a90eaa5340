"""The process's log: stdlib logging, as a JSON object per line or as text for a terminal, written by a thread."""

import errno
import json
import logging
import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tornado_gateway.adapters.line_writer import LineWriter
from tornado_gateway.policy.http.redaction import without_credentials

TRACE = 5
OFF = logging.CRITICAL + 1
LEVELS = {
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
    "silent": OFF,
}
WITH_ACCESS = ("info", "debug", "trace")  # levels at which requests are logged
_TOLD = (errno.EMFILE, errno.ENFILE)
_NAMES = {value: name for name, value in LEVELS.items()}


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is logged, and how.

    Attributes:
        level: key of LEVELS.
        format: "json", "text" (for a person), or "auto": text if stdout is a terminal.
        access: whether requests are logged at the levels of WITH_ACCESS.
        openings: whether the beginning of a stream is logged, too.
        slow: seconds from which on a request is slow, and is logged at the level warn, without `access` too; math.inf:
            no request is.
        query: whether the access log shows the query of a target.
        redact: names of query parameters, and of fields of the access log, whose values are hidden.
    """

    level: str = "info"
    format: str = "auto"
    access: bool = True
    openings: bool = False
    slow: float = math.inf
    query: bool = False
    redact: tuple[str, ...] = ()

    @property
    def has_access_log(self) -> bool:
        return self.access and self.level in WITH_ACCESS

    @property
    def has_slow_log(self) -> bool:
        return self.slow < math.inf and self.level in (*WITH_ACCESS, "warn")

    def is_text(self) -> bool:
        return self.format == "text" or (self.format == "auto" and sys.stdout.isatty())


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line: a JSON object, which holds the traceback of an exception as text."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {
            "time": at.replace("+00:00", "Z"),
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return without_credentials(json.dumps(said))


class TextFormatter(logging.Formatter):
    """Formats a record for a person: one line, followed by the indented lines of a traceback.

    Unprintable characters are escaped: an error may quote a client's bytes, and terminals obey control characters.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # the name is logging's
        return without_credentials(printable(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {without_credentials(printable(line))}" for line in lines)


def printable(text: str) -> str:
    """Escape unprintable characters.

    >>> printable("a\\nb\\x1b[31m é")
    'a\\\\nb\\\\x1b[31m é'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record tells something new: asyncio logs each failure of accept(); upkeep/descriptors.py tells once."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name == "asyncio" and isinstance(error, OSError) and error.errno in _TOLD)


class WriterHandler(logging.Handler):
    """Hands lines to a LineWriter: the event loop must not wait for the reader of a log.

    Args:
        encoding: of the lines; characters outside the encoding are escaped.
    """

    def __init__(self, writer: LineWriter, encoding: str) -> None:
        super().__init__()
        self._writer, self._encoding = writer, encoding

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # arguments that do not fit the message, as in logging's handlers
            self.handleError(record)
            return
        self._writer.put(line.encode(self._encoding, "backslashreplace"))

    def close(self) -> None:
        """Wait for the writer. Python calls this method at exit, too."""
        self._writer.close()
        super().close()


def configure(config: LogConfig) -> None:
    """Send all logging to stderr, with the level and format of the configuration."""
    unbuffered = open(sys.stderr.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115  # it stays open
    handler = WriterHandler(LineWriter(unbuffered, "log"), sys.stderr.encoding)
    handler.setFormatter(TextFormatter() if config.is_text() else JsonFormatter())
    logging.addLevelName(TRACE, "TRACE")
    handler.addFilter(is_news)
    logging.basicConfig(level=LEVELS[config.level], handlers=[handler], force=True)


def reconfigure(before: LogConfig, config: LogConfig) -> None:
    """Use another configuration. A level that an operator has set stays, unless the configured level changes."""
    if config.level != before.level:
        set_level(config.level)
    if config.is_text() is not before.is_text():
        for each in logging.getLogger().handlers:
            if isinstance(each, WriterHandler):
                each.setFormatter(TextFormatter() if config.is_text() else JsonFormatter())


def level() -> str:
    """The present level: the key of LEVELS, or of the next quieter level."""
    present = logging.getLogger().getEffectiveLevel()
    return next((name for number, name in sorted(_NAMES.items()) if number >= present), "silent")


def set_level(name: str) -> None:
    """Log from another level on.

    Args:
        name: key of LEVELS.
    """
    logging.getLogger().setLevel(LEVELS[name])


def close() -> None:
    """Wait for the writer, in a process that ends without an exit of Python's."""
    for each in logging.getLogger().handlers:
        each.close()


def forget() -> None:
    """Log no more to the writer of the process that has forked this process. configure() makes another writer."""
    logging.getLogger().handlers.clear()
