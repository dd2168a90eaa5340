"""The standard streams, which the process that started the gateway may have closed, or may stop reading at any time.

`secure()` at the start, `say()` for each line, `settle()` at the end: then no reader that leaves changes an exit code.
"""

import contextlib
import io
import os
import sys
from typing import TextIO


def secure() -> None:
    """Open the null device in the place of closed streams, so that no socket gets their numbers and all code can write.

    What an encoding cannot hold is escaped: the value of a variable may be any bytes.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # each one that is opened takes the lowest free number
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, stream: TextIO | None = None) -> None:
    """Write a line to a stream, stdout by default; without a reader it is lost."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=stream or sys.stdout, flush=True)


def settle() -> None:
    """Flush both streams. One that cannot be flushed is led to the null device: Python flushes again at its exit, and
    would turn the exit code into 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123  # a descriptor is wanted
                os.dup2(nothing.fileno(), stream.fileno())
