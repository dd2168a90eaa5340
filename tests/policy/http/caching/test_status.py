"""Cache-Status lines, as RFC 9211 writes them."""

from tornado_gateway.policy.http.caching.reuse import Reuse
from tornado_gateway.policy.http.caching.status import (
    LONGEST_KEY,
    REASONS,
    Forwarded,
    forward_line,
    hit_line,
    with_key,
)


def test_a_hit_tells_how_long_it_stays_fresh() -> None:
    assert hit_line(b"gw", 5.0) == b"Cache-Status: gw; hit; ttl=5\r\n"
    assert hit_line(b"gw", -0.5, detail=b"SWR") == b"Cache-Status: gw; hit; ttl=-1; detail=SWR\r\n"


def test_a_forwarded_request_tells_why() -> None:
    assert forward_line(b"gw", Forwarded.URI_MISS) == b"Cache-Status: gw; fwd=uri-miss\r\n"
    line = forward_line(b"gw", Forwarded.STALE, status=304, stored=True, collapsed=True, detail=b"x")
    assert line == b"Cache-Status: gw; fwd=stale; fwd-status=304; stored; collapsed; detail=x\r\n"


def test_the_key_is_told_as_a_bounded_string() -> None:
    line = hit_line(b"gw", 5.0)
    assert with_key(line, (b'svc /a"\\\xff', b"h\nx")) == line[:-2] + b'; key="svc /a    h x"\r\n'
    assert len(with_key(line, (b"a" * 5000, b""))) == len(line) + LONGEST_KEY + len('; key=""')


def test_each_unusable_response_has_a_reason() -> None:
    assert set(REASONS) == {each for each in Reuse if not each.answers}
