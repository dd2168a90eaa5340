"""What several workers cannot do is refused at the start, with the name of the variable."""

import json

import pytest

from tornado_gateway.config.load import load_settings
from tornado_gateway.config.problems import ConfigurationError

KEY = "k" * 32
REDIS = {"REDIS_URL": "redis://127.0.0.1"}
UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
CASES = [
    ("RELOAD_WATCH", {"RELOAD_WATCH": "true"}, False),
    ("MAX_STREAMS", {"MAX_STREAMS": "5"}, False),
    ("MAX_STREAMS_PER_CLIENT", {"MAX_STREAMS_PER_CLIENT": "5"}, False),
    ("MAX_IN_FLIGHT_PER_CLIENT", {"MAX_IN_FLIGHT_PER_CLIENT": "5"}, False),
    ("AUTH_TOKEN_SOURCES", {"JWT_SECRET": KEY, "AUTH_TOKEN_SOURCES": "header,ticket"}, True),
    ("RATE_LIMIT_MAX", {"RATE_LIMIT_MAX": "5"}, True),
    ("CACHE_ENABLED", {"CACHE_ENABLED": "true"}, True),
]


@pytest.mark.parametrize(("named", "given", "redis_helps"), CASES)
def test_what_workers_do_not_share_is_refused(named: str, given: dict[str, str], *, redis_helps: bool) -> None:
    env = {"UPSTREAMS": UPSTREAMS, **given}
    assert load_settings(env).workers == 1
    with pytest.raises(ConfigurationError) as refused:
        load_settings({**env, "WEB_CONCURRENCY": "2"})
    (problem,) = refused.value.problems
    assert named in problem.variable.split(", ")
    assert "WEB_CONCURRENCY=1" in problem.allowed
    if redis_helps:
        assert load_settings({**env, **REDIS, "WEB_CONCURRENCY": "2"}).workers == 2


def test_workers_that_share_nothing_start() -> None:
    assert load_settings({"UPSTREAMS": UPSTREAMS, "WEB_CONCURRENCY": "3"}).workers == 3
