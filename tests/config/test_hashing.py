"""The command `hash`: items that API_KEYS and BASIC_USERS accept, from standard input."""

import hashlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tornado_gateway.adapters import passwords
from tornado_gateway.config.auth_parsers import api_keys
from tornado_gateway.config.hashing import LONGEST, CannotHash, item_of_key, item_of_password

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-more-than-twenty-characters"


def run(*words: str, given: bytes = b"", stdin: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "tornado_gateway", "hash", *words]
    options = {"input": given} if stdin == subprocess.PIPE else {"stdin": stdin}
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("end", [b"", b"\r\nanother line\n"], ids=["nothing", "a line"])
def test_a_key_is_read_from_standard_input(end: bytes) -> None:
    done = run("key", "ci", given=KEY.encode() + end)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"ci:{hashlib.sha256(KEY.encode()).hexdigest()}\n"


def test_without_a_key_a_key_is_made_and_only_the_item_is_in_the_output() -> None:
    done = run("key")
    (item,) = api_keys.parse(done.stdout.decode())
    key = done.stderr.decode().rpartition(" ")[2].strip()
    assert len(key) == 43
    assert (item.name, item.hash) == ("client", hashlib.sha256(key.encode()).hexdigest())
    assert run("key").stderr != done.stderr


@pytest.mark.parametrize(
    ("make", "name", "secret", "said"),
    [
        (item_of_key, "ci", "k" * 19, "the key is shorter than 20 characters"),
        (item_of_key, "ci", "k" * 20 + " x", "the key has other characters than visible ASCII"),
        (item_of_key, "ci", "k" * 20 + "é", "the key has other characters than visible ASCII"),
        (item_of_key, "c i", KEY, "the name has a blank, a colon, a comma or a bar, or is too long"),
        (item_of_key, "c:i", KEY, "the name has a blank, a colon, a comma or a bar, or is too long"),
        (item_of_password, "ada", "1234567", "the password is shorter than 8 characters"),
        (item_of_password, "ada", "12345678\x00", "the password has control characters"),
    ],
    ids=["short", "blank", "not ASCII", "blank in the name", "colon in the name", "short password", "NUL"],
)
def test_what_cannot_be_hashed_is_told(make: Callable[[str, str], str], name: str, secret: str, said: str) -> None:
    with pytest.raises(CannotHash) as refused:
        make(name, secret)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [(b"k" * (LONGEST + 1), "the input is longer than 512 bytes"), (b"\xff" * 30, "the input is not UTF-8")],
    ids=["too long", "not UTF-8"],
)
def test_what_cannot_be_read_is_told_and_never_shown(given: bytes, said: str) -> None:
    done = run("key", "ci", given=given)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"{said}\n")


@pytest.mark.parametrize("words", [(), ("secret",), ("key", "ci", KEY)])
def test_other_words_are_wrong_usage(words: tuple[str, ...]) -> None:
    done = run(*words, given=KEY.encode())
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_closed_standard_input_is_no_key() -> None:
    command = f'"{sys.executable}" -m tornado_gateway hash key ci <&-'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr[:8]) == (0, b"the key,")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "is_installed", lambda: False)
    with pytest.raises(CannotHash, match="needs argon2-cffi, a library"):
        item_of_password("ada", "open sesame")


def test_the_longest_key_is_hashed() -> None:
    key = "k" * LONGEST
    assert item_of_key("ci", key) == f"ci:{hashlib.sha256(key.encode()).hexdigest()}"


# ---------------------------------------------------------------- on a terminal


class Terminal:
    """A terminal on which somebody types while the command runs."""

    def __init__(self, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.seen = b""
        command = [sys.executable, "-m", "tornado_gateway", "hash", *words]
        self.popen = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
        )  # fmt: skip
        os.close(theirs)

    def type(self, prompt: bytes, line: bytes) -> None:
        """Wait for a prompt, and type a line."""
        while not self.seen.endswith(prompt):
            self.seen += os.read(self.ours, 1000)
        os.write(self.ours, line + b"\n")

    def end(self) -> tuple[int, str]:
        """The exit code, and the standard output."""
        out, _ = self.popen.communicate(timeout=30)
        try:
            while piece := os.read(self.ours, 1000):
                self.seen += piece
        except OSError:  # EIO: the other side is closed
            pass
        os.close(self.ours)
        return self.popen.returncode, out.decode()


def test_a_key_is_typed_without_echo() -> None:
    terminal = Terminal("key", "ci")
    terminal.type(b"key (empty: make one): ", KEY.encode())
    assert terminal.end() == (0, f"ci:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    assert KEY.encode() not in terminal.seen


def test_a_password_is_typed_twice() -> None:
    terminal = Terminal("password", "ada")
    terminal.type(b"password: ", b"open sesame")
    terminal.type(b"password again: ", b"open sesam")
    assert terminal.end() == (2, "")
    assert b"the two lines differ" in terminal.seen
    assert b"open" not in terminal.seen
