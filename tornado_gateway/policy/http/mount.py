"""Mounts: how the paths of clients map onto the paths of a service's endpoints.

    client     /notebooks/tree?a     public prefix  /notebooks
    endpoint   /base/lab/tree?a      base path      /base        inner prefix  /lab

A route that strips the prefix has an empty inner prefix. A route that keeps the prefix has an inner prefix equal to the
public prefix. A route that replaces the prefix has another inner prefix.
"""

import functools
from dataclasses import dataclass, field
from enum import Enum

from tornado_gateway.policy.overload import Priority

LONGEST_REMEMBERED = 255  # bytes of a service's name whose mount is remembered; clients make up names of 16 KiB


class Rewriting(Enum):
    """Which references in Location and Content-Location are rewritten to public paths."""

    OFF = "off"
    ORIGIN = "origin"  # absolute URLs of the endpoint that answered
    ALL = "all"  # also root-relative references, and absolute URLs of the host that the client asked for


@dataclass(frozen=True, slots=True)
class MountConfig:
    """How a service appears to clients, and clients to the service.

    Attributes:
        preserve_host: whether an endpoint receives the client's Host field instead of the endpoint's authority.
        rewrites_origin: whether an endpoint receives the endpoint's origin in WebSocket handshakes instead of the
            client's.
        location: which references in Location and Content-Location are rewritten.
        maps_cookie_path: whether the Path of a cookie is rewritten from the endpoint's base path to the public prefix.
        priority: how important the requests are; see policy/overload.py.
        passes_alt_svc: whether Alt-Svc fields of responses reach clients (RFC 7838).
    """

    preserve_host: bool = False
    rewrites_origin: bool = False
    location: Rewriting = Rewriting.ORIGIN
    maps_cookie_path: bool = False
    priority: Priority = Priority.NORMAL
    passes_alt_svc: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A public prefix, and the place of the prefix at an endpoint.

    Attributes:
        public: the public prefix without a final slash: b"/api/billing"; b"" for the root.
        inner: the inner prefix without a final slash; b"" for a stripped prefix.
        is_alone: whether every path of the host leads to the service, so that no other service shares the origin.
        config: of a route with values of its own; None for the values of the service.
        line: the X-Forwarded-Prefix line of the stripped prefix; b"" if no prefix is stripped. A prefix that
            another prefix replaces has no line: an application would put the public prefix before the other prefix,
            and so make paths that no client can use.
    """

    public: bytes
    inner: bytes = b""
    is_alone: bool = False
    config: MountConfig | None = None
    line: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        is_stripped = self.public and not self.inner
        object.__setattr__(self, "line", b"X-Forwarded-Prefix: %b\r\n" % self.public if is_stripped else b"")

    def line_behind(self, outer: bytes) -> bytes:
        """The X-Forwarded-Prefix line if a trusted proxy has stripped a prefix before.

        Args:
            outer: the prefix that the proxy has stripped; not empty.

        >>> Mount(b"/api/billing").line_behind(b"/team")
        b'X-Forwarded-Prefix: /team/api/billing\\r\\n'
        """
        return b"X-Forwarded-Prefix: %b%b\r\n" % (outer, b"" if self.inner else self.public)

    def is_beside_others(self, rest: bytes) -> bool:
        """Whether other services have paths in the directory of a target: /api/ is the directory of /api/billing?a.

        A browser lets a service worker see the directory of the worker's script (Service Workers §4.1).

        Args:
            rest: see inner_target().

        >>> Mount(b"/api/billing").is_beside_others(b"?a"), Mount(b"/api/billing").is_beside_others(b"/a")
        (True, False)
        """
        return not rest.startswith(b"/") and bool(self.public) and not self.is_alone

    def inner_target(self, rest: bytes) -> bytes:
        """The target behind an endpoint's base path.

        Args:
            rest: the client's target behind the public prefix: b"", or bytes that begin with "/" or "?".

        >>> Mount(b"/api/billing").inner_target(b"?a"), Mount(b"/a", b"/a").inner_target(b"")
        (b'/?a', b'/a')
        """
        if self.inner:
            return self.inner + rest
        return rest if rest[:1] == b"/" else b"/" + rest


@functools.lru_cache(maxsize=1024)
def standard_mount(prefix: bytes, service: bytes) -> Mount:
    """The mount of a service below a standard route. Cached: give no name longer than LONGEST_REMEMBERED.

    >>> standard_mount(b"/api/", b"billing").public
    b'/api/billing'
    """
    return Mount(prefix + service)
