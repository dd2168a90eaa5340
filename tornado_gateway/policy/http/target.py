"""Request targets and endpoint URLs: the bytes of the upstream's request line, and the host to connect to.

The client's path and query are forwarded byte for byte. Nothing is decoded, normalised or re-encoded: each of these
has made some proxy forward another path than the path that was checked. The authority is always the endpoint's, never
the client's.

            GET /api/billing/a%2Fb?x HTTP/1.1        http://10.0.0.7/base
                    ───┬─── ───┬───                       ───┬─── ──┬─
                    service    rest                       origin   base path
                               └────────────► GET /base/a%2Fb?x ◄──┘

Sources: RFC 9112 §3.2 (request target), RFC 3986 §3.3 and §5.2.4 (dot segments).
"""

import functools
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from tornado_gateway.errors import BadRequest
from tornado_gateway.policy.http.address import unmapped
from tornado_gateway.policy.upstream.connection_config import AS_HOST, UpstreamTLSConfig

DEFAULT_PORTS = {"http": 80, "https": 443}

# Targets of which the route and the check are remembered: most requests are for few paths (measured: 2.3 µs of 2.8).
# Both follow from the target and the host alone. Clients make up targets: the memory stays below 1 MiB.
REMEMBERED_TARGETS = 1024
LONGEST_REMEMBERED_TARGET = 128  # bytes

# Bytes that a request target must not contain: control characters, space, DEL (RFC 9112 §3.2), and "#", at which a URL
# parser of an upstream would cut the target (HAProxy CVE-2023-45539).
_FORBIDDEN = re.compile(rb"[\x00-\x20#\x7f]")

# Bytes refused in a path and in a query, by the name of the rule. The path is searched without its query, so the
# patterns need not treat "?".
BROWSER, STRICT, FORWARD = "browser", "strict", "forward"
_REFUSED = {
    # Bytes that browsers never send: browsers percent-encode these bytes (WHATWG URL, "path" and "query percent-encode
    # set"), and turn a backslash in a path into "/".
    BROWSER: (rb'[\x00-\x20"#<>\\\x7f-\xff]', rb'[\x00-\x20"#<>\x7f-\xff]'),
    # Bytes that a URI cannot hold (RFC 3986 §3.3, §3.4): all but unreserved, sub-delims, ":@/?" and whole escapes.
    STRICT: (rb"[^!$%-;=?@A-Z_a-z~]|%(?![0-9A-Fa-f]{2})",) * 2,
    FORWARD: (_FORBIDDEN.pattern,) * 2,
}

# Path separators of some upstream servers: IIS and Java servers also split at backslashes and at encoded slashes.
_SEPARATOR_OF_SOME = re.compile(rb"\\|%2f|%5c", re.IGNORECASE)
_PARAMETERS = re.compile(rb"(?:;|%3b).*", re.IGNORECASE)  # some servers decode a path before they cut parameters

_PERCENT = ord("%")
_ONE_SLASH = re.compile(rb"/(?![/\\])")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{0,8}|0[0-7]{0,11}|[1-9][0-9]{0,9}")
_BASE_PATH = re.compile(r"[!-~]*")


# Base URLs that are not parsed again; 4096 results take some 2 MiB. A reload asks for each URL some five times, at
# first in another thread: with 1,000 endpoints that halves what a reload takes of the event loop (measured).
_REMEMBERED_URLS = 4096


