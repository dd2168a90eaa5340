"""What /readyz and /_pressure say of several workers, whichever worker answers.

Readiness is that of the worker that answers: another worker cannot serve the next request of the same connection. One
worker that leaves alone is no reason to send requests elsewhere, as long as another worker is ready: the workers share
an address. The numbers of the answer tell how many workers are ready.

Pressure, too, is that of the worker that answers as far as `status` and `shedding` go, because each worker sheds by its
own figures. All other figures are those of all workers: sums, and of what cannot be added, the worst.

A worker that does not answer in time is left out, and the numbers of the answer say so.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

READY, DRAINING, UNAVAILABLE, STARTING = "ready", "draining", "unavailable", "starting"
OF_THE_ONE = ("status", "shedding", "acceptQueue")  # figures that are not added; all workers have the same queue

Figures = Mapping[str, Any]


def readiness_of_all(own: Figures, others: Collection[Figures], count: int, *, leaves_alone: bool) -> dict[str, Any]:
    """The readiness of a gateway.

    Args:
        own: what the worker that answers says of itself: `status`, and with UNAVAILABLE the `services` that are out.
        others: what other workers say.
        count: number of the workers.
        leaves_alone: whether the worker drains, and the gateway does not.

    >>> readiness_of_all({"status": "draining"}, [{"status": "ready"}], 2, leaves_alone=True)
    {'status': 'ready', 'workers': {'of': 2, 'answered': 2, 'ready': 1}}
    """
    ready = sum(each["status"] == READY for each in (own, *others))
    said = {"status": READY} if leaves_alone and own["status"] == DRAINING and ready else own
    return {**said, "workers": {"of": count, "answered": 1 + len(others), "ready": ready}}


def pressure_of_all(own: int, figures: Mapping[int, Figures], count: int) -> dict[str, Any]:
    """The figures of a gateway, and those of each worker that has answered.

    Args:
        own: number of the worker that answers, whose figures are among the others.
        figures: of each worker, by its number from 0 on.
        count: number of the workers.
    """
    numbers = sorted(figures)
    each = [figures[number] for number in numbers]
    return {
        **_together(figures[own], each),
        "workers": {
            "of": count,
            "answered": len(each),
            "each": [{"worker": number + 1, **figures[number]} for number in numbers],
        },
    }


def _together(own: Figures, each: Collection[Figures]) -> dict[str, Any]:
    merged = {name: _sum([one[name] for one in each]) for name in own if name not in OF_THE_ONE}
    return {**own, **merged, "eventLoopDelay": _worst_delay(each), "descriptors": _fewest_left(each)}


def _sum(values: list[Any]) -> Any:
    """The sum of numbers, or the sums by key of objects; None if no worker knows the number."""
    if isinstance(values[0], Mapping):
        return {key: _sum([each[key] for each in values]) for key in values[0]}
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _worst_delay(each: Iterable[Figures]) -> dict[str, float]:
    delays = [one["eventLoopDelay"] for one in each]
    return {name: max(delay[name] for delay in delays) for name in delays[0]}


def _fewest_left(each: Iterable[Figures]) -> Any:
    """The descriptors of the worker with the largest part in use: every process has a limit of its own."""
    return max((one["descriptors"] for one in each), key=lambda said: (said["used"] or 0) / said["allowed"])
