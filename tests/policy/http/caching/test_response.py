"""Reading the field lines of a response in one pass."""

from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.request import by_name
from tornado_gateway.policy.http.caching.response import COMPUTED, read_response

names = st.sampled_from([b"Age", b"ETAG", b"vary", b"Cache-Control", b"X-A", b"content-length", b"Date", b"Server"])


def test_age_and_length_are_not_stored_and_everything_else_keeps_its_bytes() -> None:
    lines = b"AGE: 5\r\nX-User:  ada \r\nContent-Length: 4\r\nEtag:1\r\netag: 2\t\r\n"
    fields, stored = read_response(lines)
    assert stored == b"X-User:  ada \r\nEtag:1\r\netag: 2\t\r\n"
    assert fields == {b"age": [b"5"], b"etag": [b"1", b"2"]}


@given(st.lists(st.tuples(names, st.sampled_from([b"", b"1", b" a, b ", b'"x:y"']))))
def test_the_fields_are_those_that_a_slow_reader_finds(fields: list[tuple[bytes, bytes]]) -> None:
    lines = b"".join([b"%b:%b\r\n" % each for each in fields])
    read, stored = read_response(lines)
    every = by_name(lines)
    assert read == {name: every[name] for name in every if name not in (b"x-a", b"content-length", b"server")}
    assert by_name(stored) == {name: every[name] for name in every if name not in COMPUTED}
