"""A small server that speaks the streaming API of model servers: chat completions as events.

A model named "steps" sends a token only after the client has confirmed the token before, so that a gateway that
collected tokens would stop the conversation.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PATIENCE = 30.0  # seconds
TOKENS = ("The ", "answer ", "is ", "4", "2", ".")

confirmed = asyncio.Semaphore(0)
aborted = asyncio.Event()


def event(text: str, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


async def steps() -> AsyncIterator[str]:
    for token in TOKENS:
        yield event(token)
        await asyncio.wait_for(confirmed.acquire(), PATIENCE)
    yield event("", "stop")
    yield "data: [DONE]\n\n"


async def endless() -> AsyncIterator[str]:
    try:
        while True:
            yield event("more ")
            await asyncio.sleep(0.05)
    finally:  # the client has left; nothing else ends the loop
        aborted.set()


async def failing() -> AsyncIterator[str]:
    yield event("The ")
    error = {"message": "the model ran out of memory", "type": "server_error", "code": "overloaded"}
    yield f"data: {json.dumps({'error': error})}\n\n"


async def breaking() -> AsyncIterator[str]:
    yield event("The ")
    raise ConnectionAbortedError("the model has gone, and the stream has no end")


MODELS = {"steps": steps, "endless": endless, "failing": failing, "breaking": breaking}


async def complete(request: Request) -> Response:
    asked: dict[str, Any] = await request.json()
    if asked["model"] not in MODELS:
        error = {"message": f"there is no model {asked['model']}", "type": "invalid_request_error", "code": "no_model"}
        return JSONResponse({"error": error}, 404)
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(TOKENS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}
        return JSONResponse(answer)
    return StreamingResponse(MODELS[asked["model"]](), media_type="text/event-stream")


async def confirm(_: Request) -> Response:
    confirmed.release()
    return JSONResponse({})


async def was_aborted(_: Request) -> Response:
    """Answers once a stream was aborted."""
    await asyncio.wait_for(aborted.wait(), PATIENCE)
    aborted.clear()
    return JSONResponse({"aborted": True})


app = Starlette(
    routes=[
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/confirm", confirm, methods=["POST"]),
        Route("/v1/aborted", was_aborted),
    ]
)
