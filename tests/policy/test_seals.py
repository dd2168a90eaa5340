"""Seals: what was sealed with the secret and the name comes back, and nothing else."""

from tornado_gateway.policy.seals import SEAL, sealed, unsealed

SECRET = b"s" * 32


def test_a_sealed_content_comes_back_under_its_name_alone() -> None:
    entry = sealed(SECRET, "name", b"content")
    assert len(entry) == len(b"content") + SEAL
    assert unsealed(SECRET, "name", entry) == b"content"
    assert unsealed(SECRET, "other", entry) is None
    assert unsealed(b"t" * 32, "name", entry) is None


def test_what_nobody_has_sealed_has_no_content() -> None:
    entry = sealed(SECRET, "name", b"content")
    for wrong in (b"", b"content", entry[:-1], entry[1:], b"x" + entry, bytes(SEAL), entry[:3] + b"T" + entry[4:]):
        assert unsealed(SECRET, "name", wrong) is None
    assert unsealed(SECRET, "name", sealed(SECRET, "name", b"")) == b""
