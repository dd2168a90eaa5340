"""The settings of a worker. What a worker does is tested with processes: tests/test_workers.py."""

import math
from dataclasses import replace

from tornado_gateway.config.services import EndpointSpec
from tornado_gateway.config.settings import ListenConfig, ServiceSpec, Settings
from tornado_gateway.policy.upstream.service_config import ServiceConfig
from tornado_gateway.supervisor.worker import of_a_worker, part_of


def test_numbers_for_the_whole_are_divided_among_the_workers() -> None:
    whole = Settings(workers=3, listen=ListenConfig(takeover="/run/s"))
    config = ServiceConfig(max_in_flight=10, max_waiting=9)
    service = ServiceSpec(name="svc", endpoints=(EndpointSpec("http://10.0.0.7"),), service=config)
    whole = replace(whole, server=replace(whole.server, max_connections=100), services=(service,))
    whole = replace(whole, overload=replace(whole.overload, max_in_flight=7))
    of_one = of_a_worker(whole)
    assert (of_one.server.max_connections, of_one.listen.takeover) == (34, "")
    assert (of_one.services[0].service.max_in_flight, of_one.services[0].service.max_waiting) == (4, 3)
    assert of_one.service.max_in_flight == math.inf
    assert of_one.overload.max_in_flight == 3


def test_no_limit_has_no_parts() -> None:
    assert (part_of(math.inf, 2), part_of(0, 2), part_of(1, 2)) == (math.inf, 0, 1)
