"""What tests of several policies need."""

from dataclasses import dataclass

import pytest

from tornado_gateway.policy.upstream.endpoint import Endpoint, LeaseRequest, PickContext


@dataclass
class Looks:
    """How many endpoints are looked at."""

    count: int = 0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Counts each question whether an endpoint is available."""
    found, available = Looks(), Endpoint.available

    def count(endpoint: Endpoint, request: LeaseRequest, context: PickContext) -> bool:
        found.count += 1
        return available(endpoint, request, context)

    monkeypatch.setattr(Endpoint, "available", count)
    return found
