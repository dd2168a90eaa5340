"""What a gateway of several workers cannot do: the start is refused, so that nothing counts or admits per worker."""

from collections.abc import Iterator

from tornado_gateway.config.problems import Problem
from tornado_gateway.config.settings import Settings

_ALONE = "WEB_CONCURRENCY=1"


def problems_of_workers(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each setting whose counts workers do not share; no problem for a gateway of one process."""
    if settings.workers == 1:
        return
    if any(each.in_flight for each in settings.limit_configs):
        yield _problem("MAX_IN_FLIGHT_PER_CLIENT", "counts of requests in flight")


def _problem(variables: str, what: str) -> Problem:
    return Problem(variables, "", f"with WEB_CONCURRENCY above 1, {what} are not shared", _ALONE)
