"""The record of what a handler may touch."""

import dataclasses

import pytest

from tests.conftest import Serve
from tornado_gateway.gateway import Gateway, Lifecycle

NOWHERE = {"svc": ["http://127.0.0.1:1"]}


@pytest.mark.gen_test
async def test_nothing_of_it_can_be_replaced(serve: Serve) -> None:
    gateway = (await serve(NOWHERE)).app.gateway
    for field in dataclasses.fields(Gateway):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(gateway, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        gateway.something_new = 1  # type: ignore[attr-defined]


@pytest.mark.gen_test
async def test_each_gateway_has_a_life_of_its_own(serve: Serve) -> None:
    first, second = (await serve(NOWHERE)).app.gateway, (await serve(NOWHERE)).app.gateway
    first.lifecycle.draining = True
    assert (first.lifecycle.draining, second.lifecycle.draining) == (True, False)
    assert first.client is not second.client
    assert first.services[b"svc"] is not second.services[b"svc"]


def test_a_gateway_begins_without_draining() -> None:
    assert not Lifecycle().draining


@pytest.mark.gen_test
async def test_time_goes_on_and_ids_differ(serve: Serve) -> None:
    gateway = (await serve(NOWHERE)).app.gateway
    assert gateway.now() <= gateway.now()
    ids = {gateway.new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)
