"""No test of the demo may write a warning to the terminal of its user."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens to a connection, a demo does not fill its user's terminal."""
    yield
    assert [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []
