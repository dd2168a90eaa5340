"""What several workers cannot do is refused at the start, with the name of the variable."""

import json

import pytest

from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError

UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
CASES = [
    ("MAX_IN_FLIGHT_PER_CLIENT", {"MAX_IN_FLIGHT_PER_CLIENT": "5"}),
]


@pytest.mark.parametrize(("named", "given"), CASES)
def test_what_workers_do_not_share_is_refused(named: str, given: dict[str, str]) -> None:
    env = {"UPSTREAMS": UPSTREAMS, **given}
    assert load_settings(env).workers == 1
    with pytest.raises(ConfigurationError) as refused:
        load_settings({**env, "WEB_CONCURRENCY": "2"})
    (problem,) = refused.value.problems
    assert named in problem.variable.split(", ")
    assert "WEB_CONCURRENCY=1" in problem.allowed


def test_workers_that_share_nothing_start() -> None:
    assert load_settings({"UPSTREAMS": UPSTREAMS, "WEB_CONCURRENCY": "3"}).workers == 3
