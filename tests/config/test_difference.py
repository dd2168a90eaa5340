"""What differs between two configurations, in words."""

import json

import pytest

from tornado_gateway.config.difference import difference, differing
from tornado_gateway.config.load import load_settings
from tornado_gateway.config.settings import Settings

URL, OTHER = "http://10.0.0.7:9000", "http://10.0.0.8:9000"


def settings(services: dict[str, object] | None = None, **variables: str) -> Settings:
    return load_settings({"UPSTREAMS": json.dumps(services or {"svc": [URL]}), **variables})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {}, []),
        ({}, {"BREAKER_FAILURES": "3"}, ["BREAKER_FAILURES 5 -> 3"]),
        ({"BREAKER_FAILURES": "3"}, {}, ["BREAKER_FAILURES 3 -> 5"]),
        ({}, {"MAX_BODY_BYTES": "3"}, ["MAX_BODY_BYTES unset -> 3"]),
        ({"JWT_SECRET": "a"}, {"JWT_SECRET": "b"}, ["JWT_SECRET changed"]),
        ({}, {"JWT_SECRET": "b"}, ["JWT_SECRET unset -> ********"]),
        ({}, {"JWT_ISSUER": "i" * 99}, [f"JWT_ISSUER unset -> {'i' * 57}..."]),
    ],
)
def test_variables(before: dict[str, str], after: dict[str, str], told: list[str]) -> None:
    assert difference(settings(**before), settings(**after)) == told


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"svc": [URL]}, {"svc": [{"url": URL, "weight": 1}]}, []),
        ({"svc": [URL]}, {"svc": [URL], "a": [URL], "b": [URL, OTHER]},
         ["service a: new, 1 endpoint", "service b: new, 2 endpoints"]),
        ({"svc": [URL], "a": [URL]}, {"svc": [URL]}, ["service a: removed"]),
        ({"svc": [URL]}, {"svc": [OTHER]}, [f"service svc: added {OTHER}; removed {URL}"]),
        ({"svc": [URL]}, {"svc": {"endpoints": [{"url": URL, "weight": 2}], "hedge": True}},
         [f"service svc: {URL} has weight 2 instead of 1; hedge true, was unset"]),
        ({"svc": {"endpoints": [URL], "retryAttempts": 2}}, {"svc": [URL]},
         ["service svc: retryAttempts unset, was 2"]),
        ({"svc": {"endpoints": [URL], "healthPath": "/a?key=hunter2"}},
         {"svc": {"endpoints": [URL], "healthPath": "/b?key=hunter2"}},
         ['service svc: healthPath "/b?********", was "/a?********"']),
        ({"svc": {"endpoints": [URL], "healthPath": "/a?key=hunter2"}},
         {"svc": {"endpoints": [URL], "healthPath": "/a?key=hunter3"}}, ["service svc: healthPath changed"]),
    ],
)  # fmt: skip
def test_services(before: dict[str, object], after: dict[str, object], told: list[str]) -> None:
    assert difference(settings(before), settings(after)) == told


def test_routes() -> None:
    first = {"path": "/a/*", "service": "svc"}
    routes = [[first], [first | {"strip": True}, {"path": "/b/*", "service": "svc", "host": "b.example"}], []]
    several = [settings(ROUTES=json.dumps(each)) for each in routes]
    assert difference(several[0], several[1]) == ["route b.example/b/*: new", "route /a/*: changed"]
    assert difference(several[1], several[2]) == ["route /a/*: removed", "route b.example/b/*: removed"]


def test_which_variables_differ() -> None:
    found = differing(settings(PORT="1", HEDGE="true"), settings(PORT="2"))
    assert [each.name for each in found] == ["PORT", "UPSTREAMS", "HEDGE"]  # the service has the value, too
