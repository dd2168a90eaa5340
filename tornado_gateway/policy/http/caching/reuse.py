"""Whether a stored response may answer a request without the service (RFC 9111 §4), and when a failure lets it."""

from enum import Enum

from tornado_gateway.policy.http.caching.directives import MAX_AGE, NO_CACHE, NONE, STALE_IF_ERROR, Directives
from tornado_gateway.policy.http.caching.terms import Terms

ONLY_IF_CACHED = b"only-if-cached"
_MIN_FRESH, _MAX_STALE = b"min-fresh", b"max-stale"

# Statuses that count as an error of the origin (RFC 5861 §4).
ERRORS = frozenset((500, 502, 503, 504))


class Reuse(Enum):
    """What a stored response is good for.

    Attributes:
        answers: whether the stored response may be used as it is.
    """

    FRESH = "fresh", True
    STALE = "stale", True  # the client accepts a stale response
    REVALIDATING = "revalidating", True  # stale, and may be used while a request in the background validates it
    UNFRESH = "unfresh", False  # fresh, and the client wants a newer one; or needs a validation anyway
    EXPIRED = "expired", False  # stale

    def __init__(self, text: str, answers: bool) -> None:
        self.answers = answers


def reuse(terms: Terms, age: float, asked: Directives, grace: float = 0.0) -> Reuse:
    """What a stored response is good for, by its terms and by the directives of a request.

    Args:
        age: of the response, in seconds.
        grace: seconds beyond the lifetime for which the operator allows what stale-while-revalidate allows.
    """
    left = terms.lifetime - age
    if asked is NONE and left > 0 and not terms.needs_validation:  # as nearly every time
        return Reuse.FRESH
    if terms.needs_validation or NO_CACHE in asked or _wants_newer(left, age, asked):
        # RFC 9111 §5.2.2.4, §5.2.1.4, §5.2.1.1, §5.2.1.3
        return Reuse.UNFRESH if left > 0 else Reuse.EXPIRED
    if left > 0:  # RFC 9111 §4.2: fresh while the lifetime exceeds the age
        return Reuse.FRESH
    if terms.forbids_stale:  # RFC 9111 §4.2.4
        return Reuse.EXPIRED
    if _accepts_stale(-left, asked):
        return Reuse.STALE
    # RFC 5861 §3
    return Reuse.REVALIDATING if -left < max(terms.stale_while_revalidate, grace) else Reuse.EXPIRED


def _wants_newer(left: float, age: float, asked: Directives) -> bool:
    """RFC 9111 §5.2.1.1 and §5.2.1.3."""
    max_age, min_fresh = asked.seconds(MAX_AGE), asked.seconds(_MIN_FRESH)
    return (max_age is not None and age > max_age) or (min_fresh is not None and left < min_fresh)


def _accepts_stale(staleness: float, asked: Directives) -> bool:
    """RFC 9111 §5.2.1.2: max-stale without an argument accepts any staleness."""
    if _MAX_STALE not in asked:
        return False
    return asked.arguments[_MAX_STALE] == (None,) or staleness <= (asked.seconds(_MAX_STALE) or 0.0)


def survives_error(terms: Terms, age: float, asked: Directives, at_least: float) -> bool:
    """Whether a stored response may answer instead of an error of the service (RFC 5861 §4, RFC 9111 §4.2.4).

    Args:
        age: of the response, in seconds.
        at_least: seconds beyond the lifetime for which the operator allows that.
    """
    if terms.needs_validation or terms.forbids_stale or NO_CACHE in asked:
        return False
    allowed = max(terms.stale_if_error, asked.seconds(STALE_IF_ERROR) or 0.0, at_least)
    return age - terms.lifetime < allowed
