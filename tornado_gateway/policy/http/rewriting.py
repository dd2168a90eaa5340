"""Rewrites the paths of an endpoint in the fields of a response to the public paths of a mount.

    Location, Content-Location   by MountConfig.location
    Set-Cookie                   the Path of a cookie, by MountConfig.maps_cookie_path
    Service-Worker-Allowed       removed, unless every path of the host leads to the service

A reference without a public path stays as the endpoint wrote the reference: a URL of another host, a path above the
mount. The Domain of a cookie always stays.

Sources: RFC 9110 §8.7 and §10.2.2, RFC 6265 §5.2.4, RFC 3986 §4.2; Service Workers §4.1 for the scope of a worker.
"""

import re
from typing import NamedTuple

from tornado_gateway.policy.http.authority import parse_authority
from tornado_gateway.policy.http.headers import TAG_FIELDS
from tornado_gateway.policy.http.mount import Mount, MountConfig, Rewriting
from tornado_gateway.policy.http.target import climbs

# The fields of responses that may change on the way to the client: by this module, Set-Cookie also because some cookies
# are the gateway's, and tags because clients have no use for tags.
REWRITTEN = frozenset((b"content-location", b"location", b"service-worker-allowed", b"set-cookie")) | TAG_FIELDS

_ABSOLUTE = re.compile(rb"(https?):[/\\]{2}([^/\\?#]*)(.*)", re.IGNORECASE)
_ROOT_RELATIVE = re.compile(rb"/(?![/\\]).*")  # browsers read a backslash as a slash (WHATWG URL §4.4)
_TAB = b"\t"  # browsers drop tabs: "/<tab>/host" is "//host" (WHATWG URL §4.4)
_END_OF_PATH = re.compile(rb"[?#]")
_PATH_OF_COOKIE = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)(/[^;]*)", re.IGNORECASE)
_HOST_COOKIE = re.compile(rb"[ \t]*__host-", re.IGNORECASE)  # a browser takes such a cookie with Path=/ only


class Place(NamedTuple):
    """Where the answering endpoint is.

    Attributes:
        scheme: b"http" or b"https".
        authority: as in the Host field of requests to the endpoint.
        base_path: without a final slash.
    """

    scheme: bytes
    authority: bytes
    base_path: bytes


class Asked(NamedTuple):
    """What the client asked for, as far as trusted proxies report.

    Attributes:
        scheme: b"http" or b"https".
        authority: b"" for none.
    """

    scheme: bytes
    authority: bytes


def public_lines(lines: bytes, mount: Mount, config: MountConfig, place: Place, asked: Asked) -> bytes:
    """Rewrite field lines of a response. A line of another field passes unchanged.

    Args:
        lines: valid field lines, each ended by CRLF.
        place: the endpoint that answered.
    """
    rewriter = _Rewriter(mount, config, place, asked)
    return b"".join(map(rewriter.line, lines.splitlines(keepends=True)))


class _Rewriter:
    """Rewrites the lines of a response."""

    def __init__(self, mount: Mount, config: MountConfig, place: Place, asked: Asked) -> None:
        self._mount, self._config, self._place, self._asked = mount, config, place, asked
        self._inner = place.base_path + mount.inner

    def line(self, line: bytes) -> bytes:
        """A rewritten line; b"" for a line that is removed."""
        name, _, rest = line.partition(b":")
        known, value = name.lower(), rest.strip(b" \t\r\n")
        if known in (b"location", b"content-location"):
            return b"%b: %b\r\n" % (name, self._reference(value))
        if known == b"set-cookie" and self._config.maps_cookie_path:
            return b"%b: %b\r\n" % (name, self._cookie(value))
        if known == b"service-worker-allowed" and not self._mount.is_alone:
            return b""
        return line

    def _reference(self, value: bytes) -> bytes:
        """The value of Location or Content-Location for the client."""
        mode = self._config.location
        if mode is Rewriting.OFF:
            return value
        absolute = _ABSOLUTE.fullmatch(value)
        if absolute:
            return self._absolute(absolute[1].lower(), absolute[2], absolute[3]) or value
        if mode is Rewriting.ALL and _ROOT_RELATIVE.fullmatch(value):
            return self._public(value) or value
        return value

    def _absolute(self, scheme: bytes, authority: bytes, behind: bytes) -> bytes:
        """The public reference for an absolute URL; b"" if there is none."""
        reference = behind if behind.startswith(b"/") else b"/" + behind
        if scheme == self._place.scheme and _is_same(scheme, authority, self._place.authority):
            return self._public(reference)
        if self._config.location is not Rewriting.ALL or not _is_same(scheme, authority, self._asked.authority):
            return b""
        public = self._public(reference)
        # A path alone would keep the client on http, and a service that redirects to https would redirect for ever.
        return b"https://%b%b" % (authority, public) if public and scheme == b"https" != self._asked.scheme else public

    def _public(self, reference: bytes) -> bytes:
        """The public path of a root-relative reference; b"" if there is none.

        A path below the public prefix is public already: an application that knows the prefix has written the path.
        """
        path = _END_OF_PATH.split(reference, maxsplit=1)[0]
        prefix = self._mount.public
        known = next((each for each in (prefix or self._inner, self._inner) if _is_below(path, each)), None)
        if known is None or _TAB in reference:
            return b""
        below = path[len(known) :]
        public = (prefix + below or b"/") + reference[len(path) :]
        # "//host" would lead to another host.
        return public if _ROOT_RELATIVE.fullmatch(public) and not climbs(below) else b""

    def _cookie(self, value: bytes) -> bytes:
        if _HOST_COOKIE.match(value):
            return value
        return _PATH_OF_COOKIE.sub(self._cookie_path, value)

    def _cookie_path(self, found: re.Match[bytes]) -> bytes:
        path = found[2].rstrip(b" \t")
        if path == b"/" and not self._inner:
            return found[1] + (self._mount.public or path)  # without a final slash, which would leave the prefix out
        return found[1] + (self._public(path) or path)


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) :][:1] in (b"", b"/")


def _is_same(scheme: bytes, authority: bytes, other: bytes) -> bool:
    one, two = (parse_authority(each.decode("latin-1")) for each in (authority, other))
    text = scheme.decode("ascii")
    return one is not None and two is not None and one.at(text) == two.at(text)
