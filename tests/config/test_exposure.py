"""Warnings about what production lets in."""

import pytest

from tornado_gateway.config.exposure import exposures
from tornado_gateway.config.load import load_settings


@pytest.mark.parametrize(
    ("env", "warns"),
    [
        ({}, False),
        ({"GATEWAY_ENV": "production"}, True),
        ({"GATEWAY_ENV": "production", "ADMIN_PORT": "9090"}, False),
        ({"GATEWAY_ENV": "test"}, False),
    ],
)
def test_production_warns_of_pages_that_share_an_origin_with_the_dashboard(env: dict[str, str], warns: bool) -> None:
    told = list(exposures(load_settings({"UPSTREAMS": '{"a": ["http://10.0.0.7"]}', "JWT_SECRET": "k" * 32, **env})))
    assert ["ADMIN_PORT is not set" in each for each in told] == [True] * warns
