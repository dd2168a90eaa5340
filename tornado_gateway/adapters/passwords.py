"""Compares passwords with Argon2id hashes (RFC 9106), by argon2-cffi, in threads of their own.

    check ──► waits (WAITING at most) ──► a thread (WORKERS) ──► a future
        └──► PasswordChecksBusy

A hash takes tens of milliseconds of a core, and some MiB. Argon2 releases Python's lock, so the event loop runs on.

argon2-cffi is an optional library. It is imported when the checks are made.
"""

import asyncio
import importlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tornado_gateway.errors import PasswordChecksBusy
from tornado_gateway.policy.hashes import normal

WORKERS = 2  # threads; more would take more memory at once, and leave the event loop no core of a small machine
WAITING = 30  # checks that wait for a thread; about a second of work

# What `make_hash()` spends: 19 MiB twice, in a thread (OWASP's Password Storage Cheat Sheet).
_COSTS = {"time_cost": 2, "memory_cost": 19 * 1024, "parallelism": 1}


def is_installed() -> bool:
    """Whether argon2-cffi is there."""
    return importlib.util.find_spec("argon2") is not None


def make_hash(password: str) -> str:
    """The hash of a password, with a salt of 128 random bits, as a PHC string.

    Args:
        password: in normalization form C.
    """
    made: str = importlib.import_module("argon2").PasswordHasher(**_COSTS).hash(password)
    return made


class PasswordChecks:
    """Compares passwords with hashes. Checks are made inside a running event loop.

    Raises:
        ImportError: argon2-cffi is not installed.
    """

    def __init__(self) -> None:
        self._argon2 = importlib.import_module("argon2")
        self._hasher: Any = self._argon2.PasswordHasher()
        self._pool = ThreadPoolExecutor(WORKERS, "passwords")
        self._running: set[asyncio.Future[bool]] = set()

    def check(self, hash_: str, password: str) -> "asyncio.Future[bool]":
        """Whether a password has a hash.

        Args:
            hash_: a PHC string of Argon2id.
            password: in normalization form C.

        Raises:
            PasswordChecksBusy: WORKERS checks run, and WAITING checks wait.
        """
        if len(self._running) >= WORKERS + WAITING:
            raise PasswordChecksBusy
        check = asyncio.get_running_loop().run_in_executor(self._pool, self._matches, hash_, password)
        self._running.add(check)
        check.add_done_callback(self._running.discard)
        return check

    async def close(self) -> None:
        """Drop the checks that wait, and wait for the running checks."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._running:
            await asyncio.wait(self._running)

    def _matches(self, hash_: str, password: str) -> bool:
        try:
            return bool(self._hasher.verify(hash_, password))
        except self._argon2.exceptions.VerifyMismatchError:
            return False


class OperatorPassword:
    """Knows the operators' password. The checks have threads of their own: a flood of wrong passwords of services'
    users keeps no operator out.

    Args:
        hash_: a PHC string of Argon2id.

    Raises:
        ImportError: argon2-cffi is not installed.
    """

    def __init__(self, hash_: str) -> None:
        self._hash, self._checks = hash_, PasswordChecks()

    async def __call__(self, password: bytes) -> bool:
        """Whether a password is right.

        Args:
            password: in UTF-8.

        Raises:
            PasswordChecksBusy: see PasswordChecks.check().
        """
        try:
            text = password.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return await self._checks.check(self._hash, normal(text))

    async def close(self) -> None:
        """Leave no check running."""
        await self._checks.close()
