"""Figures of this process that the operating system and malloc keep. None stands for a figure that a system lacks.

    resident_bytes()     RSS: pages in memory, of everything that the process has mapped
    malloc_bytes()       bytes that malloc has given out and not got back
    blocks()             objects of up to 512 bytes and what else CPython's own allocator (pymalloc) has given out

CPython asks malloc for each object above 512 bytes: buffers, bodies, tables. Smaller objects come from pymalloc, which
counts blocks and not bytes; sys._debugmallocstats() would walk through every pool and write to stderr.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # of the process's own container: quota and period, in µs
_STATM = Path("/proc/self/statm")  # in pages: size, resident, ... (proc(5))
_DESCRIPTORS = ("/proc/self/fd", "/dev/fd")  # of Linux, of macOS
_PAGE = resource.getpagesize()


class _MallInfo2(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and later, see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _find_mallinfo() -> Callable[[], _MallInfo2] | None:
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype, function.argtypes = _MallInfo2, ()
    return function  # type: ignore[no-any-return]  # of ctypes


_mallinfo = _find_mallinfo()


def tells_malloc() -> bool:
    """Whether malloc of this system tells its bytes in use: glibc 2.33 and later; not musl, not macOS."""
    return _mallinfo is not None


def malloc_bytes() -> int | None:
    """Bytes in use: of malloc's arenas (uordblks), and of the large blocks that have mappings of their own (hblkhd)."""
    if _mallinfo is None:
        return None
    told = _mallinfo()
    return int(told.uordblks + told.hblkhd)


def blocks() -> int:
    """Blocks that pymalloc has given out."""
    return sys.getallocatedblocks()


def resident_bytes() -> int | None:
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except OSError:
        return None


def descriptors_used() -> int | None:
    for folder in _DESCRIPTORS:
        try:
            with os.scandir(folder) as entries:
                return sum(1 for _ in entries) - 1  # without the descriptor of the listing itself
        except OSError:
            continue
    return None


def descriptors_allowed() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cores() -> int:
    """The number of cores that the process may use by affinity and by the quota of the container; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _quota()))


def _quota() -> int:
    """Cores that the container's quota allows, rounded up (cpu.max of cgroup v2); sys.maxsize without a quota."""
    try:
        quota, period = _CPU_MAX.read_text("ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no quota is "max"
        return sys.maxsize
