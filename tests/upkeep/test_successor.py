"""The process that takes over: how it is started, and what is said of one that fails."""

import logging
import os
import sys

import pytest

from tests.support.sockets import eventually
from tornado_gateway.upkeep.successor import Successor, command


def test_a_successor_is_started_like_its_predecessor() -> None:
    assert command(["-X", "dev", "-m", "tornado_gateway", "--takeover"]) == [
        sys.executable, "-X", "dev", "-m", "tornado_gateway", "--takeover",
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_a_successor_that_fails_is_logged_and_another_one_may_start(caplog: pytest.LogCaptureFixture) -> None:
    successor = Successor("/path", [sys.executable, "-c", "raise SystemExit(78)"])
    for count in (1, 2):
        successor.start()
        successor.start()
        assert caplog.text.count("is about to take over") == count
        await eventually(lambda count=count: caplog.text.count("exit code 78 before it took over") == count)
    successor.close()


@pytest.mark.gen_test
async def test_a_command_that_is_missing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    Successor("/path", ["/missing/python"]).start()
    assert "no take-over: " in caplog.text


@pytest.mark.gen_test
async def test_the_variables_of_systemd_s_sockets_are_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    successor = Successor("/path", [sys.executable, "-c", "import os; raise SystemExit('LISTEN_PID' in os.environ)"])
    successor.start()
    await eventually(lambda: "exit code 0 before" in caplog.text)
    successor.close()


@pytest.mark.gen_test
async def test_signals_that_cannot_be_obeyed_are_ignored_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    Successor("", ["false"]).start()
    assert "SIGUSR2 is ignored: TAKEOVER_SOCKET is not set" in caplog.text
    monkeypatch.setattr(os, "getpid", lambda: 1)
    Successor("/path", ["false"]).start()
    assert "SIGUSR2 is ignored: process 1 would" in caplog.text
