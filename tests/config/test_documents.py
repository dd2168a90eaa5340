"""Documents in JSON: problems have the path of the wrong part."""

import pytest

from tornado_gateway.config.documents import DocumentReader, Members, member, parse_json
from tornado_gateway.config.parsers import flag
from tornado_gateway.config.problems import Invalid


@pytest.mark.parametrize("text", ["{", "[" * 1_000_000, "\x00"])
def test_what_is_no_json_is_told(text: str) -> None:
    with pytest.raises(Invalid) as failed:
        parse_json(text, "a map")
    assert (failed.value.reason.startswith("is not JSON: "), failed.value.allowed) == (True, "a map")


def test_repeated_and_unknown_keys_are_told_with_their_path() -> None:
    document = parse_json('{"a": 1, "a": 2, "preserveHos": 1, "x y": "secret"}', "a map")
    assert isinstance(document, Members)
    reader = DocumentReader({})
    reader.check_keys("[0]", document, "a", "preserveHost", shown_as="a, and more")
    assert [str(each) for each in reader.problems] == [
        "[0].a: is given more than once; allowed: each name once",
        "[0].preserveHos=1: is unknown (did you mean preserveHost?); allowed: a, and more",
        '[0]["x y"]=********: is unknown; allowed: a, and more',
    ]


def test_options_are_read_as_variables_are() -> None:
    reader = DocumentReader({"isOn": flag})
    assert reader.option(".isOn", "isOn", True) is True
    assert reader.option(".isOn", "isOn", "false") is False
    assert reader.option(".isOn", "isOn", [1]) is None
    assert [each.reason for each in reader.problems] == ["is neither text, a number, true nor false"]


def test_a_member_has_a_path() -> None:
    assert (member("a-b_1"), member("a.b")) == (".a-b_1", '["a.b"]')
