"""Consul as a source of endpoints: blocking queries to an agent, which may also answer wrongly."""

import asyncio
from collections.abc import Callable

import pytest

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask, problem
from tests.support.knowing import (
    NOWHERE,
    Agent,
    Fault,
    answers_an_error,
    answers_garbage,
    ask_quickly,
    breaks_off,
    is_silent,
    resets,
    urls,
    warnings,
)
from tests.support.sockets import Peer, Upstream, echo, eventually, get, reply
from tornado_gateway.upkeep import sources

GET = get(b"/api/billing/x")
HOST = "billing.service.consul"


@pytest.fixture
def run(serve: Serve, upstream: Start) -> Callable[..., object]:
    """Start a gateway whose service has the instances that an agent knows."""

    async def start(agent: Agent, source: str = "consul+http://billing/base", **variables: str) -> Running:
        services = {"billing": [source]}
        variables = {"CONSUL_URL": upstream(agent).url, **variables}
        running = await serve(NOWHERE, **variables)
        await ask_quickly(running, services, **variables)
        return running

    return start


@pytest.mark.gen_test
async def test_requests_reach_the_instances_that_consul_knows(run, upstream: Start) -> None:
    up = upstream(echo)
    agent = Agent(("127.0.0.1", up.port))
    running = await run(agent, CONSUL_TOKEN="secret", CONSUL_URL=upstream(agent).url + "/consul")
    await eventually(lambda: urls(running))
    assert urls(running) == {f"http://{HOST}:{up.port}/base#127.0.0.1": 1}
    assert (await ask(running, GET)).status == 200
    (request,) = up.requests
    assert (request.target, request.get(b"host")) == (b"/base/x", b"%b:%d" % (HOST.encode(), up.port))
    assert agent.asked[0] == "/consul/v1/health/service/billing?passing=1&index=0&wait=300s"
    assert agent.fields["x-consul-token"] == "secret"


@pytest.mark.gen_test
async def test_a_gateway_that_accepts_connections_knows_the_endpoints(serve: Serve, upstream: Start) -> None:
    up = upstream(echo)
    agent = upstream(Agent(("127.0.0.1", up.port)))
    running = await serve({"billing": ["consul+http://billing", "http://127.0.0.1:1/spare"]}, CONSUL_URL=agent.url)
    assert len(urls(running)) == 2
    assert (await ask(running, GET)).status == 200


@pytest.mark.gen_test
async def test_a_change_is_told_at_once_and_an_operators_drain_survives(run) -> None:
    agent = Agent(("10.0.0.7", 80), ("10.0.0.8", 80))
    running = await run(agent, "consul+http://billing")
    await eventually(lambda: len(urls(running)) == 2)
    drained = f"http://{HOST}:80#10.0.0.7"
    service = running.app.gateway.services[b"billing"]
    service.membership.set_weight(drained, 0)
    agent.change(("10.0.0.7", 80), ("10.0.0.9", 81))
    await eventually(lambda: f"http://{HOST}:81#10.0.0.9" in urls(running))
    assert urls(running) == {drained: 0, f"http://{HOST}:81#10.0.0.9": 1}
    assert [each["index"] for each in agent.queries[:2]] == ["0", "5"]


@pytest.mark.gen_test
async def test_an_index_that_goes_backwards_begins_anew(run) -> None:
    agent = Agent(("10.0.0.7", 80))
    await run(agent)
    await eventually(lambda: len(agent.asked) == 2)
    agent.change(("10.0.0.7", 80), index=2)
    await eventually(lambda: len(agent.asked) == 4)
    assert [each["index"] for each in agent.queries] == ["0", "5", "0", "2"]


@pytest.mark.gen_test
async def test_a_tag_chooses_among_the_instances(run) -> None:
    agent = Agent(("10.0.0.7", 80))
    await run(agent, "consul+http://v2.billing")
    await eventually(lambda: agent.asked)
    assert agent.queries[0]["tag"] == "v2"
    assert agent.asked[0].startswith("/v1/health/service/billing?")


async def names_no_index(peer: Peer) -> None:
    await peer.send(reply(body=b"[]"))


async def has_no_instances(peer: Peer) -> None:
    await peer.send(reply(fields=(b"X-Consul-Index: 6",), body=b"[]"))


@pytest.mark.parametrize(
    "fault", [answers_an_error, answers_garbage, resets, breaks_off, names_no_index, has_no_instances]
)
@pytest.mark.gen_test
async def test_an_agent_that_fails_changes_nothing_and_is_asked_again(run, caplog, fault: Fault) -> None:
    agent = Agent(("10.0.0.7", 80))
    running = await run(agent, "consul+http://billing")
    await eventually(lambda: len(agent.asked) == 2)
    before = urls(running)
    agent.faults = [fault] * 3
    agent.change(("10.0.0.7", 80))
    await eventually(lambda: not agent.faults)
    assert urls(running) == before != {}
    agent.change(("10.0.0.8", 80), index=20)
    await eventually(lambda: urls(running) == {f"http://{HOST}:80#10.0.0.8": 1})
    (warning,) = warnings(caplog)
    assert warning.startswith("consul+http://billing: ")
    assert warning.endswith("; the last endpoints stay")
    assert "599" not in warning


@pytest.mark.gen_test
async def test_without_an_answer_there_is_no_endpoint_and_the_gateway_says_so(
    serve: Serve, upstream: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FIRST_ANSWER", 0.01)
    agent = Agent()
    agent.faults = [is_silent]
    running = await serve({"billing": ["consul+http://billing"]}, CONSUL_URL=upstream(agent).url)
    problem(await ask(running, GET), 503, "circuit_open")
    assert urls(running) == {}


@pytest.mark.gen_test
async def test_an_empty_answer_at_first_is_a_warning(run, caplog) -> None:
    await run(Agent())
    await eventually(lambda: warnings(caplog))
    assert warnings(caplog) == ["consul+http://billing/base: no endpoint; there are no endpoints yet"]


@pytest.mark.gen_test
async def test_a_stream_goes_on_at_an_instance_that_has_left(run, upstream: Start) -> None:
    go = asyncio.Event()

    async def streams(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await go.wait()
        await peer.send(b"data: 2\n\n")
        peer.close()

    up: Upstream = upstream(streams)
    agent = Agent(("127.0.0.1", up.port))
    running = await run(agent)
    await eventually(lambda: urls(running))
    client = await running.client()
    await client.send(get(b"/sse/billing/events"))
    await client.until(b"data: 1\n\n")
    agent.change(("10.0.0.9", 80))
    await eventually(lambda: f"http://{HOST}:80/base#10.0.0.9" in urls(running))
    go.set()
    await client.until(b"data: 2\n\n")
