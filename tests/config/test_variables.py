"""The table of variables: help lines, fields of Settings, and keys within a service."""

import json
from operator import attrgetter

import pytest

from tornado_gateway.config.settings import Settings
from tornado_gateway.config.variables import OF_SERVICES, VARIABLES, Variable

UPSTREAMS = json.dumps({"billing": ["http://10.0.0.7"]})
NAMES = [variable.name for variable in VARIABLES]


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_help_is_one_line_that_needs_no_escaping(variable: Variable) -> None:
    assert variable.line.isprintable() and len(variable.line) <= 100
    assert "|" not in variable.line and "%(" not in variable.line


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_a_default_is_that_of_each_field_the_variable_fills(variable: Variable) -> None:
    defaults = [attrgetter(path)(Settings()) for path in variable.fills]
    if variable.default:
        assert defaults == [variable.syntax.parse(variable.default)] * len(defaults)
    elif variable.in_production:
        assert defaults and variable.in_production not in defaults
    else:
        assert not any(defaults)


def test_a_service_may_have_the_variables_of_services_under_their_names_in_camel_case() -> None:
    keys = {variable.name: variable.key for variable in OF_SERVICES.values()}
    assert keys["HEDGE"] == "hedge"
    assert keys["HTTP_PROXY_TIMEOUT_MS"] == "httpProxyTimeoutMs"
    assert keys["LONG_POLL"] == "longPoll"
    assert {name for name, key in keys.items() if not key} == set()
    assert {each for each in VARIABLES if each.key} == set(OF_SERVICES.values())
    assert keys["REBALANCE_STREAMS"] == "rebalanceStreams"
    assert keys["BREAKER_OPEN_MS"] == "breakerOpenMs"
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)
def test_a_star_marks_what_a_service_may_have_of_its_own(variable: Variable) -> None:
    assert variable.line.endswith(" *") is variable.per_service


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, ("GATEWAY_ENV", "")),
        ({"GATEWAY_ENV": "", "NODE_ENV": ""}, ("GATEWAY_ENV", "")),
        ({"NODE_ENV": "test"}, ("NODE_ENV", "test")),
        ({"GATEWAY_ENV": "production", "NODE_ENV": "test"}, ("GATEWAY_ENV", "production")),
    ],
)
def test_a_variable_is_found_under_its_name_before_its_aliases(env: dict[str, str], found: tuple[str, str]) -> None:
    (variable,) = (each for each in VARIABLES if each.name == "GATEWAY_ENV")
    assert variable.find(env) == found


def test_what_a_service_may_have_of_its_own_has_a_field_in_its_spec() -> None:
    assert [each.name for each in OF_SERVICES.values() if not each.fills_spec] == []


def test_no_two_variables_fill_a_field() -> None:
    filled = [path for variable in VARIABLES for path in variable.fills]
    assert len(set(filled)) == len(filled)