class Origin(NamedTuple):  # a tuple's hash takes no call: each request looks up the pool of an origin
    """Where to connect for an endpoint; the key of a keep-alive pool.

    Attributes:
        scheme: "http" or "https".
        host: a name to look up, or an address without brackets. A dot at the end makes a name absolute; an IPv6
            address may have a zone.
        port: 1 to 65535; 0 for a unix socket.
        socket: path of a unix socket, or None for TCP.
        address: the address to connect to, in its shortest form; None for all addresses of the host.
        tls: how TLS is spoken, if otherwise than to other origins; None for "http".
    """

    scheme: str
    host: str
    port: int
    socket: str | None = None
    address: str | None = None
    tls: UpstreamTLSConfig | None = None

    def over(self, tls: UpstreamTLSConfig) -> "Origin":
        """The same place, where TLS is spoken in a way of its own."""
        return self._replace(tls=tls if self.scheme == "https" and tls != AS_HOST else None)

    @property
    def name(self) -> str:
        """The host for the Host field, certificates and SNI: without a final dot and without a zone.

        A final dot matters only to the look-up (RFC 6066 §3), and a zone only to this machine (RFC 6874 §1).
        """
        return self.host.partition("%")[0].removesuffix(".")

    @property
    def server_name(self) -> str:
        """The name for SNI and certificates."""
        return (self.tls and self.tls.server_name) or self.name

    @property
    def authority(self) -> bytes:
        """The Host field's value for requests to this origin (RFC 9110 §7.2)."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        if self.socket or self.port == DEFAULT_PORTS[self.scheme]:
            return host.encode("ascii")
        return f"{host}:{self.port}".encode("ascii")


@functools.lru_cache(maxsize=_REMEMBERED_URLS)
def parse_base_url(url: str) -> tuple[Origin, bytes]:
    """Split an endpoint's base URL into origin and base path.

    The base path is b"", or starts with a slash and does not end with a slash. A fragment is an address of the host:
    Origin.address.

    Raises:
        ValueError: the URL is not allowed for an endpoint; the text gives the reason.

    >>> parse_base_url("http://10.0.0.7:8080/base/")
    (Origin(scheme='http', host='10.0.0.7', port=8080, socket=None, address=None, tls=None), b'/base')
    >>> parse_base_url("http://billing.internal#10.0.0.7")[0].address
    '10.0.0.7'
    >>> parse_base_url("unix:/run/app.sock")[0].socket
    '/run/app.sock'
    """
    if url.startswith("unix:"):
        return _unix_origin(url), b""
    url, mark, fragment = url.partition("#")
    address = _pinned(fragment) if mark else None
    if _FORBIDDEN.search(url.encode("utf-8")):
        raise ValueError("must not contain spaces, control characters or a fragment")
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("must start with http://, https:// or unix:/")
    if "@" in parts.netloc:
        raise ValueError("must not contain user information")
    if "?" in url:
        raise ValueError("must not contain a query")
    if not _BASE_PATH.fullmatch(parts.path):
        raise ValueError("must percent-encode non-ASCII characters in its path")
    base_path = parts.path.rstrip("/").encode("ascii")
    if climbs(base_path):
        raise ValueError("must not climb above its root with '..'")
    return Origin(parts.scheme, _host(parts.hostname), _port(parts), address=address), base_path


def is_trustworthy(url: str) -> bool:
    """Whether nobody on the way can change what a URL brings: https, or http on loopback.

    >>> is_trustworthy("https://id.example/keys"), is_trustworthy("http://127.0.0.1:9/"), is_trustworthy("http://id/")
    (True, True, False)
    """
    parts = urlsplit(url)
    try:
        parse_base_url(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return False
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def canonical_url(origin: Origin, base_path: bytes) -> str:
    """The canonical text of an endpoint's base URL (RFC 3986 §6.2).

    >>> canonical_url(*parse_base_url("HTTP://Billing.internal:80/a/#10.0.0.7"))
    'http://billing.internal/a#10.0.0.7'
    """
    if origin.socket:
        return f"unix:{origin.socket}"
    host = f"[{origin.host}]" if ":" in origin.host else origin.host  # zone and final dot stay: other addresses
    port = "" if origin.port == DEFAULT_PORTS[origin.scheme] else f":{origin.port}"
    address = f"#{origin.address}" if origin.address else ""
    return f"{origin.scheme}://{host}{port}{base_path.decode('ascii')}{address}"


def _pinned(fragment: str) -> str:
    try:
        return str(unmapped(ipaddress.ip_address(fragment.replace("%", "#"))))  # "#" makes a zone invalid
    except ValueError:
        raise ValueError("must not contain a fragment, unless it is an address of its host") from None


def _unix_origin(url: str) -> Origin:
    path = url.removeprefix("unix:")
    if not path.startswith("/") or "\0" in path:
        raise ValueError("must name an absolute path after unix:, for example unix:/run/app.sock")
    return Origin("http", "localhost", 0, path)


@functools.lru_cache(maxsize=_REMEMBERED_URLS)
def is_address(host: str) -> bool:
    """Whether a host is an IPv4 address, or an IPv6 address without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host(host: str | None) -> str:
    """The canonical spelling of a host: `0x7f.1` and `::ffff:127.0.0.1` become 127.0.0.1."""
    if not host:
        raise ValueError("must name a host")
    if ":" in host:
        return _ipv6(host)
    labels = host.removesuffix(".").split(".")
    if address := _ipv4(labels):
        return address
    # RFC 1035 §2.3.4: labels of up to 63 bytes, 255 in all with the lengths of the labels
    if not _HOST_NAME.fullmatch(host) or not all(0 < len(each) <= 63 for each in labels) or len(host) > 254:
        raise ValueError("must name a valid host: an address, or a name in ASCII (of another alphabet: xn--...)")
    return host


