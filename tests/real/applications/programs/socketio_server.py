"""A socket.io server: adds numbers, counts, and tells how the session's requests arrived."""

import os
from typing import Any
from urllib.parse import parse_qs

import socketio

NAME = os.environ["NAME"]

sio = socketio.AsyncServer(async_mode="asgi")
seen: list[tuple[str, str]] = []  # session of Engine.IO and kind of request


@sio.event
async def add(sid: str, numbers: list[int]) -> dict[str, Any]:
    return {"sum": sum(numbers), "transport": sio.transport(sid)}


@sio.event
async def count(sid: str, to: int) -> None:
    for number in range(to):
        await sio.emit("tick", number, to=sid)


@sio.event
async def arrived(sid: str) -> dict[str, Any]:
    session = sio.manager.eio_sid_from_sid(sid, "/")
    return {"endpoint": NAME, "requests": [kind for owner, kind in seen if owner == session]}


_application = socketio.ASGIApp(sio)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] in ("http", "websocket"):
        seen.append((parse_qs(scope["query_string"].decode()).get("sid", [""])[0], scope["type"]))
    await _application(scope, receive, send)
