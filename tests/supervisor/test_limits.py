"""The counters in the supervisor. What workers make of the answers: tests/adapters/test_supervisor_limits.py."""

from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.supervisor.limits import SharedCounters

OLD, NEW = (Rule(name, name, Quota(1, 60.0), "gcra") for name in ("old", "new"))


def test_a_reload_changes_the_rules_and_counters_of_rules_that_stay_stay() -> None:
    now = 1000.0
    counters = SharedCounters([OLD], lambda: now)
    assert counters.judge([]) == []
    assert counters.judge([[0, "new", "ada"]]) == [None]
    ((first,),) = [counters.judge([[0, "old", "ada"]])]
    assert first is not None and first[:2] == [0.0, 0]
    counters.learn([NEW])
    answers = counters.judge([[0, "old", "ada", "new", "ada"], [3, "new", "bob"], [0, "new", "bob"]])
    assert answers[0] is not None and (answers[0][0] > 0, answers[0][4]) == (True, 0.0)
    assert answers[1] is None
    assert answers[2] is not None and answers[2][0] > 60
    assert counters.state.keys == 2
    counters.use([NEW])
    assert (counters.judge([[0, "old", "ada"]]), counters.state.keys) == ([None], 1)
    now += 3600
    counters.sweep(now)
    assert counters.state.keys == 0