def _ipv6(host: str) -> str:
    """The shortest form of an IPv6 address, with its zone: `fe80::1%25eth0` (RFC 6874 §2) or `fe80::1%eth0`."""
    address, mark, zone = host.partition("%")
    zone = zone[2:] if zone.startswith("25") and len(zone) > 2 else zone
    if mark and not _ZONE.fullmatch(zone):
        raise ValueError("must have a valid zone in its address")
    value = ipaddress.IPv6Address(address)
    return f"{value}%{zone}" if mark else str(unmapped(value))


def _ipv4(parts: list[str]) -> str | None:
    """Parse an IPv4 address as inet_aton() and browsers do: up to four numbers, octal and hexadecimal too."""
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    *most, last = (_number(each) for each in parts)
    if any(each > 255 for each in most) or last >= 256 ** (5 - len(parts)):
        return None
    return str(ipaddress.IPv4Address(last + sum(each << 24 - 8 * place for place, each in enumerate(most))))


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


def _port(parts: object) -> int:
    try:
        port: int | None = parts.port  # type: ignore[attr-defined]
    except ValueError:
        raise ValueError("must have a port from 1 to 65535") from None
    scheme: str = parts.scheme  # type: ignore[attr-defined]
    if port == 0:
        raise ValueError("must have a port from 1 to 65535")
    return port or DEFAULT_PORTS[scheme]


def split_route(target: bytes, prefix: bytes) -> tuple[bytes, bytes]:
    """Split the target of a proxied route into the service's name and the rest, unchanged.

    The rest is b"" or starts with "/" or "?".

    >>> split_route(b"/api/billing/a//b?c", b"/api/")
    (b'billing', b'/a//b?c')
    >>> split_route(b"/api/billing?c", b"/api/")
    (b'billing', b'?c')
    """
    start = len(prefix)
    query = target.find(b"?", start)
    slash = target.find(b"/", start, query if query >= 0 else len(target))
    end = slash if slash >= 0 else query if query >= 0 else len(target)
    return target[start:end], target[end:]


