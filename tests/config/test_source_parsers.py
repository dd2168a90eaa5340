"""How the variables of sources are written."""

import pytest

from tornado_gateway.config.parsers import Syntax
from tornado_gateway.config.problems import Invalid
from tornado_gateway.config.source_parsers import access_token, agent_url, api_url


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (agent_url, "http://127.0.0.1:8500"),
        (agent_url, "http://consul.internal:8500/base"),
        (api_url, "https://kubernetes.default.svc"),
        (api_url, "http://127.0.0.1:8001"),
        (access_token, "b1gs33cr3t-"),
    ],
)
def test_what_is_right_is_taken_as_given(syntax: Syntax[str], text: str) -> None:
    assert syntax.parse(text) == text


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (agent_url, "127.0.0.1:8500"),
        (agent_url, "http://ada:secret@127.0.0.1:8500"),
        (agent_url, "unix:/run/consul.sock"),
        (api_url, "http://kubernetes.default.svc"),
        (api_url, "ftp://kubernetes.default.svc"),
        (access_token, "two words"),
        (access_token, "line\nbreak"),
    ],
)
def test_what_is_wrong_is_refused(syntax: Syntax[str], text: str) -> None:
    with pytest.raises(Invalid):
        syntax.parse(text)
