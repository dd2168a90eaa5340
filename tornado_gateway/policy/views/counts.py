"""Counts since the start that the dashboard shows: what was refused, what the cache did, and what credentials did."""

from collections import Counter
from collections.abc import Iterator

from tornado_gateway.policy.views.state import State

MOST = 60  # rows, so that a list of many limits stays small: the greatest counts

Count = tuple[str, str, int]  # a group, what is counted, and the count


def counts_of(state: State) -> list[Count]:
    """The counts that are not 0, the greatest of each group first."""
    found = [each for each in _all(state) if each[2]]
    kept = sorted(found, key=lambda each: -each[2])[:MOST]
    return sorted(kept, key=lambda each: (each[0], -each[2], each[1]))


def _all(state: State) -> Iterator[Count]:
    for key, count in state.limits.limited.items():
        outcome, policy = key.split(" ", 1)
        yield "Rate limits", f"{policy}: {outcome}", count
    yield "Rate limits", "clients that are counted", state.limits.keys
    for priority, count in state.process.shed.items():
        yield "Overload", f"class {priority}: shed", count
    results: Counter[str] = Counter()
    for key, count in state.cache.results.items():
        results[key.partition(" ")[0]] += count
    for result, count in results.items():
        yield "Cache", result, count
    yield "Cache", "stored responses", state.cache.responses
    yield "Cache", "bytes", state.cache.bytes
    yield "Credentials", "accepted", state.process.authenticated
    for end, count in state.process.tickets.items():
        yield "Credentials", f"tickets {end}", count
    yield "Credentials", "revocations", state.process.revocations
