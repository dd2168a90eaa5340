"""Events of other workers: each text once."""

from tornado_gateway.policy.views.board import BAD, NOTE, Event
from tornado_gateway.policy.views.heard import AROUND, KEPT, Heard


def test_a_text_of_another_worker_is_told_once_unless_known_here() -> None:
    heard = Heard()
    heard.learn([[10.0, NOTE, "a"], [10.5, BAD, "b"]], [Event(9.0, NOTE, "a")])
    heard.learn([[11.0, BAD, "b"], [11.0, NOTE, "c"]], [])  # of a third worker
    assert heard.take() == [Event(10.5, BAD, "b"), Event(11.0, NOTE, "c")]
    assert heard.take() == []


def test_what_another_has_told_is_not_told_again_here_and_own_repetitions_are() -> None:
    heard = Heard()
    heard.learn([[10.0, NOTE, "a"]], [])
    own = [Event(10.0 + AROUND - 0.1, NOTE, "a"), Event(11.0, NOTE, "b"), Event(11.0, NOTE, "b")]
    assert heard.news_of(own) == own[1:]
    late = Event(10.0 + AROUND, NOTE, "a")
    assert heard.news_of([late]) == [late]


def test_the_memory_is_bounded() -> None:
    heard = Heard()
    heard.learn([[float(number), NOTE, str(number)] for number in range(2 * KEPT)], [])
    assert len(heard.take()) == KEPT
