"""Authorities of URLs and Host fields, and origins of pages: parsed, so that spelling does not matter when compared.

Sources: RFC 3986 §3.2.2 (hosts), §6.2.2.1 (case), §6.2.3 (default ports); RFC 6454 §4 (origins).
"""

import ipaddress
import re
from dataclasses import dataclass

from tornado_gateway.policy.http.target import DEFAULT_PORTS

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")  # RFC 3986 §3.1, in lower case
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and a port (RFC 3986 §3.2).

    Attributes:
        host: a name in lower case, or an address in canonical form, in brackets if IPv6. A dot at the end stays: to
            browsers `a.` and `a` are two hosts (WHATWG URL §3.5).
        port: 0 to 65535; None without a port.
    """

    host: str
    port: int | None

    def at(self, scheme: str) -> str:
        """The authority as text; the port is left out if it is the scheme's default.

        >>> Authority("a", 443).at("https"), Authority("a", 443).at("http"), Authority("a", None).at("http")
        ('a', 'a:443', 'a')
        """
        is_default = self.port is None or self.port == DEFAULT_PORTS.get(scheme)
        return self.host if is_default else f"{self.host}:{self.port}"


def parse_authority(text: str) -> Authority | None:
    """Parse `host` or `host:port`; None if the text is neither.

    >>> parse_authority("Example.COM:"), parse_authority("[2001:DB8:0::1]:443"), parse_authority("a:b")
    (Authority(host='example.com', port=None), Authority(host='[2001:db8::1]', port=443), None)
    """
    found = _AUTHORITY.fullmatch(text)
    host = _host(found[1]) if found else None
    if not found or not host:
        return None
    port = int(found[2]) if found[2] else None  # RFC 3986 §3.2.3: an empty port means the default port
    return Authority(host, port) if port is None or port <= 65535 else None


def _host(text: str) -> str | None:
    if not text.startswith("["):
        return text.lower()
    try:
        return f"[{ipaddress.IPv6Address(text[1:-1])}]"
    except ValueError:
        return None


def parse_origin(text: str) -> str | None:
    """Parse an origin into the spelling of browsers (RFC 6454 §6.2); None if the text is no origin, such as `null`.

    >>> parse_origin("HTTPS://App.Example.com:443"), parse_origin("http://[::0:1]:81"), parse_origin("null")
    ('https://app.example.com', 'http://[::1]:81', None)
    """
    scheme, mark, rest = text.lower().partition("://")
    authority = parse_authority(rest) if mark and _SCHEME.fullmatch(scheme) else None
    return f"{scheme}://{authority.at(scheme)}" if authority else None


def is_of_authority(origin: str, authority: str) -> bool:
    """Whether an origin has the same host and port as the authority of a request.

    The origin's scheme decides which port is the default, since a proxy in front of the gateway may end TLS.

    >>> is_of_authority("https://a", "A:443"), is_of_authority("http://a", "a:443"), is_of_authority("null", "null")
    (True, False, False)
    """
    page, scheme, asked = parse_origin(origin), origin.lower().partition("://")[0], parse_authority(authority)
    return bool(page and asked and scheme in DEFAULT_PORTS and page == f"{scheme}://{asked.at(scheme)}")
