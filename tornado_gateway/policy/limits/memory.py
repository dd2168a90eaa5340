"""The counters of one process: bounded, and swept piece by piece.

Each rule has a table from key to state. A state that says no more than the state of an unknown client is dropped by the
sweep. When the store is full, a new key takes the place of another key: of SAMPLE keys the key that has used the least
of its limit. So a flood of made-up keys pushes out keys of the flood:

    * a client that is refused stays refused: such a key is dropped only if all keys of the sample have used as much;
    * a client whose key was dropped has its whole limit again, and is never refused for that reason;
    * each drop is counted, and the metrics show the count.
"""

import math
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tornado_gateway.policy.limits.algorithms import SECOND
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.limits.verdict import Verdict

MAX_KEYS = 1_000_000  # measured with IPv4 addresses: 144 MiB with gcra, 186 MiB with sliding
SAMPLE = 8  # keys; with half of the store spent, one drop in 256 meets spent keys only
SWEPT_AT_ONCE = 2_000  # keys of one sweep: 1 to 3 ms; a full store is swept in some 4 minutes


class Asked(NamedTuple):
    """A rule, and the key of the request under the rule."""

    rule: Rule
    key: str


class _Table:
    """The states of a rule's clients.

    Attributes:
        states: by key.
        ring: the keys of `states` in no order; sweeps go around.
    """

    __slots__ = ("at", "ring", "rule", "states")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.states: dict[str, int | bytes] = {}
        self.ring: list[str] = []
        self.at = 0

    def least_loaded(self, now: int, rng: random.Random) -> int:
        """The place in the ring of the key, of SAMPLE random keys, that has used the least of its limit."""
        size, load = len(self.ring), self.rule.algorithm.load
        places = [int(rng.random() * size) for _ in range(SAMPLE)]
        return min(places, key=lambda place: load(self.states[self.ring[place]], now))

    def drop(self, place: int) -> None:
        """Drop the key at a place of the ring; the last key of the ring takes the place."""
        last = self.ring.pop()
        if place < len(self.ring):
            last, self.ring[place] = self.ring[place], last
        del self.states[last]

    def sweep(self, now: int, keys: int) -> int:
        """Drop those of the next keys that have used nothing of their limit; return how many were dropped.

        Args:
            keys: at most as many as there are.
        """
        load, before = self.rule.algorithm.load, len(self.ring)
        for _ in range(keys):
            if self.at >= len(self.ring):
                self.at = 0
            if load(self.states[self.ring[self.at]], now):
                self.at += 1
            else:
                self.drop(self.at)
        return before - len(self.ring)


class MemoryStore:
    """Counts requests in memory.

    Args:
        rng: chooses the samples.
        max_keys: greatest number of keys of all rules together; ≥ 1.

    Attributes:
        shortest_timeout: seconds; the sweep enforces no timeout.
        dropped: keys that were dropped before their limit was whole again, because the store was full.
    """

    shortest_timeout = math.inf

    def __init__(self, rng: random.Random, max_keys: int = MAX_KEYS) -> None:
        self._rng = rng
        self._max_keys = max_keys
        self._tables: dict[str, _Table] = {}
        self._next = 0  # index of the table that the next sweep begins with
        self._size = 0
        self.dropped = 0

    def __len__(self) -> int:
        """The number of keys."""
        return self._size

    def take(self, asked: Sequence[Asked], now: float) -> list[Verdict]:
        """Count a request if all rules admit the request; count nothing otherwise.

        Args:
            now: seconds on a monotonic clock.
        """
        if len(asked) == 1:
            return [self.take_alone(*asked[0], now)]
        at, is_admitted = int(now * SECOND), True
        verdicts: list[Verdict] = []
        states = []
        for rule, key in asked:
            table = self._tables.get(rule.id) or self._new_table(rule)
            judgement = rule.algorithm.judge(table.states.get(key, rule.algorithm.fresh), at)
            verdicts.append((rule, judgement))
            states.append((table, key, judgement.state))
            if judgement.wait:
                is_admitted = False
        if is_admitted:
            for table, key, state in states:
                if key in table.states:
                    table.states[key] = state
                else:
                    self._add(table, key, state, at)
        return verdicts

    def take_alone(self, rule: Rule, key: str, now: float) -> Verdict:
        """Ask one rule: the usual case, without the lists of take()."""
        table, algorithm, at = self._tables.get(rule.id) or self._new_table(rule), rule.algorithm, int(now * SECOND)
        states = table.states
        state = states.get(key)
        judgement = algorithm.judge(algorithm.fresh if state is None else state, at)
        if not judgement.wait:
            if state is None:
                self._add(table, key, judgement.state, at)
            else:
                states[key] = judgement.state
        return rule, judgement

    def charge(self, asked: Sequence[Asked], cost: int, now: float) -> None:
        """Count `cost` more requests, even above the limits."""
        at = int(now * SECOND)
        for rule, key in asked:
            table = self._tables.get(rule.id) or self._new_table(rule)
            state = rule.algorithm.charge(table.states.get(key, rule.algorithm.fresh), at, cost)
            if key in table.states:
                table.states[key] = state
            else:
                self._add(table, key, state, at)

    def sweep(self, now: float) -> None:
        """Drop keys that have used nothing of their limit, among the next SWEPT_AT_ONCE keys."""
        at, tables = int(now * SECOND), list(self._tables.values())
        left, first = SWEPT_AT_ONCE, self._next % max(1, len(tables))
        for table in tables[first:] + tables[:first]:
            keys = min(left, len(table.ring))
            self._size -= table.sweep(at, keys)
            left -= keys
        self._next = first + 1

    def keep(self, ids: Collection[str]) -> None:
        """Forget the counters of all rules but those with these ids."""
        gone = [each for each in self._tables if each not in ids]
        self._size -= sum(len(self._tables.pop(each).ring) for each in gone)

    def _new_table(self, rule: Rule) -> _Table:
        table = self._tables[rule.id] = _Table(rule)
        return table

    def _add(self, table: _Table, key: str, state: int | bytes, now: int) -> None:
        if self._size >= self._max_keys:
            self._make_room(table, now)
        table.ring.append(key)
        table.states[key] = state
        self._size += 1

    def _make_room(self, table: _Table, now: int) -> None:
        """Drop a key: of the rule that has a new key, or of the rule with the most keys."""
        if len(table.ring) < SAMPLE:
            table = max(self._tables.values(), key=lambda each: len(each.ring))
        place = table.least_loaded(now, self._rng)
        if table.rule.algorithm.load(table.states[table.ring[place]], now):
            self.dropped += 1
        table.drop(place)
        self._size -= 1
