"""Fixtures of several policies' tests."""

from dataclasses import dataclass

import pytest

from tornado_gateway.policy.upstream.endpoint import Endpoint, LeaseRequest, PickContext


@dataclass
class Looks:
    """The number of endpoints that a choice inspects."""

    count: int = 0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Counts the calls of Endpoint.available()."""
    found, available = Looks(), Endpoint.available

    def count(endpoint: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        found.count += 1
        return available(endpoint, request, context)

    monkeypatch.setattr(Endpoint, "available", count)
    return found
