"""The counters of rate limits of a gateway of several workers; see adapters/supervisor_limits.py for the messages."""

import random
from collections.abc import Callable, Iterable, Sequence

from tornado_gateway.policy.limits.memory import Asked, MemoryStore
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.views.state import LimitsState


class SharedCounters:
    """Counts the requests of all workers.

    Args:
        now: seconds on a monotonic clock.
    """

    def __init__(self, rules: Iterable[Rule], now: Callable[[], float]) -> None:
        self._now = now
        self._store = MemoryStore(random.Random())  # noqa: S311  # a choice of keys is no secret
        self._rules = {each.id: each for each in rules}

    @property
    def state(self) -> LimitsState:
        """The figures of the counters."""
        return LimitsState(keys=len(self._store), dropped=self._store.dropped)

    def learn(self, rules: Iterable[Rule]) -> None:
        """Know further rules, which workers are about to use."""
        self._rules |= {each.id: each for each in rules}

    def use(self, rules: Iterable[Rule]) -> None:
        """Know these rules alone."""
        self._rules = {each.id: each for each in rules}
        self._store.keep(self._rules)

    def sweep(self, now: float) -> None:
        """See MemoryStore.sweep()."""
        self._store.sweep(now)

    def judge(self, said: Sequence[Sequence[int | str]]) -> list[list[float] | None]:
        """Judge a batch of requests."""
        now = self._now()
        return [self._judge(cost, parts, now) for cost, *parts in said]  # type: ignore[arg-type]  # of JSON

    def _judge(self, cost: int, parts: Sequence[str], now: float) -> list[float] | None:
        ids, keys = parts[::2], parts[1::2]
        if not all(each in self._rules for each in ids):
            return None
        asked = [Asked(self._rules[id_], key) for id_, key in zip(ids, keys, strict=True)]
        if cost:
            self._store.charge(asked, cost, now)
            return None
        return [number for _, judgement in self._store.take(asked, now) for number in judgement[:4]]
