"""Watched files: which changes are told, and when."""

import os
from pathlib import Path

import pytest

from tornado_gateway.upkeep.file_watch import INTERVAL, FileWatch


class Watched:
    """A watch, a clock, and the changes that were told."""

    def __init__(self, *paths: Path) -> None:
        self.told, self._now = 0, 0.0
        self.watch = FileWatch(self._tell)
        self.watch.use(map(str, paths))

    def _tell(self) -> None:
        self.told += 1

    def look(self) -> int:
        """Look; return how often a change was told so far."""
        self._now += INTERVAL
        self.watch.sweep(self._now)
        return self.told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("a")
    return path


def test_a_change_is_told_once_when_the_file_has_come_to_rest(file: Path) -> None:
    watched = Watched(file)
    assert [watched.look(), watched.look()] == [0, 0]
    file.write_text("ab")
    assert watched.look() == 0
    file.write_text("abc")
    assert [watched.look(), watched.look(), watched.look()] == [0, 1, 1]


def test_a_file_that_is_replaced_or_comes_and_goes_is_a_change(file: Path, tmp_path: Path) -> None:
    watched = Watched(file)
    before = file.stat()
    other = tmp_path / "other"
    other.write_text("b")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(file)
    assert [watched.look(), watched.look()] == [0, 1]
    file.unlink()
    assert [watched.look(), watched.look()] == [1, 2]
    file.write_text("c")
    assert [watched.look(), watched.look()] == [2, 3]


def test_a_link_that_leads_elsewhere_is_a_change(file: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for each in folders:
        each.mkdir()
        (each / "file").write_text(each.name)
    link = tmp_path / "data"
    link.symlink_to(folders[0])
    watched = Watched(link / "file")
    link.unlink()
    link.symlink_to(folders[1])
    assert [watched.look(), watched.look()] == [0, 1]


def test_a_look_too_early_is_none(file: Path) -> None:
    watched = Watched(file)
    watched.look()
    file.write_text("ab")
    for _ in range(3):
        watched.watch.sweep(INTERVAL * 1.5)
    assert watched.told == 0


def test_other_files_are_watched_from_their_present_state_on(file: Path, tmp_path: Path) -> None:
    watched = Watched(file)
    file.write_text("ab")
    other = tmp_path / "other"
    watched.watch.use([str(file), str(other)])
    assert [watched.look(), watched.look()] == [0, 1]
    watched.watch.use([str(other)])
    file.write_text("abc")
    assert [watched.look(), watched.look()] == [1, 1]
    other.write_text("b")
    assert [watched.look(), watched.look()] == [1, 2]
    watched.watch.use([])
    other.write_text("bc")
    assert [watched.look(), watched.look()] == [2, 2]


def test_a_path_that_is_none_is_no_file() -> None:
    watched = Watched()
    watched.watch.use(["\0"])
    assert [watched.look(), watched.look()] == [0, 0]
