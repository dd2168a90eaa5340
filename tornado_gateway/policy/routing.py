"""The route table: which handler serves a request target, with which methods, and for whom."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tornado_gateway.errors import METHODS

# RFC 9110 §9.3.6 and §9.3.8: a gateway serves neither tunnels nor echoes.
REFUSED_METHODS = (b"TRACE", b"CONNECT")

_SERVICE = "<service>"

H_co = TypeVar("H_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Route(Generic[H_co]):
    """A row of the route table.

    Attributes:
        path: as documents and metrics name the route; "/prefix/<service>..." for a proxied route.
        handler: what serves the route.
        methods: served methods; () for every method but REFUSED_METHODS.
        needs_token: whether a client needs a token where AUTH_REQUIRED is set.
        answers_options: whether the gateway answers OPTIONS itself. The answer names the methods and nothing else, and
            needs no token: a browser sends no credential with a preflight (Fetch §4.8).
    """

    path: str
    handler: H_co
    methods: tuple[bytes, ...] = ()
    needs_token: bool = True
    answers_options: bool = False

    @functools.cached_property
    def prefix(self) -> bytes:
        """The prefix of a proxied route's targets; b"" for a page's route.

        >>> Route(path="/api/<service>/*", handler=None).prefix
        b'/api/'
        """
        before, found, _ = self.path.partition(_SERVICE)
        return before.encode("ascii") if found else b""

    @property
    def allowed(self) -> tuple[str, ...]:
        """The methods that an Allow field names (RFC 9110 §10.2.1)."""
        return tuple(each.decode("ascii") for each in self.methods) or METHODS

    @property
    def methods_text(self) -> str:
        """The methods for documents: "ANY" if not limited.

        >>> route = Route(path="/page", handler=None, methods=(b"GET", b"HEAD"))
        >>> route.methods_text, Route(path="/api/<service>/*", handler=None).methods_text
        ('GET, HEAD', 'ANY')
        """
        return ", ".join(self.allowed) if self.methods else "ANY"


def by_prefix(routes: Iterable[Route[H_co]]) -> dict[bytes, Route[H_co]]:
    """Proxied routes by prefix. If several routes share a prefix, the last is used, and labels the metrics."""
    return {route.prefix: route for route in routes}
