"""Chat completions of the OpenAI SDK: openai_client.py BASE. Prints what came."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import loopback  # noqa: F401
from openai import APIError, NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="unused", max_retries=0, timeout=30)


def stream(model: str) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "What?"}], stream=True)


def texts(model: str) -> Iterator[str]:
    for chunk in stream(model):
        yield chunk.choices[0].delta.content


def whole() -> str:
    answer = client.chat.completions.create(model="steps", messages=[{"role": "user", "content": "What?"}])
    return answer.choices[0].message.content


def token_by_token() -> list[str]:
    tokens = []
    for token in texts("steps"):
        tokens.append(token)
        if token:  # the last chunk has no token, only the reason of the end
            client.post("/confirm", cast_to=object)
    return tokens


def abort() -> Any:
    with stream("endless") as response:
        next(iter(response))
    return client.get("/aborted", cast_to=object)


def until_error(model: str) -> dict[str, Any]:
    tokens = []
    try:
        for token in texts(model):
            tokens.append(token)
    except Exception as error:
        kinds = [each.__name__ for each in type(error).__mro__]
        return {"tokens": tokens, "message": str(error), "is_api_error": isinstance(error, APIError), "kinds": kinds}
    return {"tokens": tokens, "message": None}


def unknown_model() -> str | None:
    try:
        stream("unknown")
    except NotFoundError as error:
        return error.code
    return None


print(
    json.dumps(
        {
            "whole": whole(),
            "token_by_token": token_by_token(),
            "abort": abort(),
            "failing": until_error("failing"),
            "breaking": until_error("breaking"),
            "unknown": unknown_model(),
        }
    )
)
