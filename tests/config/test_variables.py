"""The table of variables: how each reads in one line, where it is kept, and what it is called in a service."""

import json

import pytest

from tornado_gateway.config.settings import load_settings
from tornado_gateway.config.variables import PER_SERVICE, VARIABLES, Variable

UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
NAMES = [variable.name for variable in VARIABLES]


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_help_is_one_line_that_needs_no_escaping(variable: Variable) -> None:
    assert variable.line.isprintable() and len(variable.line) <= 100
    assert "|" not in variable.line and "%(" not in variable.line


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_what_is_reserved_says_so_everywhere(variable: Variable) -> None:
    groups = ("Rate limit", "Cache", "Under pressure")
    assert variable.reserved is (variable.group in groups)
    assert variable.line.endswith(" (reserved)") is variable.reserved


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_a_default_is_a_value_the_variable_may_have(variable: Variable) -> None:
    if variable.default:
        settings = load_settings({"UPSTREAMS": UPSTREAMS})
        assert getattr(settings, variable.attribute) == variable.parse(variable.default)


def test_a_service_may_have_the_variables_of_services_under_their_names_in_camel_case() -> None:
    keys = {variable.name: variable.key for variable in PER_SERVICE}
    assert keys["HEDGE"] == "hedge"
    assert keys["HTTP_PROXY_TIMEOUT_MS"] == "httpProxyTimeoutMs"
    assert keys["LONG_POLL"] == "longPoll"
    assert {name for name, key in keys.items() if not key} == set()
    assert {each for each in VARIABLES if each.key} == set(PER_SERVICE)
    assert keys["REBALANCE_STREAMS"] == "rebalanceStreams"
    assert keys["BREAKER_OPEN_MS"] == "breakerOpenMs"
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_a_star_marks_what_a_service_may_have_of_its_own(variable: Variable) -> None:
    assert variable.line.endswith(" *") is (variable in PER_SERVICE)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, ("GATEWAY_ENV", "development")),
        ({"GATEWAY_ENV": "", "NODE_ENV": ""}, ("GATEWAY_ENV", "development")),
        ({"NODE_ENV": "test"}, ("NODE_ENV", "test")),
        ({"GATEWAY_ENV": "production", "NODE_ENV": "test"}, ("GATEWAY_ENV", "production")),
    ],
)
def test_a_variable_is_found_under_its_name_before_its_aliases_and_else_by_default(
    env: dict[str, str], found: tuple[str, str]
) -> None:
    (variable,) = (each for each in VARIABLES if each.name == "GATEWAY_ENV")
    assert variable.find(env) == found


@pytest.mark.parametrize(
    ("name", "attribute"),
    [("PORT", "port"), ("DNS_TTL_MS", "dns_ttl"), ("MAX_BODY_BYTES", "max_body_bytes"), ("UPSTREAMS", "services")],
)
def test_an_attribute_has_the_name_of_its_variable_without_milliseconds(name: str, attribute: str) -> None:
    (variable,) = (each for each in VARIABLES if each.name == name)
    assert variable.attribute == attribute
