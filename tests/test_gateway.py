"""The record that handlers are given."""

import dataclasses

import pytest

from tests.conftest import Serve
from tornado_gateway.gateway import Lifecycle


@pytest.mark.gen_test
async def test_a_gateway_is_not_changed_but_for_its_lifecycle(serve: Serve) -> None:
    gateway = (await serve({"svc": ["http://127.0.0.1:1"]})).app.gateway
    with pytest.raises(dataclasses.FrozenInstanceError):
        gateway.access_log = None  # type: ignore[misc]
    assert gateway.lifecycle == Lifecycle(draining=False)
    assert list(gateway.services) == [b"svc"]


@pytest.mark.gen_test
async def test_request_ids_are_128_random_bits(serve: Serve) -> None:
    gateway = (await serve({"svc": ["http://127.0.0.1:1"]})).app.gateway
    ids = {gateway.new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {32}
    assert all(int(each, 16) >= 0 for each in ids)
