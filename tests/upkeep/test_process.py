"""Figures of this process: each moves with what it measures."""

import resource
import socket
import sys
from pathlib import Path

import pytest

from tornado_gateway.upkeep import process

LARGE = 64 * 1024 * 1024


def test_resident_bytes_grow_with_the_pages_that_are_written() -> None:
    before = process.resident_bytes()
    if sys.platform != "linux":
        assert before is None
        return
    assert before
    taken = bytearray(LARGE)
    taken[::4096] = b"x" * len(taken[::4096])
    after = process.resident_bytes()
    assert after and after - before > LARGE // 2
    assert len(taken) == LARGE


def test_malloc_tells_bytes_in_use_and_not_resident_pages() -> None:
    before = process.malloc_bytes()
    if not process.tells_malloc():
        assert before is None
        return
    assert before
    untouched = bytearray(LARGE)  # calloc(): no page of the block is resident
    after = process.malloc_bytes()
    assert after and after - before >= LARGE
    del untouched
    freed = process.malloc_bytes()
    assert freed is not None and freed <= after - LARGE // 2


def test_malloc_may_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:  # as on musl and macOS
    monkeypatch.setattr(process, "_mallinfo", None)
    assert (process.tells_malloc(), process.malloc_bytes()) == (False, None)


def test_blocks_count_small_objects() -> None:
    before = process.blocks()
    small = [float(number) for number in range(100_000)]
    assert process.blocks() - before >= 0.9 * len(small)


def test_descriptors_are_counted() -> None:
    before = process.descriptors_used()
    sockets = [socket.socket() for _ in range(10)]
    after = process.descriptors_used()
    for each in sockets:
        each.close()
    assert before is not None and after == before + 10
    assert process.descriptors_used() == before
    assert process.descriptors_allowed() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_system_without_the_files_of_linux_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_STATM", process.Path("/nowhere/statm"))
    monkeypatch.setattr(process, "_DESCRIPTORS", ("/nowhere/fd",))
    assert (process.resident_bytes(), process.descriptors_used()) == (None, None)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000\n", 4), ("250000 100000\n", 3), ("50000 100000\n", 1), ("nonsense", 4)]
)
def test_cores_are_those_that_the_affinity_and_the_quota_of_the_container_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(process, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert process.cores() == cores
