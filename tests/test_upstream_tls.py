"""A service's own TLS towards its endpoints: client certificates, SNI and authorities, before and after a reload."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.conftest import Running, Serve
from tests.support.journeys import ask
from tests.support.reloading import Reloading
from tests.support.sockets import eventually, get
from tests.support.tls import TLSUpstream, ca_file, pem_files, tls_upstream


@dataclass
class Parties:
    """
    Attributes:
        servers: signs the endpoints' certificates.
        clients: signs the certificates that endpoints ask for.
        tls: what a service says to be let in: files, and a name that the endpoint's address does not have.
    """

    servers: trustme.CA
    clients: trustme.CA
    tls: dict[str, Any]


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    servers, clients = trustme.CA(), trustme.CA()
    certificate, key = pem_files(clients.issue_cert("gateway@a.test"), tmp_path, "gateway")
    tls = {"serverName": "svc.test", "certificate": certificate, "key": key, "ca": ca_file(servers, tmp_path)}
    yield Parties(servers, clients, tls)


def demanding(parties: Parties) -> Any:
    """A TLS server that is svc.test alone, and lets nobody in without a certificate."""
    return tls_upstream(parties.servers, None, "svc.test", clients=parties.clients)


def url(up: TLSUpstream) -> str:
    return f"https://127.0.0.1:{up.port}"


async def status_of(running: Running, service: bytes = b"svc") -> tuple[int, str]:
    answer = await ask(running, get(b"/api/%b/x" % service))
    return answer.status, answer.body.decode()


@pytest.mark.gen_test
async def test_an_endpoint_that_demands_a_certificate_and_a_name_gets_both(serve: Serve, parties: Parties) -> None:
    without = {key: value for key, value in parties.tls.items() if key not in ("certificate", "key")}
    unnamed = {key: value for key, value in parties.tls.items() if key != "serverName"}
    async with demanding(parties) as up:
        running = await serve(
            {
                "svc": {"endpoints": [url(up)], "tls": parties.tls, "healthCheck": "http"},
                "without": {"endpoints": [url(up)], "tls": without},
                "unnamed": {"endpoints": [url(up)], "tls": unnamed},
                "plain": [url(up)],
            },
            RETRY_ON="off",
        )
        assert await status_of(running) == (200, "ok")
        assert b"\r\nHost: 127.0.0.1:" in up.heads[-1], "SNI is not the Host field"
        for service in (b"without", b"unnamed", b"plain"):
            assert (await status_of(running, service))[0] == 502, service
        (endpoint,) = running.app.gateway.services[b"svc"].endpoints
        await eventually(lambda: endpoint.checks_passed > 0)
        assert "svc.test" in up.names and None in up.names  # an address is not sent as SNI (RFC 6066 §3)


@pytest.mark.gen_test
async def test_services_with_different_certificates_share_no_connection(serve: Serve, parties: Parties) -> None:
    async with tls_upstream(parties.servers, None, "svc.test") as up:
        named = {"serverName": "svc.test", "ca": parties.tls["ca"]}
        running = await serve(
            {
                "svc": {"endpoints": [url(up)], "tls": parties.tls},
                "same": {"endpoints": [url(up)], "tls": parties.tls},
                "other": {"endpoints": [url(up)], "tls": named},
            }
        )
        for service, accepted in ((b"svc", 1), (b"same", 1), (b"other", 2), (b"svc", 2), (b"other", 2)):
            assert (await status_of(running, service))[0] == 200
            assert up.accepted == accepted, service


@pytest.mark.gen_test
async def test_a_reload_changes_how_tls_is_spoken_and_files_are_read_again(
    serve: Serve, parties: Parties, tmp_path: Path
) -> None:
    stranger = pem_files(trustme.CA().issue_cert("stranger@a.test"), tmp_path, "stranger")
    present, key = tmp_path / "present.pem", tmp_path / "present.key"
    present.write_bytes(Path(stranger[0]).read_bytes())
    key.write_bytes(Path(stranger[1]).read_bytes())
    tls = parties.tls | {"certificate": str(present), "key": str(key)}
    async with demanding(parties) as up:
        first = {"svc": {"endpoints": [url(up)], "tls": tls}}
        reloading = await Reloading.start(serve, tmp_path / ".env", first, RETRY_ON="off", BREAKER_FAILURES="0")
        running = reloading.running
        assert (await status_of(running))[0] == 502, "an endpoint lets no stranger in"

        present.write_bytes(Path(parties.tls["certificate"]).read_bytes())
        key.write_bytes(Path(parties.tls["key"]).read_bytes())
        assert (await reloading.reload())["changes"] == [
            f"UPSTREAMS.svc.tls.certificate: {present} has changed", f"UPSTREAMS.svc.tls.key: {key} has changed"
        ]  # fmt: skip
        assert (await status_of(running))[0] == 200, "the files have other content"

        reloading.write({"svc": {"endpoints": [url(up)], "tls": tls | {"serverName": "other.test"}}}, RETRY_ON="off")
        (change,) = [each for each in (await reloading.reload())["changes"] if "service" in each]
        assert change == 'service svc: upstreamTlsServerName "other.test", was "svc.test"'
        assert (await status_of(running))[0] == 502, "no connection of the former name is used"
        running.app.heartbeat.sweep()
        await eventually(lambda: not up.open)


@pytest.mark.gen_test
async def test_files_that_do_not_fit_leave_the_old_ones(serve: Serve, parties: Parties, tmp_path: Path) -> None:
    async with demanding(parties) as up:
        services = {"svc": {"endpoints": [url(up)], "tls": parties.tls}}
        reloading = await Reloading.start(serve, tmp_path / ".env", services)
        _, other = pem_files(trustme.CA().issue_cert("a.test"), tmp_path, "other")
        Path(parties.tls["key"]).write_bytes(Path(other).read_bytes())
        refused = await reloading.post()
        assert refused.status == 422
        assert "UPSTREAMS.svc.tls.key" in json.loads(refused.body)["message"]
        assert await status_of(reloading.running) == (200, "ok")
