"""The field lines of hits."""

from dataclasses import replace

import pytest

from tornado_gateway.policy.http.caching.hits import hit_block
from tornado_gateway.policy.http.caching.stored import Stored
from tornado_gateway.policy.http.caching.terms import Terms

STORED = Stored(200, b"OK", 1, b"Date: now\r\nA: 1\r\n", {b"date": []}, b"body", Terms(60.0), (), 0.0)


def block(stored: Stored = STORED, age: float = 3.9, request_id: bytes = b"r1", name: bytes = b"gw") -> list[bytes]:
    return hit_block(stored, age, request_id, name, b"pseudonym").split(b"\r\n")


def test_a_hit_has_the_stored_lines_and_its_own() -> None:
    own = [b"x-request-id: r1", b"Via: 1.1 pseudonym", b"Age: 3", b"Cache-Status: gw; hit; ttl=56"]
    assert block() == [b"Date: now", b"A: 1", *own, b""]


def test_a_hit_names_the_hops_before() -> None:
    assert b"Via: 1.0 a, 1.1 b, 1.0 pseudonym" in block(
        replace(STORED, minor=0, known_fields={b"via": [b"1.0 a", b"1.1 b"]})
    )


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"age": 4.0}, b"Age: 4"),
        ({"age": 3.1}, b"Cache-Status: gw; hit; ttl=56"),
        ({"age": 3.0}, b"Cache-Status: gw; hit; ttl=57"),
        ({"request_id": b"r2"}, b"x-request-id: r2"),
        ({"name": b"b"}, b"Cache-Status: b; hit; ttl=56"),
        ({"stored": replace(STORED, terms=Terms(9.0))}, b"Cache-Status: gw; hit; ttl=5"),
        ({"stored": replace(STORED, known_fields={b"via": [b"1.1 x"]})}, b"Via: 1.1 x, 1.1 pseudonym"),
    ],
)
def test_what_is_remembered_of_a_hit_is_for_an_equal_hit_alone(other: dict[str, object], line: bytes) -> None:
    block()
    assert line in block(**other)  # type: ignore[arg-type]
    assert line in block(**other)  # type: ignore[arg-type]
