"""Mounts: prefixes of clients and of endpoints."""

import pytest

from tornado_gateway.policy.http.mount import Mount, standard_mount


@pytest.mark.parametrize(
    ("mount", "rest", "target"),
    [
        (Mount(b"/api/a"), b"/x?y", b"/x?y"),
        (Mount(b"/api/a"), b"?y", b"/?y"),
        (Mount(b"/api/a"), b"", b"/"),
        (Mount(b"/a", b"/a"), b"", b"/a"),
        (Mount(b"/a", b"/a"), b"?y", b"/a?y"),
        (Mount(b"/a", b"/b/c"), b"/x", b"/b/c/x"),
        (Mount(b""), b"/x", b"/x"),
        (Mount(b"", b"/v2"), b"/x", b"/v2/x"),
    ],
)
def test_the_inner_prefix_stands_for_the_public_prefix(mount: Mount, rest: bytes, target: bytes) -> None:
    assert mount.inner_target(rest) == target


@pytest.mark.parametrize(
    ("mount", "line", "behind"),
    [
        (Mount(b"/api/a"), b"X-Forwarded-Prefix: /api/a\r\n", b"X-Forwarded-Prefix: /out/api/a\r\n"),
        (Mount(b"/a", b"/a"), b"", b"X-Forwarded-Prefix: /out\r\n"),
        (Mount(b"/a", b"/b"), b"", b"X-Forwarded-Prefix: /out\r\n"),
        (Mount(b""), b"", b"X-Forwarded-Prefix: /out\r\n"),
    ],
)
def test_endpoints_learn_of_a_stripped_prefix(mount: Mount, line: bytes, behind: bytes) -> None:
    assert (mount.line, mount.line_behind(b"/out")) == (line, behind)


def test_a_standard_mount_is_made_once() -> None:
    assert standard_mount(b"/api/", b"a") is standard_mount(b"/api/", b"a") == Mount(b"/api/a")


@pytest.mark.parametrize(
    ("mount", "rest", "expected"),
    [
        (Mount(b"/api/a"), b"", True),
        (Mount(b"/a", b"/a"), b"?worker", True),
        (Mount(b"/api/a"), b"/worker.js", False),
        (Mount(b"/a", is_alone=True), b"", False),
        (Mount(b""), b"?worker", False),
    ],
)
def test_a_prefix_itself_is_beside_other_services(mount: Mount, rest: bytes, expected: bool) -> None:
    assert mount.is_beside_others(rest) is expected
