"""The standard streams, which may be closed at the start, and whose reader may leave at any time.

With `secure()` at the start, `say()` for each line and `settle()` at the end, the streams never change the exit code.
"""

import argparse
import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


def secure() -> None:
    """Open the null device for closed standard streams, so that no socket gets descriptor 0, 1 or 2.

    Characters outside a stream's encoding will be escaped: the value of a variable may be any bytes.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # open() returns the lowest free descriptor
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, stream: TextIO | None = None) -> None:
    """Write a line to a stream, stdout by default; the line is lost if the reader has left."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=stream or sys.stdout, flush=True)


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose help and messages are lost if the reader has left, as in Python 3.11.4 and later."""

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        with contextlib.suppress(BrokenPipeError):
            super()._print_message(message, file)


def settle() -> None:
    """Flush stdout and stderr; replace a stream that cannot be flushed by the null device.

    Python flushes again at exit, and exits with code 120 if a flush fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123  # for its descriptor
                os.dup2(nothing.fileno(), stream.fileno())
