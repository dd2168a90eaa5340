"""What a response cache has done since the start, for the metrics."""

from collections import defaultdict

# Results of looks into the cache. A look that finds nothing useful has the word of Cache-Status (RFC 9211 §2.2).
HIT, REFRESHING, ABSENT, COLLAPSED = "hit", "refreshing", "only-if-cached", "collapsed"
REFRESHED, UNREFRESHED = "refreshed", "unrefreshed"

# Results that count beside the result of a look.
BESIDE = frozenset((COLLAPSED, REFRESHED, UNREFRESHED))


class CacheTotals:
    """Counts of requests that looked into a cache.

    Attributes:
        results: by service and result. HIT: a fresh stored response answered. REFRESHING: a stale stored response
            answered, and is validated in the background. ABSENT: a 504, because the client wants no request to the
            service. BESIDE the result of a look: COLLAPSED: another request's answer was shared; REFRESHED or
            UNREFRESHED: a request in the background succeeded or failed.
        saved: bytes of bodies that clients got from stored responses.
        purges: orders to purge.
        purged: responses that these have purged.
    """

    def __init__(self) -> None:
        self.results: defaultdict[tuple[str, str], int] = defaultdict(int)  # a Counter counts at half the speed
        self.saved = self.purges = self.purged = 0
