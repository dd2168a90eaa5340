"""Comparing passwords with hashes in threads: results, the bound, and the end."""

import asyncio
import importlib.util
import threading

import pytest

from tests.support.credentials import OTHER_PASSWORD, PASSWORD, PASSWORD_HASH
from tornado_gateway.adapters import passwords
from tornado_gateway.adapters.passwords import WAITING, WORKERS, PasswordChecks, is_installed, make_hash
from tornado_gateway.errors import PasswordChecksBusy
from tornado_gateway.policy.hashes import check_password_hash


def test_the_library_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not is_installed()


@pytest.mark.gen_test
async def test_a_made_hash_is_strong_enough_and_of_its_password_only() -> None:
    checks, made = PasswordChecks(), make_hash(OTHER_PASSWORD)
    check_password_hash(made)
    assert made != make_hash(OTHER_PASSWORD)  # another salt
    assert await checks.check(made, OTHER_PASSWORD)
    assert not await checks.check(made, OTHER_PASSWORD[:-1])
    await checks.close()


@pytest.mark.gen_test
async def test_what_argon2_cannot_read_is_an_error_and_no_refusal() -> None:
    checks = PasswordChecks()
    with pytest.raises(passwords.importlib.import_module("argon2").exceptions.VerificationError):
        await checks.check("$argon2id$", PASSWORD)
    await checks.close()


class Held(PasswordChecks):
    """Checks that run until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.began = threading.Event(), threading.Semaphore(0)

    def _matches(self, hash_: str, password: str) -> bool:
        self.began.release()
        return self.go.wait(30) and super()._matches(hash_, password)


@pytest.mark.gen_test
async def test_more_checks_than_may_wait_are_refused_at_once() -> None:
    checks = Held()
    running = [checks.check(PASSWORD_HASH, PASSWORD) for _ in range(WORKERS + WAITING)]
    with pytest.raises(PasswordChecksBusy) as refused:
        checks.check(PASSWORD_HASH, PASSWORD)
    assert refused.value.fields == ((b"Retry-After", b"1"),)
    checks.go.set()
    assert await asyncio.gather(*running) == [True] * len(running)
    assert await checks.check(PASSWORD_HASH, PASSWORD)
    await checks.close()


@pytest.mark.gen_test
async def test_the_end_drops_what_waits_and_leaves_no_thread_running() -> None:
    checks = Held()
    running = [checks.check(PASSWORD_HASH, PASSWORD) for _ in range(WORKERS + 3)]
    for _ in range(WORKERS):
        await asyncio.to_thread(checks.began.acquire, timeout=30)
    closing = asyncio.ensure_future(checks.close())
    checks.go.set()
    await closing
    assert [each.cancelled() for each in running] == [False] * WORKERS + [True] * 3
    assert not checks._running
