"""The machine: which core runs which program, and the conditions to print beside the figures."""

import os
import platform
import re
import resource
from collections.abc import Iterable
from pathlib import Path

from benchmarks.programs import AIOHTTP, CADDY, ENVOY, HAPROXY, NGINX, TRAEFIK, WRK

_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


def cores() -> tuple[int, int]:
    """The core for the proxy, and the core for the load and the upstream; equal on a machine with a single core."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 % len(usable)]


def raise_descriptor_limit() -> None:
    """Raise the limit of open descriptors, of this process and its children, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """The number of descriptors that a process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def describe(peers: Iterable[str]) -> dict[str, str]:
    """The conditions of a measurement: processor, kernel, and versions of Python, wrk and the peers."""
    model = _MODEL.search(Path("/proc/cpuinfo").read_text(errors="replace"))
    conditions = {
        "cpu": model[1] if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "wrk": WRK.version(),
    }
    versions = {program.name: program for program in (NGINX, HAPROXY, ENVOY, TRAEFIK, CADDY, AIOHTTP)}
    return conditions | {name: versions[name].version() for name in ("nginx", *peers) if name in versions}
