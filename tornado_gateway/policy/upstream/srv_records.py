"""Records of type SRV as targets (RFC 2782).

Only the records of the lowest priority number count. The gateway knows no endpoints in reserve; breakers and health
checks take out what fails.
"""

from collections.abc import Iterable
from typing import NamedTuple

from tornado_gateway.policy.upstream.sources import Target, scaled


class Record(NamedTuple):
    """A record of type SRV."""

    priority: int
    weight: int
    port: int
    target: str


def targets_of(records: Iterable[Record]) -> tuple[Target, ...]:
    """The targets of records. The target "." says that there is no service (RFC 2782, "Target").

    >>> targets_of([Record(2, 1, 80, "spare."), Record(1, 60, 80, "a."), Record(1, 20, 81, "b.")])
    (Target(host='a', port=80, address='', weight=60), Target(host='b', port=81, address='', weight=20))
    """
    given = [each for each in records if each.target.rstrip(".") and each.port]
    first = min((each.priority for each in given), default=0)
    chosen = sorted(each for each in given if each.priority == first)
    chosen.sort(key=lambda each: (each.target, each.port))
    weights = scaled(each.weight for each in chosen)
    return tuple(
        Target(each.target.rstrip("."), each.port, "", share) for each, share in zip(chosen, weights, strict=True)
    )
