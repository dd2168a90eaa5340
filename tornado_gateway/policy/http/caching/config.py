"""What a service can be configured with for the response cache."""

from dataclasses import dataclass
from enum import Enum

# Every parameter of the query, in CacheConfig.ignored_parameters.
EVERY_PARAMETER = "*"


class Scope(Enum):
    """Who shares a stored response."""

    PUBLIC = "public"  # everybody
    PRINCIPAL = "principal"  # each principal has stored responses of its own


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """How the responses of a service are cached.

    Attributes:
        is_on: whether responses are stored and reused at all.
        default_ttl: seconds for which a response that names no lifetime is fresh; 0: such a response is not stored.
        heuristic_share: share of the time since Last-Modified for which a response that names no lifetime is fresh
            (RFC 9111 §4.2.2), 0 to 1; 0: default_ttl counts instead.
        max_body: bytes of the largest body that is stored.
        scope: who shares a stored response.
        ignores_host: whether requests for different hosts share a response.
        ignored_parameters: names of query parameters that select no response; EVERY_PARAMETER alone for all.
        sorts_query: whether the order of the query's parameters selects no response.
        key_fields: names, in lower case, of request fields whose values select a response, whatever Vary says.
        lock_timeout: seconds that a request may wait for the answer to an earlier request for the same; 0: no request
            waits.
        grace: seconds beyond the lifetime for which a response may answer while the service is asked for a newer one.
        stale_if_error: seconds beyond the lifetime for which a response may answer instead of an error of the service.
        stores_cookies: whether responses with Set-Cookie are stored, and their cookies given to everybody.
        reads_surrogate: whether Surrogate-Control counts instead of Cache-Control.
        shows_key: whether Cache-Status tells the key.
        ignores_client: whether Cache-Control and Pragma of requests are ignored.
        passes_tags: whether clients get the fields with the tags of responses; see purge.py.
    """

    is_on: bool = False
    default_ttl: float = 5.0
    heuristic_share: float = 0.0
    max_body: int = 256 * 1024
    scope: Scope = Scope.PUBLIC
    ignores_host: bool = False
    ignored_parameters: tuple[str, ...] = ()
    sorts_query: bool = False
    key_fields: tuple[bytes, ...] = ()
    lock_timeout: float = 5.0
    grace: float = 0.0
    stale_if_error: float = 0.0
    stores_cookies: bool = False
    reads_surrogate: bool = False
    shows_key: bool = False
    ignores_client: bool = False
    passes_tags: bool = False

    @property
    def hides_tags(self) -> bool:
        """Whether clients do not get the tags. Without a cache here, another cache may need the tags."""
        return self.is_on and not self.passes_tags
