"""Kubernetes as a source of endpoints: a list and watches at an API server, which may also answer wrongly."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.conftest import Running, Serve
from tests.support.journeys import Start, ask
from tests.support.knowing import (
    NOWHERE,
    ApiServer,
    Fault,
    answers_an_error,
    answers_garbage,
    ask_quickly,
    breaks_off,
    resets,
    urls,
    warnings,
)
from tests.support.sockets import echo, eventually, get
from tests.support.tls import tls_upstream

GET = get(b"/api/billing/x")
ONE, TWO = "http://billing.shop.svc:80#10.1.0.7", "http://billing.shop.svc:80#10.1.0.8"
BOOKMARK = {"metadata": {"resourceVersion": "99"}}


@pytest.fixture
def run(serve: Serve, upstream: Start, tmp_path: Path) -> Callable[..., object]:
    """Start a gateway whose service has the endpoints that an API server knows."""

    async def start(server: ApiServer, source: str = "k8s+http://billing.shop", **variables: str) -> Running:
        services = {"billing": [source]}
        variables = {"KUBERNETES_API_URL": upstream(server).url, "KUBERNETES_ACCOUNT": str(tmp_path), **variables}
        running = await serve(NOWHERE, **variables)
        await ask_quickly(running, services, **variables)
        return running

    return start


@pytest.mark.gen_test
async def test_requests_reach_the_endpoints_that_kubernetes_knows(run, upstream: Start, tmp_path: Path) -> None:
    up = upstream(echo)
    server = ApiServer("127.0.0.1", port=up.port)
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "token").write_text("first\n")
    running = await run(server, "k8s+http://billing:http/base")
    await eventually(lambda: server.watchers)
    assert urls(running) == {f"http://billing.shop.svc:{up.port}/base#127.0.0.1": 1}
    assert (await ask(running, GET)).status == 200
    assert up.requests[0].target == b"/base/x"
    assert server.asked[0] == (
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dbilling"
    )
    expected = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "300", "resourceVersion": "2"}
    assert server.queries[1] == {"labelSelector": "kubernetes.io/service-name=billing", **expected}
    assert server.fields["authorization"] == "Bearer first"


@pytest.mark.gen_test
async def test_events_change_the_endpoints_and_a_watch_that_ends_is_resumed(run) -> None:
    server = ApiServer("10.1.0.7")
    running = await run(server)
    await eventually(lambda: server.watchers)
    await server.tell("MODIFIED", server.put("a", "10.1.0.7", "10.1.0.8"))
    await eventually(lambda: urls(running) == {ONE: 1, TWO: 1})
    await server.tell("BOOKMARK", BOOKMARK)
    await server.say(json.dumps({"type": "ADDED", "object": server.put("b", "10.1.0.9")}).encode(), end=True)
    await eventually(lambda: len(server.asked) == 3)
    assert "http://billing.shop.svc:80#10.1.0.9" in urls(running)
    assert server.queries[2]["resourceVersion"] == server.slices["b"]["metadata"]["resourceVersion"]
    assert ["watch" in each for each in server.queries] == [False, True, True]


@pytest.mark.gen_test
async def test_the_token_is_read_for_each_request(run, tmp_path: Path) -> None:
    server = ApiServer("10.1.0.7")
    (tmp_path / "token").write_text("first")
    await run(server)
    await eventually(lambda: server.watchers)
    (tmp_path / "token").write_text("second")
    await server.say(end=True)
    await eventually(lambda: len(server.asked) == 3)
    assert server.fields["authorization"] == "Bearer second"


@pytest.mark.gen_test
async def test_an_endpoint_that_terminates_is_drained(run) -> None:
    server = ApiServer("10.1.0.7", "10.1.0.8")
    running = await run(server)
    await eventually(lambda: server.watchers)
    before = running.app.gateway.services[b"billing"].endpoints
    await server.tell("MODIFIED", server.put("a", "10.1.0.8", leaving=("10.1.0.7",)))
    await eventually(lambda: urls(running) == {ONE: 0, TWO: 1})
    assert running.app.gateway.services[b"billing"].endpoints == before
    await server.tell("MODIFIED", server.put("a", "10.1.0.8"))
    await eventually(lambda: urls(running) == {TWO: 1})


@pytest.mark.gen_test
async def test_an_operators_drain_survives(run) -> None:
    server = ApiServer("10.1.0.7", "10.1.0.8")
    running = await run(server)
    await eventually(lambda: server.watchers)
    running.app.gateway.services[b"billing"].membership.set_weight(ONE, 0)
    await server.tell("DELETED", server.slices.pop("a"))
    await server.tell("ADDED", server.put("b", "10.1.0.7", "10.1.0.9"))
    await eventually(lambda: urls(running) == {ONE: 0, "http://billing.shop.svc:80#10.1.0.9": 1})


@pytest.mark.parametrize("by_event", [False, True])
@pytest.mark.gen_test
async def test_gone_reads_the_list_anew(run, caplog, by_event: bool) -> None:
    server = ApiServer("10.1.0.7")
    running = await run(server)
    await eventually(lambda: server.watchers)
    server.put("a", "10.1.0.8")
    server.is_gone = not by_event
    gone = [b'{"type": "ERROR", "object": {"kind": "Status", "code": 410}}'] if by_event else []
    await server.say(*gone, end=True)
    await eventually(lambda: urls(running) == {TWO: 1})
    assert ["watch" in each for each in server.queries].count(False) == 2
    assert warnings(caplog) == []


@pytest.mark.parametrize("fault", [answers_an_error, answers_garbage, resets, breaks_off])
@pytest.mark.gen_test
async def test_a_server_that_fails_changes_nothing_and_is_asked_again(run, caplog, fault: Fault) -> None:
    server = ApiServer("10.1.0.7")
    running = await run(server)
    await eventually(lambda: server.watchers)
    server.faults = [fault] * 3
    server.put("a", "10.1.0.7")
    await server.say(end=True)
    await eventually(lambda: not server.faults and server.watchers)
    assert urls(running) == {ONE: 1}
    await server.tell("MODIFIED", server.put("a", "10.1.0.8"))
    await eventually(lambda: urls(running) == {TWO: 1})
    (warning,) = warnings(caplog)
    assert warning.endswith("; the last endpoints stay")


@pytest.mark.gen_test
async def test_a_line_that_is_no_event_reads_the_list_anew(run, caplog) -> None:
    server = ApiServer("10.1.0.7")
    running = await run(server)
    await eventually(lambda: server.watchers)
    server.put("a", "10.1.0.8")
    await server.say(b'{"type": "MODIFIED", "object": {"kind": "Endpoint')
    await eventually(lambda: urls(running) == {TWO: 1})
    assert len(warnings(caplog)) == 1


@pytest.mark.gen_test
async def test_the_last_endpoints_stay_when_the_list_is_empty(run, caplog) -> None:
    server = ApiServer("10.1.0.7")
    running = await run(server)
    await eventually(lambda: server.watchers)
    await server.tell("MODIFIED", server.put("a"))
    await eventually(lambda: warnings(caplog))
    assert warnings(caplog) == ["k8s+http://billing.shop: no endpoint; the last endpoints stay"]
    assert urls(running) == {ONE: 1}


@pytest.mark.gen_test
async def test_https_needs_the_authority_of_the_account(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    services = {"billing": ["k8s+http://billing.shop"]}
    items = {"metadata": {"resourceVersion": "1"}, "items": [ApiServer("10.1.0.7").slices["a"]]}
    body = json.dumps(items).encode()

    async def answers(reader, writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with tls_upstream(authority, answers) as server:
        variables = {"KUBERNETES_API_URL": server.url, "KUBERNETES_ACCOUNT": str(tmp_path)}
        running = await serve(NOWHERE, **variables)
        await ask_quickly(running, services, **variables)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
        await eventually(lambda: urls(running) == {ONE: 1})
        assert server.accepted >= 1
