"""Helpers of tests of the pages for operators: credentials, the form of the log-in, sessions."""

from typing import Any
from urllib.parse import urlencode

import jwt

from tests.conftest import Running
from tests.support.journeys import ask
from tests.support.sockets import Message, get

KEY = "k" * 32
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY}
ORIGIN = b"Origin: http://gateway.example"  # of the host that get() asks for
BROWSER = b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ada", "iss": "id", **claims}, KEY)


def bearer(**claims: Any) -> bytes:
    return b"Authorization: Bearer " + token(**claims).encode()


def form(target: bytes, *lines: bytes, **values: str) -> bytes:
    """The request that a browser makes of a form."""
    of_form = b"Content-Type: application/x-www-form-urlencoded"
    return get(target, of_form, *lines, method=b"POST", body=urlencode(values).encode() or b" ")


def cookie_of(answer: Message) -> bytes:
    """The Cookie line of the session that an answer gives."""
    given = answer.get(b"set-cookie")
    assert given
    return b"Cookie: " + given.partition(b";")[0]


async def log_in(running: Running, credential: str, *lines: bytes) -> bytes:
    """Log in; return the Cookie line of the session."""
    answer = await ask(running, form(b"/admin/login", ORIGIN, *lines, credential=credential))
    assert (answer.status, answer.get(b"location")) == (303, b"/admin")
    return cookie_of(answer)
