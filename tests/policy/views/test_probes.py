"""What load balancers and people hear of several workers."""

from typing import Any

import pytest

from tornado_gateway.policy.views.probes import pressure_of_all, readiness_of_all

READY, DRAINING, STARTING = ({"status": each} for each in ("ready", "draining", "starting"))
OUT = {"status": "unavailable", "services": ["billing"]}


@pytest.mark.parametrize(
    ("own", "others", "alone", "said", "answered", "ready"),
    [
        (READY, [READY], False, READY, 2, 2),
        (READY, [STARTING], False, READY, 2, 1),
        (READY, [], False, READY, 1, 1),  # of a worker that hangs, and of a supervisor that is silent
        (OUT, [READY], False, OUT, 2, 1),  # the worker that answers could not serve the next request
        (READY, [OUT], False, READY, 2, 1),
        (DRAINING, [DRAINING], False, DRAINING, 2, 0),
        (DRAINING, [READY], False, DRAINING, 2, 1),  # all were told to drain, and one has not heard yet
        (DRAINING, [READY], True, READY, 2, 1),  # the others go on at the same address
        (DRAINING, [DRAINING], True, DRAINING, 2, 0),
        (DRAINING, [STARTING], True, DRAINING, 2, 0),
        (OUT, [READY], True, OUT, 2, 1),
    ],
)
def test_the_worker_that_answers_must_be_ready_unless_it_leaves_alone(
    own: Any, others: Any, alone: bool, said: Any, answered: int, ready: int
) -> None:
    found = readiness_of_all(own, others, 2, leaves_alone=alone)
    assert found == {**said, "workers": {"of": 2, "answered": answered, "ready": ready}}


def figures(number: int, **others: Any) -> dict[str, Any]:
    return {
        "status": "ok", "shedding": [], "shedTotal": number, "eventLoopDelay": {"p50Ms": number, "p99Ms": 9 - number},
        "rssBytes": 100 * number, "active": {"requests": number, "webSockets": 0}, "bufferedBytes": number,
        "descriptors": {"used": 10 * number, "allowed": 100}, "acceptQueue": {"waiting": 3, "limit": 128}, **others,
    }  # fmt: skip


def test_figures_are_added_and_of_what_cannot_be_added_the_worst_is_told() -> None:
    one, two = figures(1, status="overloaded", shedding=["low_stream"]), figures(2)
    assert pressure_of_all(0, {1: two, 0: one}, 3) == {
        "status": "overloaded", "shedding": ["low_stream"], "shedTotal": 3,
        "eventLoopDelay": {"p50Ms": 2, "p99Ms": 8}, "rssBytes": 300, "active": {"requests": 3, "webSockets": 0},
        "bufferedBytes": 3, "descriptors": {"used": 20, "allowed": 100}, "acceptQueue": {"waiting": 3, "limit": 128},
        "workers": {"of": 3, "answered": 2, "each": [{"worker": 1, **one}, {"worker": 2, **two}]},
    }  # fmt: skip
    assert pressure_of_all(1, {1: two, 0: one}, 3)["status"] == "ok"


def test_what_a_system_does_not_tell_is_not_told_and_the_heap_is_added() -> None:
    heaps = [figures(each, rssBytes=None, heap={"mallocBytes": None, "pymallocBlocks": each}) for each in (1, 2)]
    for each in heaps:
        each["descriptors"]["used"] = None
    said = pressure_of_all(0, dict(enumerate(heaps)), 2)
    assert (said["rssBytes"], said["heap"]) == (None, {"mallocBytes": None, "pymallocBlocks": 3})
    assert said["descriptors"] == {"used": None, "allowed": 100}
