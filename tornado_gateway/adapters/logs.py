"""The process's own log: stdlib logging, one JSON object per line or text for a terminal."""

import json
import logging
import sys
from datetime import UTC, datetime

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
_NAMES = {value: name for name, value in LEVELS.items()}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; a traceback stays inside its line."""

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
        return json.dumps(said)


class TextFormatter(logging.Formatter):
    """A record for a person."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")


def configure(level: str, *, text: bool) -> None:
    """Send all logging to stderr at a level from LEVELS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logging.addLevelName(TRACE, "TRACE")
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
