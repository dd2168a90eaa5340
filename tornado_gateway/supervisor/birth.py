"""Forks a worker.

The supervisor forks while its event loop stands still, so that no worker runs in the middle of a callback. The
supervisor has a thread that writes the log (adapters/line_writer.py). A worker has no such thread, and never touches
the supervisor's writer: the worker makes a writer of its own.
"""

import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import NoReturn

from tornado_gateway.adapters import logs, stdio
from tornado_gateway.config.problems import ConfigurationError

CRASHED = 1  # exit code
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # a terminal sends these to workers, too
HANDLED = (*IGNORED, signal.SIGTERM, signal.SIGCHLD)
_PR_SET_PDEATHSIG = 1  # prctl(2)

log = logging.getLogger("tornado_gateway")


def fork(live: Callable[[], int]) -> int:
    """Fork; return the id of the new process, which runs `live` and ends with the exit code that `live` returns.

    Raises:
        OSError: the system has no room for a further process.
    """
    parent, stream = os.getpid(), (sys.stdout, sys.stderr)
    for each in stream:  # else both processes write what is buffered
        each.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # a signal to the child would be taken for the parent's
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside a thread: see above
            pid = os.fork()
        if not pid:
            _live(live, parent, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _live(live: Callable[[], int], parent: int, mask: Iterable[int]) -> NoReturn:
    """The life of a worker. The supervisor's stack below is never returned to."""
    code = CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_IGN if number in IGNORED else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        end_with(parent)
        logs.forget()
        code = live()
    except ConfigurationError as error:  # a file that the supervisor has read is gone, or is another by now
        log.error("this worker has failed: %s", error)
    except BaseException:  # whatever it is, the worker ends here
        log.exception("this worker has failed")
    finally:
        logs.close()
        stdio.settle()
        os._exit(code)


def end_with(parent: int) -> None:
    """Let the kernel kill this process when the supervisor ends; Linux. Elsewhere the worker sees the link end.

    Args:
        parent: id of the supervisor, which may have ended already.
    """
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(CRASHED)
