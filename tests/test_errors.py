"""The error tree: every class has all attributes that the gateway uses."""

from http import HTTPStatus
from pathlib import Path

import pytest

from tornado_gateway import errors
from tornado_gateway.errors import BEARER_CHALLENGE, GatewayError, Overloaded, Unauthorized, UpstreamError


def every(of: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [of, *[below for child in of.__subclasses__() for below in every(child)]]


@pytest.mark.parametrize("error", every())
def test_each_has_a_status_and_words(error: type[GatewayError]) -> None:
    assert error.status == 499 or error.status in set(map(int, HTTPStatus))
    for word in (error.code, error.reason):
        assert word == word.lower()
        assert word.replace("_", "").isalpha()
    assert error().message


def test_the_documents_name_what_clients_and_logs_are_told() -> None:
    page = (Path(__file__).parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")
    told = {error.code for error in every()} | {error.reason for error in every() if not error.__subclasses__()}
    assert {word for word in told if f"`{word}`" not in page} == set()


def test_reasons_tell_classes_apart() -> None:
    reasons = [error.reason for error in every()]
    assert len(set(reasons)) == len(reasons)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    for error in every():
        lines = [line for line in errors.__doc__.splitlines() if error.__name__ in line.split()]
        assert lines, error.__name__
        if error is not GatewayError:
            assert str(error.status) in lines[0], error.__name__


def test_what_the_service_did_is_502_or_504() -> None:
    assert {error.status for error in every(UpstreamError)} == {502, 504}


@pytest.mark.parametrize(("seconds", "field"), [(0.0, b"1"), (0.1, b"1"), (1.0, b"1"), (1.1, b"2"), (60.0, b"60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, field: bytes) -> None:
    assert Overloaded(retry_after=seconds).fields == ((b"Retry-After", field),)


def test_a_challenge_says_whether_there_was_a_token() -> None:
    assert Unauthorized().fields == ((b"WWW-Authenticate", b'Bearer realm="gateway"'),)
    assert b'error="invalid_token"' in Unauthorized(invalid=True).fields[0][1]


def test_a_challenge_for_each_way_to_authenticate_has_a_field_of_its_own() -> None:
    refused = Unauthorized(invalid=True)
    refused.challenge((BEARER_CHALLENGE, b"Basic realm"))
    assert refused.fields == (
        (b"WWW-Authenticate", b'Bearer realm="gateway", error="invalid_token"'), (b"WWW-Authenticate", b"Basic realm"),
    )  # fmt: skip


def test_a_message_may_be_given() -> None:
    error = GatewayError("why", ((b"X", b"y"),))
    assert (error.message, str(error), error.fields) == ("why", "why", ((b"X", b"y"),))
