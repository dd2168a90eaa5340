"""DNS SRV as a source of endpoints, with a name server that a test controls."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.journeys import Start, ask
from tests.support.knowing import NOWHERE, ask_quickly, urls, warnings
from tests.support.name_servers import NXDOMAIN, SERVFAIL, Query, record, wire_name
from tests.support.sockets import echo, eventually, get

SRV = 33
NAME = "_http._tcp.billing.test"
SOURCE = f"srv+http://{NAME}./base"


def srv(*records: tuple[int, int, int, str]):
    """What a name server answers to a query for records of type SRV."""

    def answer(query: Query) -> Iterable[bytes]:
        data = [b"".join(each.to_bytes(2, "big") for each in of[:3]) + wire_name(of[3]) for of in records]
        return [query.reply(*[record(query.name, SRV, each) for each in data])]

    return answer


@pytest.mark.gen_test
async def test_requests_reach_the_targets_of_the_records(
    serve: Serve, upstream: Start, name_server, tmp_path: Path
) -> None:
    up = upstream(echo)
    zone = {NAME: srv((10, 3, up.port, "one.test"), (20, 1, 81, "spare.test")), "one.test": ["127.0.0.1"]}
    server = await name_server(zone)
    conf = tmp_path / "resolv.conf"
    conf.write_text(server.line)
    variables = {"DNS_RESOLV_CONF": str(conf), "DNS_TTL_MS": "0"}
    running = await serve(NOWHERE, **variables)
    await ask_quickly(running, {"billing": [SOURCE]}, **variables)
    await eventually(lambda: urls(running) == {f"http://one.test:{up.port}/base#127.0.0.1": 3})
    answer = await ask(running, get(b"/api/billing/x"))
    assert (answer.status, up.requests[0].get(b"host")) == (200, b"one.test:%d" % up.port)


@pytest.mark.parametrize("fault", [SERVFAIL, NXDOMAIN, srv(), srv((0, 0, 0, "."))])
@pytest.mark.gen_test
async def test_records_come_and_go_and_a_failing_server_changes_nothing(
    serve: Serve, name_server, tmp_path: Path, caplog, fault
) -> None:
    server = await name_server({NAME: srv((1, 1, 80, "one.test")), "one.test": ["10.0.0.7"], "two.test": ["10.0.0.8"]})
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"{server.line}options attempts:1\n")
    variables = {"DNS_RESOLV_CONF": str(conf), "DNS_TTL_MS": "0"}
    running = await serve(NOWHERE, **variables)
    await ask_quickly(running, {"billing": [SOURCE]}, **variables)
    one = {"http://one.test:80/base#10.0.0.7": 1}
    await eventually(lambda: urls(running) == one)
    server.zone[NAME] = fault
    await eventually(lambda: warnings(caplog))
    assert urls(running) == one
    server.zone[NAME] = srv((1, 1, 80, "two.test"))
    await eventually(lambda: urls(running) == {"http://two.test:80/base#10.0.0.8": 1})
    assert len(warnings(caplog)) == 1
