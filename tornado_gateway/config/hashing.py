"""The command `hash`: makes items of API_KEYS and BASIC_USERS.

A key or password is read from standard input, and never from the command line, which every user of a machine can read.
"""

import getpass
import hashlib
import os
import secrets
import sys

from tornado_gateway.adapters import passwords
from tornado_gateway.adapters.stdio import say
from tornado_gateway.policy.hashes import NamedHash, check_key_hash, check_password_hash, normal, parse

KEY, PASSWORD = "key", "password"  # what is hashed
SHORTEST_KEY = 20  # characters; 20 random letters and digits have some 119 bits, which SHA-256 keeps safe
SHORTEST_PASSWORD = 8  # characters (NIST SP 800-63B §5.1.1.2)
LONGEST = 512  # bytes; what MAX_CREDENTIAL of policy/http/basic.py has room for, beside a name


class CannotHash(Exception):
    """Nothing can be hashed. The text says why."""


def make_item(what: str, name: str) -> str:
    """Read a key or password; return the item.

    A key that is not given is made, and written to standard error, so that only the item is in standard output.

    Args:
        what: KEY or PASSWORD.

    Raises:
        CannotHash: the name, the key or the password cannot be used, or a library is not installed.
    """
    if what == KEY:
        return item_of_key(name, read_secret("key (empty: make one)") or new_key())
    return item_of_password(name, read_secret(PASSWORD, again=True))


def new_key() -> str:
    key = secrets.token_urlsafe(32)
    say(f"the key, which is shown only now: {key}", sys.stderr)
    return key


def item_of_key(name: str, key: str) -> str:
    """
    Raises:
        CannotHash: the name cannot be used, or the key is too short.
    """
    if len(key) < SHORTEST_KEY:
        raise CannotHash(f"the key is shorter than {SHORTEST_KEY} characters")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CannotHash("the key has other characters than visible ASCII")
    return _item(f"{name}:{hashlib.sha256(key.encode('ascii')).hexdigest()}", what=KEY)


def item_of_password(name: str, password: str) -> str:
    """
    Raises:
        CannotHash: the name cannot be used, the password is too short, or argon2-cffi is not installed.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise CannotHash(f"the password is shorter than {SHORTEST_PASSWORD} characters")
    if not password.isprintable():
        raise CannotHash("the password has control characters")
    if not passwords.is_installed():
        raise CannotHash("hash password needs argon2-cffi, a library of requirements-extras.txt that is not installed")
    return _item(f"{name}:{passwords.make_hash(normal(password))}", what=PASSWORD)


def _item(item: str, *, what: str) -> str:
    try:
        made: NamedHash = parse(item, check_key_hash if what == KEY else check_password_hash)
    except ValueError:
        raise CannotHash("the name has a blank, a colon, a comma or a bar, or is too long") from None
    return str(made)


def read_secret(prompt: str, *, again: bool = False) -> str:
    """The first line of standard input, without the end of the line; typed without echo on a terminal.

    Args:
        again: whether the line is typed twice on a terminal.

    Raises:
        CannotHash: the line is too long or not UTF-8, or the two lines differ.
    """
    try:
        if os.isatty(0):
            return _typed(prompt, again=again)
        with open(0, "rb", closefd=False) as stream:
            line = stream.readline(LONGEST + 2)
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        raise CannotHash("the input is not UTF-8") from None
    except OSError as error:
        raise CannotHash(f"standard input cannot be read: {error.strerror}") from None
    if len(text.encode("utf-8")) > LONGEST:
        raise CannotHash(f"the input is longer than {LONGEST} bytes")
    return text


def _typed(prompt: str, *, again: bool) -> str:
    text = getpass.getpass(f"{prompt}: ")
    if again and getpass.getpass(f"{prompt} again: ") != text:
        raise CannotHash("the two lines differ")
    return text
