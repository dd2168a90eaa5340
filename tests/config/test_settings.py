"""The nested record: each field has a variable or a reason, and a service may have own values."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import STREAMS_END_WITHIN, ServiceSpec, Settings, ShutdownConfig, assemble
from tornado_gateway.config.variables import VARIABLES

# Fields that no variable fills, and why.
WITHOUT_A_VARIABLE = {
    "client.connect.names.timeout": "the C library's own time for one silent name server",
    "service.breaker.jitter": "spreads the ends of openings; no other value is better for a user",
    "service.health.jitter": "spreads checks; no other value is better for a user",
    "service.limits.group": "names the counters of a service or a route with limits of its own",
    "service.limits.label": "the same, as clients and metrics see the name",
    "service.limits.route": "the same, of a route",
    "service.limits.also": "the limits of the routes that lead to the service",
    "service.websocket.relay.ping_token": "drawn at random when the gateway starts",
}


def fields_of(config: Any, prefix: str = "") -> Iterator[str]:
    """Paths of the fields of nested configs, without derived fields."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.init:
            continue
        if dataclasses.is_dataclass(value) and type(value).__name__.endswith(("Access", "Config", "Limits")):
            yield from fields_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


FIELDS = list(fields_of(Settings()))
FILLED = [path for variable in VARIABLES for path in variable.fills]


@pytest.mark.parametrize("path", FIELDS)
def test_each_field_has_a_variable_or_a_reason(path: str) -> None:
    assert (path in FILLED) is not (path in WITHOUT_A_VARIABLE)


def test_each_variable_fills_a_field() -> None:
    assert set(FILLED) <= set(FIELDS)
    assert set(WITHOUT_A_VARIABLE) <= set(FIELDS)


def test_no_config_is_wide() -> None:
    configs = [Settings(), *(getattr(Settings(), each.name) for each in dataclasses.fields(Settings))]
    widths = [sum(f.init for f in dataclasses.fields(each)) for each in configs if dataclasses.is_dataclass(each)]
    assert max(widths) <= 30


def test_assembling_replaces_the_fields_along_a_path_and_no_other() -> None:
    changed = assemble(Settings(), {"listen.port": 9, "service.breaker.failures": 3, "service.hedge": True})
    assert (changed.listen.port, changed.service.breaker.failures, changed.service.hedge) == (9, 3, True)
    assert assemble(changed, {"listen.port": 8080, "service.breaker.failures": 5, "service.hedge": False}) == Settings()


@given(st.dictionaries(st.sampled_from([each for each in FIELDS if each.count(".") > 1]), st.integers(), max_size=9))
def test_each_assembled_value_is_found_at_its_path(values: dict[str, int]) -> None:
    before, after = flat(Settings()), flat(assemble(Settings(), values))
    changed = {path: value for path, value in after.items() if value != before[path]}
    assert changed.items() <= values.items()
    assert {path: after[path] for path in values} == values


def flat(settings: Settings) -> dict[str, Any]:
    def at(path: str) -> Any:
        config: Any = settings
        for name in path.split("."):
            config = getattr(config, name)
        return config

    return {path: at(path) for path in FIELDS}


def test_a_field_that_there_is_not_cannot_be_assembled() -> None:
    with pytest.raises(TypeError):
        assemble(Settings(), {"service.breaker.failure": 3})


def test_settings_of_a_service_have_its_configs() -> None:
    own = assemble(Settings().service, {"retry.attempts": 7})
    spec = ServiceSpec(name="a", endpoints=(EndpointSpec("http://a"),), service=own)
    settings = Settings(services=(spec,))
    assert settings.of(spec) == dataclasses.replace(settings, service=own)


def test_what_follows_from_other_fields_follows_in_a_copy_too() -> None:
    plain = Settings().service
    patient = assemble(plain, {"hedge": True, "is_long_poll": True, "head_timeout": 90.0})
    assert (patient.hedges, patient.body_timeout) == (False, 90.0)
    assert assemble(patient, {"is_long_poll": False}).hedges
    assert assemble(patient, {"body_idle": 2.0}).body_timeout == 2.0
    assert plain.checks is None


def test_streams_end_before_the_gateway_does() -> None:
    assert ShutdownConfig(timeout=10.0).longest_spread == 10.0 * STREAMS_END_WITHIN
