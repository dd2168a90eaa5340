"""One-time tickets in tests: how a page gets a ticket, and how a page uses the ticket."""

import json
from typing import Any

import jwt

from tests.conftest import Running
from tests.support.journeys import ask
from tests.support.sockets import Message, get
from tornado_gateway.gateway import Tickets

KEY = "k" * 32
AUTH = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "AUTH_TOKEN_SOURCES": "header,ticket"}
EVENTS = b"Accept: text/event-stream"
PAGE = b"Origin: https://app.example"
OWN_PAGE = b"Origin: http://gateway.example"  # of the host that get() asks


def token_of(key: str, **claims: Any) -> bytes:
    return jwt.encode({"sub": "ada", "iss": "id", **claims}, key).encode()


def token(**claims: Any) -> bytes:
    return token_of(KEY, **claims)


def bearer(**claims: Any) -> bytes:
    return b"Authorization: Bearer " + token(**claims)


def request(*lines: bytes, service: str = "svc", target: bytes = b"/auth/ticket", **options: Any) -> bytes:
    """A request for a ticket."""
    return get(target, *lines, method=b"POST", body=json.dumps({"service": service}).encode(), **options)


async def made(running: Running, *lines: bytes, service: str = "svc") -> bytes:
    """The text of a new ticket."""
    answer = await ask(running, request(*(lines or (bearer(),)), service=service))
    assert answer.status == 200, answer
    text: str = json.loads(answer.body)["ticket"]
    return text.encode()


def stream(ticket: bytes, *lines: bytes, path: bytes = b"/sse/svc/x") -> bytes:
    """A request of an EventSource."""
    return get(path + b"?a=1&ticket=" + ticket, EVENTS, *lines)


async def used(running: Running, ticket: bytes, *lines: bytes) -> Message:
    """The answer to an EventSource."""
    return await ask(running, stream(ticket, *lines))


def tickets_of(running: Running) -> Tickets:
    tickets = running.app.gateway.tickets
    assert tickets
    return tickets
