"""Limits of streams that hold for all workers."""

import pytest

from tests.policy.test_tally import memory
from tornado_gateway.errors import StreamLimitReached, TooManyStreams
from tornado_gateway.policy.http.address import of_peer
from tornado_gateway.policy.http.stream_limits import StreamCounts, StreamLimits
from tornado_gateway.policy.http.stream_tally import OthersStreams
from tornado_gateway.policy.tally import Tally

ONE, TWO = map(of_peer, ("192.0.2.1", "192.0.2.2"))


def counts(tally: Tally, worker: int, **limits: int) -> StreamCounts:
    return StreamCounts(StreamLimits(**limits), OthersStreams(tally.of(worker)))


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [({"total": 2}, StreamLimitReached), ({"per_service": 2}, StreamLimitReached), ({"per_client": 2}, TooManyStreams)],
)
def test_limits_hold_for_all_workers_together(limits: dict[str, int], refusal: type[Exception]) -> None:
    tally = Tally(memory(2 * 64), 2)
    one, other = (counts(tally, worker, **limits) for worker in (0, 1))
    one.take("chat", ONE)
    other.take("chat", ONE)
    for each in (one, other):
        with pytest.raises(refusal):
            each.take("chat", ONE)
    one.give_back("chat", ONE)
    other.take("chat", ONE)
    tally.forget(1)  # the worker has ended
    one.take("chat", ONE)
    one.take("chat", ONE)


def test_other_services_and_clients_are_not_in_the_way() -> None:
    tally = Tally(memory(2 * 64), 2)
    one, other = (counts(tally, worker, per_service=1, per_client=1) for worker in (0, 1))
    one.take("chat", ONE)
    other.take("mail", TWO)
    with pytest.raises(StreamLimitReached):
        other.take("chat", TWO)
