"""The URL of a Redis, of Sentinels or of a cluster, which may name several places: `redis+cluster://a:7000,[::1]:7001`.

urllib's urlsplit() is asked about one place at a time: versions of Python differ in whether they take a list of places
that has an IPv6 address behind the first.
"""

import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<places>[^/?#]*)(?P<tail>.*)")


class RedisUrl(NamedTuple):
    """A URL in parts.

    Attributes:
        scheme: in lower case; "" for a text that is no URL.
        user: user and password, with the "@"; "" for none.
        places: each a host, an address or [an IPv6 address], with or without ":" and a port.
        tail: path and query.
    """

    scheme: str
    user: str
    places: tuple[str, ...]
    tail: str

    def of_place(self, place: str, scheme: str) -> str:
        """The URL of one place."""
        return f"{scheme}://{self.user}{place}{self.tail}"

    @property
    def is_valid(self) -> bool:
        """Whether each place has a port of 0 to 65535, if any, and an IPv6 address in brackets, if there are brackets.

        The other methods raise ValueError for other places.
        """
        try:
            return bool(self.addresses(0))
        except ValueError:
            return False

    @property
    def first(self) -> SplitResult:
        """The URL of the first place, in parts."""
        return urlsplit(self.of_place(self.places[0], self.scheme))

    def addresses(self, default_port: int) -> list[tuple[str, int]]:
        """Host and port of each place."""
        parts = [urlsplit(f"//{place}") for place in self.places]
        return [(each.hostname or "", each.port or default_port) for each in parts]


def split_url(url: str) -> RedisUrl:
    """Take a URL apart.

    >>> split_url("redis+cluster://:secret@a:7000,[::1]:7001/0?x=1")
    RedisUrl(scheme='redis+cluster', user=':secret@', places=('a:7000', '[::1]:7001'), tail='/0?x=1')
    >>> split_url("redis+sentinel://a,[::1]:7001/name").addresses(26379)
    [('a', 26379), ('::1', 7001)]
    """
    found = _URL.fullmatch(url)
    if not found:
        return RedisUrl("", "", ("",), url)
    user = "" if found["user"] is None else f"{found['user']}@"
    return RedisUrl(found["scheme"].lower(), user, tuple(found["places"].split(",")), found["tail"])
