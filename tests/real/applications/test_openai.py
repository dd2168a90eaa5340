"""The OpenAI SDK against a model server: streams token by token, aborts and errors."""

from collections.abc import Iterator

import pytest

from tests.real.applications.support import WAYS, documented
from tests.support.applications import PROGRAMS, PYTHON, Stage, port_of, staged


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, int]]:
    with staged(tmp_path_factory.mktemp("openai")) as stage:
        yield stage, port_of(stage.asgi("openai_server"))


@pytest.mark.parametrize("way", WAYS)
def test_completions_stream_abort_and_fail(running: tuple[Stage, int], way: str) -> None:
    stage, port = running
    seen = stage.client(PYTHON, PROGRAMS / "openai_client.py", documented(stage, "OpenAI's SDK", way, port))
    assert seen["whole"] == "The answer is 42."
    assert seen["token_by_token"] == ["The ", "answer ", "is ", "4", "2", ".", ""]
    assert seen["abort"] == {"aborted": True}
    assert seen["unknown"] == "no_model"
    for model, message in (("failing", "the model ran out of memory"), ("breaking", "Connection error.")):
        error = seen[model]
        assert error["tokens"] == ["The "]
        assert (error["is_api_error"], error["message"]) == (True, message)
