"""Whether a service can take a request. Admission and choice are tested in test_service.py and test_probing.py."""

import pytest

from tests.support.services import OPEN_FOR, eject, service


@pytest.mark.parametrize(("now", "serves"), [(0.0, False), (OPEN_FOR - 0.1, False), (OPEN_FOR, True)])
def test_an_endpoint_whose_opening_is_over_serves_as_long_as_its_checks_pass(now: float, serves: bool) -> None:
    one = (single := service(1)).endpoints[0]
    assert single.endpoint_set.serves(now)
    eject(single, one)
    assert single.endpoint_set.serves(now) is serves
    single.set_health(one, 0.0, up=False)
    assert not single.endpoint_set.serves(now)


@pytest.mark.parametrize(("weights", "serves"), [((0, 1), True), ((1, 0), False), ((0, 0), False)])
def test_an_endpoint_without_a_weight_serves_no_request(weights: tuple[int, int], serves: bool) -> None:
    several = service(*weights)
    several.set_health(several.endpoints[0], 0.0, up=False)
    assert several.endpoint_set.serves(0.0) is serves