class TargetRule:
    """Which bytes a target may hold on its way to an upstream.

    Args:
        name: BROWSER, STRICT or FORWARD.
    """

    def __init__(self, name: str = BROWSER) -> None:
        self.name = name
        path, query = _REFUSED[name]
        self._path, self._query = re.compile(path), re.compile(query)
        # A quick test of the whole target; only a target with two dots in a row, encoded or not, can climb.
        self._suspect = re.compile(rb"%b|(?:\.|%%2[eE]){2}" % path)
        self._check_again = functools.lru_cache(maxsize=REMEMBERED_TARGETS)(self._check)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TargetRule) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[type["TargetRule"], tuple[str]]:
        """A copy for another process; what is remembered is not copied."""
        return TargetRule, (self.name,)

    def admit(self, rest: bytes, of: str = "the request target below its service") -> bytes:
        """Check the rest of a target; return the rest unchanged.

        Args:
            rest: the target behind the public prefix: b"", or bytes that begin with "/" or "?".
            of: name of `rest` in error messages.

        Raises:
            BadRequest: the rule refuses a byte, or dot segments climb above the base path.

        >>> TargetRule().admit(b"?a"), TargetRule().admit(b"/a%2Fb;v=1//c|^?x={%20}")
        (b'?a', b'/a%2Fb;v=1//c|^?x={%20}')
        """
        if len(rest) <= LONGEST_REMEMBERED_TARGET:
            self._check_again(rest, of)
        else:
            self._check(rest, of)
        return rest

    def _check(self, rest: bytes, of: str) -> None:
        if self._suspect.search(rest):
            path, _, query = rest.partition(b"?")
            _refuse(self._path.search(path), f"the path of {of}")
            _refuse(self._query.search(query), f"the query of {of}")
            if climbs(path):
                raise BadRequest("the request target climbs above its service with '..'")


def _refuse(found: re.Match[bytes] | None, place: str) -> None:
    """Raise BadRequest with the byte and offset of a match, so that a client's author can find the mistake."""
    if found is None:
        return
    byte = found[0][0]
    what = "a '%' without two hexadecimal digits" if byte == _PERCENT else f"the byte 0x{byte:02X}"
    raise BadRequest(f"{place} holds {what} at offset {found.start()}; it must be sent as %{byte:02X}")


def websocket_target(rest: bytes, rule: TargetRule) -> bytes:
    """The path and query of a WebSocket route, to append to the base path.

    The upstream's path stands in the query parameter path, /ws/<service>?path=/room%3Fa=1&b=2, which is decoded once;
    other parameters are appended. Or the path stands in the route, /ws/<service>/room?a=1, and is forwarded unchanged.

    Args:
        rest: from split_route().
        rule: applied to `rest`, and to the decoded parameter path.

    Raises:
        BadRequest: path= stands twice, or does not begin with one slash; or the rule refuses a byte.

    >>> rule = TargetRule()
    >>> websocket_target(b"?path=/room%3Fa%3D1&b=%20", rule), websocket_target(b"/room?path=x", rule)
    (b'/room?a=1&b=%20', b'/room?path=x')
    """
    sent = rule.admit(rest)
    route, _, query = rest.partition(b"?")
    if route:
        return sent
    parameters = query.split(b"&") if query else []
    paths = [each[5:] for each in parameters if each.startswith(b"path=")]
    others = [each for each in parameters if not each.startswith(b"path=")]
    if len(paths) > 1:
        raise BadRequest("the query parameter path stands more than once")
    target = unquote_to_bytes(paths[0]) if paths and paths[0] else b"/"
    if not _ONE_SLASH.match(target):
        raise BadRequest("the query parameter path must begin with one slash")
    target = rule.admit(_NOT_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], target), "the query parameter path")
    appended = b"&".join(others)
    return target + (b"&" if b"?" in target else b"?") + appended if appended else target


def climbs(path: bytes) -> bool:
    """Whether dot segments, plain or encoded, lead above the start of the path as any server may read the path.

    Servers differ in what separates segments, and in whether parameters and empty segments count. So a segment counts
    as a step up if any server steps up, and as a step down only if every server steps down.

    >>> climbs(b"/a/../b"), climbs(b"/a/../../b"), climbs(b"/%2e%2E/b"), climbs(rb"/a/..%2f..%5cb")
    (False, True, True, True)
    >>> climbs(b"/a%2Fb/../.."), climbs(b"/..%3Bx/b")
    (True, True)
    """
    depth = 0
    for segment in path.split(b"/")[1:]:
        parts = [_PARAMETERS.sub(b"", each) for each in _SEPARATOR_OF_SOME.split(segment.lower().replace(b"%2e", b"."))]
        ups = parts.count(b"..")
        depth += -ups if ups else any(each not in (b"", b".") for each in parts)
        if depth < 0:
            return True
    return False
