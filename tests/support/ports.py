"""Ports for the servers that tests start as processes."""

import random
import socket

# Below the ephemeral ports of Linux (32768 and above) and of macOS (49152 and above): the kernel gives none of these to
# a connection or to another test's port 0 before the server has bound its own.
LOWEST, HIGHEST = 10_240, 32_767
# Not the module's generator: Hypothesis seeds that one, and then all processes of a test run would draw the same ports.
_chance = random.SystemRandom()


def free_port(*hosts: str) -> int:
    """A TCP port that is free on each host; without hosts, on 127.0.0.1."""
    while True:
        port = _chance.randint(LOWEST, HIGHEST)
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            return port


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
