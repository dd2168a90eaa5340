"""Numbers by name in memory that all workers of a gateway share, so that a limit holds for the whole.

Each worker has a part of the memory, and writes there alone. A part is a hash table with linear probing:

    hash of a name │ number    hash of a name │ number    ...

A worker looks up names in the parts of all others. No worker waits for another: two workers that take the last place
within the same microseconds both get the place.

A name is anything that Python can hash. Workers are forked, so all have the same random seed of hash(): each gets the
same hash, and nobody outside can make up names with the same hash. The hash has 63 bits, so that two names of a million
share a hash once in ten million gateways.
"""

from collections.abc import Hashable

# Places of a worker, a power of two; a used place takes 16 bytes of memory. Half of the places stay empty, so that
# probes are short: further names are counted by their worker alone.
PLACES = 1 << 17
_63_BITS = (1 << 63) - 1


class Part:
    """The numbers of a worker.

    Args:
        memory: of PLACES pairs of numbers, all zero.
    """

    def __init__(self, memory: "memoryview[int]", places: int = PLACES) -> None:
        self._memory, self._mask = memory, places - 1
        self._names = 0

    def get(self, hashed: int) -> int:
        """The number of a name."""
        at = self._find(hashed)
        return self._memory[2 * at + 1] if self._memory[2 * at] else 0

    def add(self, hashed: int, change: int) -> None:
        """Change the number of a name; a name whose number is 0 leaves the table."""
        memory, at = self._memory, self._find(hashed)
        if not memory[2 * at]:
            if change < 0 or 2 * self._names > self._mask:
                return
            self._names += 1
            memory[2 * at + 1] = 0
            memory[2 * at] = hashed
        memory[2 * at + 1] += change
        if memory[2 * at + 1] <= 0:
            self._names -= 1
            self._remove(at)

    def clear(self) -> None:
        """Forget all numbers."""
        self._memory[:] = memoryview(bytes(self._memory.nbytes)).cast("q")
        self._names = 0

    def _find(self, hashed: int) -> int:
        """The place of a name, or the empty place where a new name goes."""
        memory, mask = self._memory, self._mask
        at = hashed & mask
        while memory[2 * at] not in (0, hashed):
            at = (at + 1) & mask
        return at

    def _remove(self, hole: int) -> None:
        """Empty a place, and move names behind it so that each is found (Knuth, 6.4, algorithm R)."""
        memory, mask = self._memory, self._mask
        at = hole
        while memory[2 * (at := (at + 1) & mask)]:
            home = memory[2 * at] & mask
            if (at - home) & mask >= (at - hole) & mask:
                memory[2 * hole + 1] = memory[2 * at + 1]
                memory[2 * hole] = memory[2 * at]
                hole = at
        memory[2 * hole] = 0


class Tally:
    """The numbers of all workers.

    Args:
        memory: of `workers` parts of PLACES pairs of numbers, all zero.
    """

    def __init__(self, memory: "memoryview[int]", workers: int) -> None:
        size = len(memory) // workers
        self._parts = [Part(memory[at : at + size], size // 2) for at in range(0, workers * size, size)]

    def forget(self, worker: int) -> None:
        """A worker has ended, and so has what it has counted."""
        self._parts[worker].clear()

    def of(self, worker: int) -> "Others":
        """What a worker uses."""
        return Others(self._parts[worker], [each for each in self._parts if each is not self._parts[worker]])


class Others:
    """The sums of the other workers' numbers; a worker adds its own changes for the other workers to read."""

    def __init__(self, own: Part, others: list[Part]) -> None:
        self._own, self._others = own, others

    def add(self, name: Hashable, change: int) -> None:
        """Tell the others of a change here."""
        self._own.add(_hash(name), change)

    def number(self, name: Hashable) -> int:
        """The number of the others."""
        hashed, number = _hash(name), 0
        for part in self._others:
            number += part.get(hashed)
        return number


def _hash(name: Hashable) -> int:
    return hash(name) & _63_BITS or 1
