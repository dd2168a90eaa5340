"""Reading the field lines of a response in one pass."""

from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.http.caching.request import by_name
from tornado_gateway.policy.http.caching.response import read_response

names = st.sampled_from([
    b"Age", b"ETAG", b"vary", b"Cache-Control", b"X-A", b"content-length", b"Date", b"Server", b"cdn-cache-control",
    b"Content-Location", b"Expires", b"Last-Modified", b"Location", b"Set-Cookie", b"set-cookie2", b"Surrogate-Control",
])  # fmt: skip


def test_names_count_without_case_and_values_without_whitespace() -> None:
    said = read_response(b"AGE: 5\r\nX-Age:  ada \r\nContent-Length: 4\r\nEtag:1\r\netag: 2\t\r\nLast-Modified:x\r\n")
    assert said.fields == {b"age": [b"5"], b"etag": [b"1", b"2"], b"last-modified": [b"x"]}
    assert (said.etag, said.last_modified) == (b"1", b"x")


def test_what_the_fields_mean_is_read_once() -> None:
    said = read_response(b"Cache-Control: max-age=1\r\ncache-control: public\r\nVary: B, a\r\n")
    assert (said.rules.lifetime, said.rules.is_public, said.vary) == (1.0, True, (b"a", b"b"))
    assert read_response(b"Vary: *\r\n").vary is None
    assert read_response(b"CDN-Cache-Control: max-age=2\r\nCache-Control: max-age=1\r\n").rules.lifetime == 2.0


@given(st.lists(st.tuples(names, st.sampled_from([b"", b"1", b" a, b ", b'"x:y"']))))
def test_the_fields_are_those_that_a_slow_reader_finds(fields: list[tuple[bytes, bytes]]) -> None:
    lines = b"".join([b"%b:%b\r\n" % each for each in fields])
    every = by_name(lines)
    read = {name: every[name] for name in every if name not in (b"x-a", b"content-length", b"server")}
    assert read_response(lines).fields == read
