"""Hot reload: what changes, what stays, and what a wrong configuration changes: nothing."""

import asyncio
import hashlib
import json
import logging
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme

from tests.conftest import Serve
from tests.support.caching import FRESH, ON, Origin, status_of
from tests.support.endpoints import Gate, named
from tests.support.event_streams import STREAM_HEAD, chunk
from tests.support.journeys import Start, ask, problem
from tests.support.operators import ORIGIN, bearer, log_in, token
from tests.support.reloading import QUIET, Reloading, write
from tests.support.sockets import Client, Peer, echo, eventually, get
from tests.support.tls import ca_file, pem_files
from tornado_gateway.adapters import logs
from tornado_gateway.adapters.access_log import text_line
from tornado_gateway.app import App
from tornado_gateway.config.env_file import EnvFile
from tornado_gateway.config.problems import ConfigurationError, Problem
from tornado_gateway.config.settings import Settings, SourcesConfig
from tornado_gateway.config.variables import VARIABLES, Variable
from tornado_gateway.errors import ConfigurationRefused
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.sources import Kind
from tornado_gateway.policy.views.state import from_plain
from tornado_gateway.reload import located

KEY = "k" * 32
REFUSING = "http://127.0.0.1:1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def endpoints(reloading: Reloading) -> tuple[Endpoint, ...]:
    return reloading.running.app.gateway.services[b"svc"].endpoints


def endpoint(reloading: Reloading, url: str) -> Endpoint:
    return next(each for each in endpoints(reloading) if each.url == url)


# ---------------------------------------------------------------- every variable

# What a variable is changed to, where no common value will do.
OTHERS = {
    "UPSTREAMS": json.dumps({"svc": [{"url": REFUSING, "weight": 3}]}),
    "LISTEN": json.dumps([{"unix": "/run/gateway.sock"}]),
    "ROUTES": json.dumps([{"path": "/things/*", "service": "svc"}]),
    "READY_REQUIRES": "svc",
    "JWT_SECRET": "s" * 40,
    "JWT_SECRETS": "t" * 40,
    "JWT_AUDIENCE": "here",
    "API_KEYS": f"ci:{hashlib.sha256(b'key').hexdigest()}",
    "HTTP_PROXY_TIMEOUT_MS": "1234",
    "WS_ALLOWED_ORIGINS": "https://pages.example",
    "LOG_LEVEL": "debug",
    "LOG_FORMAT": "text",
    "TRACE_SAMPLE": "0.5",
    "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
    "DNS_FAMILY": "ipv4",
    "RATE_LIMIT_STORE": "redis://127.0.0.1:1",
    "CACHE_STORE": "redis://127.0.0.1:1",
    "RATE_LIMIT_ALGORITHM": "sliding",
    "REQUEST_ID": "prefix",
    "REVOCATION_ON_ERROR": "closed",
}
# Variables that take a file, another machine's address or a hash, and are tried in tests of their own.
ELSEWHERE = {
    "UPSTREAMS_FILE", "UPSTREAM_TLS_CA_FILE", "UPSTREAM_TLS_CERT", "UPSTREAM_TLS_KEY", "DNS_RESOLV_CONF", "DNS_HOSTS",
    "JWT_PUBLIC_KEY", "JWKS_URL", "OIDC_ISSUER", "BASIC_USERS", "ADMIN_PASSWORD_HASH", "METRICS_AUTH",
    "METRICS_ENDPOINT_HISTOGRAMS", "ACCESS_LOG", "AUTH_REQUIRED", "WEB_CONCURRENCY", "TLS_CERT", "TLS_KEY",
    "TLS_CLIENT_CA", "TLS_CLIENT_AUTH", "ADMIN_TLS", "RATE_LIMIT_ON_ERROR",
}  # fmt: skip
COMMON = (
    "true", "false", "7", "150", "gzip", "header:X-Key", "X-Key", "client", "redistribute", "round_robin", "tcp",
    "jwt", "/path", "503", "connect", "POST", "10.0.0.0/8", "gateway.example", "strict", "all", "rewrite", "pass",
    "close", "disconnect", "observe", "sliding", "principal", "100/s", "ipv4", "low", "retry", "openai", "1012",
    "sub:X-User", "role=admin", "HS512", "https://pages.example", "ignore", "/run/some.sock", "memory://",
    "redis://127.0.0.1:1", "127.0.0.2", "production", "asyncio", "http://127.0.0.1:1", "a=b", "word", "k" * 32,
)  # fmt: skip


def other(variable: Variable) -> str:
    """A text of another value than the default."""
    if variable.name in OTHERS:
        return OTHERS[variable.name]
    default = variable.value(Settings())
    for text in COMMON:
        try:
            value = variable.syntax.parse(text)
        except Exception:
            continue
        if value != default:
            return text
    raise AssertionError(f"{variable.name}: say in OTHERS what another value is")


def in_force(reloading: Reloading, path: str) -> Any:
    """What the parts of the running gateway have for a field of Settings."""
    app = reloading.running.app
    first, _, rest = path.partition(".")
    if path in BY_PATH:
        return BY_PATH[path](reloading)
    return attrgetter(rest)(BY_GROUP[first](app))


BY_GROUP: dict[str, Callable[[App], Any]] = {
    "service": lambda app: app.gateway.services[b"svc"].config,
    "server": lambda app: app.server.context.config,
    "shutdown": lambda app: app.settings.shutdown,
    "client": lambda app: app.gateway.client.config,
    "discovery": lambda app: app.discovery._config,
    "sources": lambda app: SourcesConfig(
        app.sources._feeds[Kind.CONSUL].args[1],  # type: ignore[attr-defined]
        app.sources._feeds[Kind.KUBERNETES].args[1],  # type: ignore[attr-defined]
    ),
    "forwarding": lambda app: app.gateway.forwarding,
    "auth": lambda app: app.settings.auth,  # read by the TokenAuthenticator, which each reload makes
    "admin": lambda app: app.gateway.operators.config,
    "streams": lambda app: app.gateway.streams.counts.limits,
}
BY_PATH: dict[str, Callable[[Reloading], Any]] = {
    "services": lambda at: [{each.url: each.weight for each in endpoints(at)}],
    "routes": lambda at: at.running.app.settings.routes,
    "gateway_hosts": lambda at: tuple(at.running.app.server.delegate._table._gateway_hosts),  # type: ignore[attr-defined]
    "ready_requires": lambda at: tuple(at.running.app.gateway.required),
    "logs.level": lambda _: logs.level(),
    "logs.format": lambda at: "text" if at.running.app.gateway.access_log._line is text_line else "json",  # type: ignore[union-attr]
    "logs.access": lambda at: at.running.app.gateway.access_log is not None,
    "logs.openings": lambda at: at.running.app.gateway.access_log.has_openings,  # type: ignore[union-attr]
    "logs.slow": lambda at: at.running.app.gateway.tail.slow,
    "logs.query": lambda at: at.running.app.gateway.tail._redaction.shows_query,
    "logs.redact": lambda at: tuple(at.running.app.gateway.tail._redaction.names),
    "sharing.revocation_on_error": lambda at: at.running.app.gateway.revocations.on_error,
    "overload.max_delay": lambda at: at.running.app.gateway.overload._delay._threshold,
    "overload.recovery": lambda at: at.running.app.gateway.overload._delay._recovery,
    "overload.max_heap": lambda at: at.running.app.gateway.overload._heap._threshold,
    "overload.max_resident": lambda at: at.running.app.gateway.overload._resident._threshold,
    "overload.max_in_flight": lambda at: at.running.app.gateway.overload._held._threshold,
    "admin.sessions.idle": lambda at: at.running.app.gateway.operators.sessions.config.idle,
    "admin.sessions.longest": lambda at: at.running.app.gateway.operators.sessions.config.longest,
    "watches_files": lambda at: bool(at.reloader.watch._known),
}


def wanted(settings: Settings, path: str) -> Any:
    if path == "services":
        return [{each.url: each.weight for each in service.endpoints} for service in settings.services]
    return attrgetter(path)(settings)


@pytest.mark.gen_test
async def test_each_variable_is_applied_or_named_as_needing_a_restart(serve: Serve, file: Path) -> None:
    base = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "ACCESS_LOG": "true"}
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]}, {"ACCESS_LOG": ""}, **base)
    before = {path: in_force(reloading, path) for each in APPLIED for path in each.fills}
    reloading.environment = {"HOST": "127.0.0.1", "PORT": "0"}
    reloading.write({}, **base | {each.name: other(each) for each in APPLIED})
    reloaded = await reloading.reloader.reload()
    assert reloaded.needs_restart == ()
    for variable in APPLIED:
        for path in variable.fills:
            is_ = in_force(reloading, path)
            assert is_ == wanted(reloading.reloader.configuration.settings, path), (
                f"{variable.name} ({path}) is not applied"
            )
            assert is_ != before[path], f"{variable.name} ({path}) was not changed"
    told = " ".join(reloaded.changes)
    assert [each.name for each in APPLIED if each.name not in told] == ["UPSTREAMS", "ROUTES"]
    assert reloaded.changes[-2:] == (f"service svc: {REFUSING} has weight 3 instead of 1", "route /things/*: new")
    reloading.environment = {}
    reloading.write({}, **base | {each.name: other(each) for each in APPLIED + RESTARTED})
    reloaded = await reloading.reloader.reload()
    assert (reloaded.needs_restart, reloaded.changes) == (tuple(each.name for each in RESTARTED), ())


APPLIED = [each for each in VARIABLES if not each.needs_restart and each.name not in ELSEWHERE]
RESTARTED = [each for each in VARIABLES if each.needs_restart and each.name not in ELSEWHERE]


@pytest.mark.gen_test
async def test_the_number_of_processes_needs_a_restart(serve: Serve, file: Path) -> None:
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]})
    reloading.write({"svc": [REFUSING]}, WEB_CONCURRENCY="2", HEDGE="true")
    reloaded = await reloading.reloader.reload()
    assert (reloaded.needs_restart, reloaded.changes) == (("WEB_CONCURRENCY",), ("HEDGE false -> true",))
    assert reloading.running.app.settings.workers == 1


def serial_of(port: int, authority: trustme.CA) -> object:
    """The serial number of the certificate that a gateway shows to a client that asks for a page. Blocks."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
        trust.wrap_socket(raw, server_hostname="a.test") as sock,
    ):
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        return (sock.getpeercert() or {})["serialNumber"]


@pytest.mark.gen_test
async def test_files_of_tls_that_are_renewed_in_place_are_told(
    serve: Serve, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    paths = pem_files(authority.issue_cert("a.test"), tmp_path, "own")
    files = dict(zip(("TLS_CERT", "TLS_KEY"), paths, strict=True)) | {
        "UPSTREAM_TLS_CA_FILE": ca_file(authority, tmp_path)
    }
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]}, **files)
    reload = reloading.reloader.reload
    old = await asyncio.to_thread(serial_of, reloading.running.port, authority)
    assert (await reload()).changes == ()
    soon = datetime.now(UTC) + timedelta(days=5)
    pem_files(authority.issue_cert("a.test", not_after=soon), tmp_path, "own")
    with caplog.at_level(logging.INFO, "tornado_gateway"):
        said = await reload()
    renewed = tuple(f"{name}: {files[name]} has changed" for name in ("TLS_CERT", "TLS_KEY"))
    assert said.changes == renewed and f"reloaded: {'; '.join(renewed)}" in caplog.messages
    assert f"TLS_CERT: {files['TLS_CERT']} expires on {soon:%Y-%m-%d}" in said.warnings
    assert await asyncio.to_thread(serial_of, reloading.running.port, authority) != old
    Path(files["TLS_CERT"]).write_text("nonsense")
    with pytest.raises(ConfigurationRefused):
        await reload()
    pem_files(authority.issue_cert("a.test"), tmp_path, "own")
    ca_file(trustme.CA(), tmp_path)
    reloaded = await reload()
    assert reloaded.changes == (*renewed, f"UPSTREAM_TLS_CA_FILE: {files['UPSTREAM_TLS_CA_FILE']} has changed")
    assert not [each for each in reloaded.warnings if "expires" in each]


@pytest.mark.gen_test
async def test_certificates_are_those_of_the_last_reload_that_succeeded(
    serve: Serve, file: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    variables = [
        dict(zip(("TLS_CERT", "TLS_KEY"), pem_files(authority.issue_cert("a.test"), tmp_path, name), strict=True))
        for name in ("old", "new")
    ]
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]}, **variables[0])

    def shown() -> object:
        return serial_of(reloading.running.port, authority)

    old = await asyncio.to_thread(shown)
    reloading.write({"svc": [REFUSING]}, **variables[1])
    reloaded = await reloading.reloader.reload()
    assert [each.split()[0] for each in reloaded.changes] == ["TLS_CERT", "TLS_KEY"]
    new = await asyncio.to_thread(shown)
    assert new != old
    reloading.write({"svc": [REFUSING]}, **variables[0] | {"TLS_KEY": str(tmp_path / "missing")})
    with pytest.raises(ConfigurationRefused, match=r"TLS_KEY=.*cannot be read"):
        await reloading.reloader.reload()
    assert await asyncio.to_thread(shown) == new
    authorities = ca_file(authority, tmp_path)
    reloading.write({"svc": [REFUSING]}, **variables[1], TLS_CLIENT_CA=authorities)
    await reloading.reloader.reload()
    with pytest.raises(OSError):  # a refused handshake, which TLS 1.3 tells by an alert or a reset
        await asyncio.to_thread(shown)
    reloading.write({"svc": [REFUSING]}, **variables[1], TLS_CLIENT_CA=authorities, TLS_CLIENT_AUTH="optional")
    await reloading.reloader.reload()
    assert await asyncio.to_thread(shown) == new


# ---------------------------------------------------------------- services, endpoints, what stays


@pytest.mark.gen_test
async def test_services_and_endpoints_come_and_go_and_what_stays_keeps_everything(
    serve: Serve, upstream: Start, file: Path
) -> None:
    ups = [upstream(named(each)) for each in (b"one", b"two", b"three")]
    urls = [each.url for each in ups]
    reloading = await Reloading.start(serve, file, {"svc": urls[:2], "old": urls[:1]}, SLOW_START_MS="0")
    app, running = reloading.running.app, reloading.running
    client = await running.client()
    assert (await client.ask(get(b"/api/old/x"))).body == b"one"
    service, (one, two) = app.gateway.services[b"svc"], endpoints(reloading)
    service.drain(two, app.gateway.now())
    service.force_breaker(one, app.gateway.now(), 60.0)
    one.requests_total = 17
    new = {"svc": {"endpoints": [urls[0], {"url": urls[1], "weight": 5}, urls[2]], "retryAttempts": 2}, "new": urls[2:]}
    reloading.write(new, SLOW_START_MS="0")
    assert (await reloading.reload())["changes"] == [
        f"service svc: added {urls[2]}; {urls[1]} has weight 5 instead of 1; retryAttempts 2, was unset",
        "service new: new, 1 endpoint",
        "service old: removed",
    ]
    assert app.gateway.services[b"svc"] is service and service.config.retry.attempts == 2
    assert endpoints(reloading)[:2] == (one, two)
    assert (one.requests_total, one.breaker.is_open, two.weight) == (17, True, 0)
    assert (await client.ask(get(b"/api/svc/x"))).body == b"three"
    assert (await client.ask(get(b"/api/new/x"))).body == b"three"
    problem(await client.ask(get(b"/api/old/x")), 404, "unknown_service")
    service.release(two.url, app.gateway.now())
    assert two.weight == 5
    reloading.write({"svc": [urls[1]]}, SLOW_START_MS="0")
    assert f"service svc: removed {urls[0]}; removed {urls[2]}" in (await reloading.reload())["changes"][0]
    assert endpoints(reloading) == (two,)
    assert (await client.ask(get(b"/api/svc/x"))).body == b"two"


@pytest.mark.gen_test
async def test_requests_and_streams_of_what_has_gone_end_in_peace(serve: Serve, upstream: Start, file: Path) -> None:
    gate, more = Gate(), asyncio.Event()

    async def stream(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await more.wait()
        await peer.send(chunk(b"data: 2\n\n") + b"0\r\n\r\n")
        await peer.ended()

    slow, events, other = upstream(gate), upstream(stream), upstream(echo)
    reloading = await Reloading.start(serve, file, {"slow": [slow.url], "events": [events.url]})
    asking, listening = await reloading.running.client(), await reloading.running.client()
    await asking.send(get(b"/api/slow/x"))
    await listening.send(get(b"/sse/events/x"))
    await eventually(lambda: gate.waiting)
    assert (await listening.head()).status == 200
    reloading.write({"events": [other.url]})
    await reloading.reload()
    more.set()
    await gate.open()
    assert (await asking.response()).status == 200
    problem(await asking.ask(get(b"/api/slow/x")), 404, "unknown_service")
    assert b"data: 2" in await listening.until(b"\r\n0\r\n\r\n")


@pytest.mark.gen_test
async def test_the_file_of_services_is_read_again(serve: Serve, upstream: Start, file: Path, tmp_path: Path) -> None:
    first, second = upstream(named(b"first")), upstream(named(b"second"))
    services = tmp_path / "services.json"
    services.write_text(json.dumps({"svc": [first.url]}))
    write(file, {"UPSTREAMS_FILE": str(services)})
    running = await serve({}, UPSTREAMS="", UPSTREAMS_FILE=str(services))
    reloading = Reloading(running, file, QUIET)
    assert (await ask(running, get(b"/api/svc/x"))).body == b"first"
    services.write_text(json.dumps({"svc": [second.url]}))
    assert (await reloading.reload())["changes"] == [f"service svc: added {second.url}; removed {first.url}"]
    assert (await ask(running, get(b"/api/svc/x"))).body == b"second"
    services.write_text('{"svc": ["nonsense"]}')
    said = problem(await reloading.post(), 422, "configuration_refused")
    assert said["message"].startswith(f'{file}:1: UPSTREAMS_FILE.svc[0]="nonsense": ')
    assert (await ask(running, get(b"/api/svc/x"))).body == b"second"


@pytest.mark.gen_test
async def test_routes_change(serve: Serve, upstream: Start, file: Path) -> None:
    up = upstream(echo)
    reloading = await Reloading.start(serve, file, {"svc": [up.url]})
    client = await reloading.running.client()
    problem(await client.ask(get(b"/things/x")), 404, "not_found")
    reloading.write({"svc": [up.url]}, ROUTES=json.dumps([{"path": "/things/*", "service": "svc"}]))
    assert (await reloading.reload())["changes"] == ["route /things/*: new"]
    assert (await client.ask(get(b"/things/x"))).status == 200
    reloading.write({"svc": [up.url]}, ROUTES=json.dumps([{"path": "/things/*", "service": "svc", "strip": True}]))
    assert (await reloading.reload())["changes"] == ["route /things/*: changed"]
    reloading.write({"svc": [up.url]})
    assert (await reloading.reload())["changes"] == ["route /things/*: removed"]
    problem(await client.ask(get(b"/things/x")), 404, "not_found")


# ---------------------------------------------------------------- the response cache

MISS, HIT, NOT_KEPT, NEWER = b"fwd=uri-miss; stored", b"hit", b"fwd=uri-miss", b"fwd=request; stored"


async def told(client: Client, path: bytes = b"/api/svc/x") -> bytes:
    """Cache-Status of a request that is always the same but for its path, without the lifetime that is left."""
    status = status_of(await client.ask(get(path, b"X-Tenant: a", b"Cache-Control: no-cache")))
    return status.partition(b"; ttl=")[0]


@pytest.mark.parametrize(
    ("before", "after", "same", "other"),
    [
        ({}, {}, NEWER, MISS),
        ({}, {"cacheKeyHeaders": ["X-Tenant"]}, MISS, MISS),
        ({"cacheKeyHeaders": ["X-Tenant"]}, {}, MISS, MISS),
        ({}, {"preserveHost": True}, MISS, MISS),
        ({"preserveHost": True}, {}, MISS, MISS),
        ({}, {"cacheIgnoreHost": True}, MISS, MISS),
        ({"cacheIgnoreHost": True}, {}, MISS, MISS),
        ({}, {"cacheIgnoreClient": True}, HIT, MISS),
        ({"cacheIgnoreClient": True}, {}, NEWER, MISS),
        ({"cacheDefaultTtlMs": 9000}, {"cacheDefaultTtlMs": 0}, b"fwd=request", NOT_KEPT),
        ({"cacheDefaultTtlMs": 0}, {"cacheDefaultTtlMs": 9000}, MISS, MISS),
    ],
    ids=str,
)
@pytest.mark.gen_test
async def test_a_connection_that_stays_is_answered_by_the_new_values_of_the_cache(
    serve: Serve, upstream: Start, file: Path,
    before: dict[str, Any], after: dict[str, Any], same: bytes, other: bytes,
) -> None:  # fmt: skip
    """The connection repeats its field lines byte for byte, which the gateway reads once."""
    up = upstream(Origin() if "cacheDefaultTtlMs" in before else Origin(FRESH))
    services = [{"svc": {"endpoints": [up.url], "auth": "none", **each}} for each in (before, after)]
    reloading = await Reloading.start(serve, file, services[0], **ON)
    client = await reloading.running.client()
    first = await told(client)
    assert first == (NOT_KEPT if before == {"cacheDefaultTtlMs": 0} else MISS)
    assert await told(client, b"/api/svc/y") == first
    reloading.write(services[1], **ON)
    assert bool((await reloading.reload())["changes"]) == (before != after)
    assert (await told(client), await told(client, b"/api/svc/z")) == (same, other)


@pytest.mark.gen_test
async def test_a_connection_that_stays_shares_nothing_once_each_principal_has_a_cache_of_its_own(
    serve: Serve, upstream: Start, file: Path
) -> None:
    up = upstream(Origin(b"Cache-Control: public, max-age=60"))
    bearers = [b"Authorization: Bearer " + jwt.encode({"sub": name}, KEY).encode() for name in ("ada", "bob")]
    reloading = await Reloading.start(serve, file, {"svc": [up.url]}, JWT_SECRET=KEY, AUTH_REQUIRED="true", **ON)
    clients = [await reloading.running.client() for _ in bearers]
    ask_all = [(client, get(b"/api/svc/x", line)) for client, line in zip(clients, bearers, strict=True)]
    assert [(await client.ask(request)).body for client, request in ask_all] == [b"answer 1"] * 2
    reloading.write(
        {"svc": {"endpoints": [up.url], "cacheScope": "principal"}}, JWT_SECRET=KEY, AUTH_REQUIRED="true", **ON
    )
    await reloading.reloader.reload()
    assert [(await client.ask(request)).body for client, request in ask_all * 2] == [b"answer 2", b"answer 3"] * 2


@pytest.mark.gen_test
async def test_a_connection_that_stays_is_answered_by_the_new_values_of_its_route(
    serve: Serve, upstream: Start, file: Path
) -> None:
    services = {"svc": {"endpoints": [upstream(Origin(FRESH)).url], "auth": "none"}}
    routes = [
        {"ROUTES": json.dumps([{"path": "/things/*", "service": "svc", "cache": {"enabled": True, **own}}])}
        for own in ({}, {"keyHeaders": ["X-Tenant"]})
    ]
    reloading = await Reloading.start(serve, file, services, **routes[0])
    client = await reloading.running.client()
    assert [await told(client, b"/things/x") for _ in range(2)] == [MISS, NEWER]
    reloading.write(services, **routes[1])
    await reloading.reload()
    assert [await told(client, b"/things/x") for _ in range(2)] == [MISS, NEWER]


# ---------------------------------------------------------------- credentials and limits


@pytest.mark.gen_test
async def test_keys_count_for_the_next_request_of_every_connection(serve: Serve, upstream: Start, file: Path) -> None:
    services = {"svc": [upstream(echo).url]}
    reloading = await Reloading.start(serve, file, services, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    client, request = await reloading.running.client(), get(b"/api/svc/x", bearer())
    for _ in range(2):
        assert (await client.ask(request)).status == 200
    accepted = reloading.running.app.gateway.authenticator.accepted  # type: ignore[union-attr]
    reloading.write(services, AUTH_REQUIRED="true", JWT_SECRET="n" * 32)
    assert (await reloading.reload(bearer()))["changes"] == ["JWT_SECRET changed"]
    problem(await client.ask(request), 401, "unauthorized")
    new = b"Authorization: Bearer " + jwt.encode({"sub": "ada"}, "n" * 32).encode()
    assert (await client.ask(get(b"/api/svc/x", new))).status == 200
    assert reloading.running.app.gateway.authenticator.accepted == accepted + 2  # type: ignore[union-attr]
    reloading.write(services, AUTH_REQUIRED="false")
    assert (await reloading.reload(new))["changes"] == ["AUTH_REQUIRED true -> false", "JWT_SECRET ******** -> unset"]
    assert (await client.ask(get(b"/api/svc/x"))).status == 200
    assert reloading.running.app.gateway.authenticator is None


@pytest.mark.gen_test
async def test_sessions_end_if_credentials_have_changed_and_else_stay(serve: Serve, file: Path) -> None:
    services = {"svc": [REFUSING]}
    reloading = await Reloading.start(serve, file, services, AUTH_REQUIRED="true", JWT_SECRET=KEY)
    cookie = await log_in(reloading.running, token())
    reloading.write(services, AUTH_REQUIRED="true", JWT_SECRET=KEY, ADMIN_SESSION_IDLE_MS="60000", METRICS_AUTH="true")
    assert (await ask(reloading.running, get(b"/metrics"))).status == 200
    await reloading.reload(cookie, ORIGIN)
    assert (await ask(reloading.running, get(b"/metrics"))).status == 401
    assert (await ask(reloading.running, get(b"/admin/stats", cookie))).status == 200
    assert reloading.running.app.gateway.operators.sessions.config.idle == 60.0
    hash_ = "ops:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    reloading.write(services, AUTH_REQUIRED="true", JWT_SECRET=KEY, ADMIN_PASSWORD_HASH=hash_)
    await reloading.reload(cookie, ORIGIN)
    problem(await ask(reloading.running, get(b"/admin/stats", cookie)), 401, "unauthorized")
    assert reloading.running.app.gateway.operators.is_password is not None


@pytest.mark.gen_test
async def test_counters_of_a_rate_limit_stay_unless_the_limit_changes(
    serve: Serve, upstream: Start, file: Path
) -> None:
    services = {"svc": [upstream(echo).url]}
    reloading = await Reloading.start(serve, file, services, RATE_LIMITS="2/h")
    client = await reloading.running.client()
    for _ in range(2):
        assert (await client.ask(get(b"/api/svc/x"))).status == 200
    reloading.write(services, RATE_LIMITS="2/h", HEDGE="true")
    await reloading.reloader.reload()
    assert (await client.ask(get(b"/api/svc/x"))).status == 429
    reloading.write(services, RATE_LIMITS="3/h")
    await reloading.reloader.reload()
    assert (await client.ask(get(b"/api/svc/x"))).status == 200
    reloading.write(services)
    await reloading.reloader.reload()
    assert reloading.running.app.gateway.limits is None
    assert (await client.ask(get(b"/api/svc/x"))).status == 200
    reloading.write(services, RATE_LIMITS="1/h", CACHE_ENABLED="true", AUTH_TOKEN_SOURCES="header,ticket")
    await reloading.reloader.reload()
    assert [(await client.ask(get(b"/api/svc/x"))).status for _ in range(2)] == [200, 429]
    reloading.write(services)
    await reloading.reloader.reload()
    assert reloading.running.app.gateway.cache is None and reloading.running.app.gateway.tickets is None


# ---------------------------------------------------------------- wrong configurations


@pytest.mark.gen_test
async def test_a_wrong_file_changes_nothing_and_says_all_that_is_wrong(
    serve: Serve, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]})
    gateway, settings = reloading.running.app.gateway, reloading.running.app.settings
    reloading.write({"svc": ["http://127.0.0.1:2"]}, BREAKER_FAILURES="many", JWT_SECRETS="hunter2")
    said = problem(await reloading.post(), 422, "configuration_refused")["message"]
    first = f'{file}:2: BREAKER_FAILURES="many": is not a whole number; allowed: 0 to 1000000'
    assert said.startswith(first + "; ") and "hunter2" not in said and f"{file}:3: JWT_SECRETS" in said
    assert f"not reloaded, the old configuration stays: {first}" in caplog.messages
    assert (reloading.running.app.gateway, reloading.running.app.settings) == (gateway, settings)
    assert [each.url for each in endpoints(reloading)] == [REFUSING]
    file.write_text("this is no line\n")
    said = problem(await reloading.post(), 422, "configuration_refused")["message"]
    assert said.startswith(f"{file}:1: sets nothing: it has no =")
    file.unlink()
    assert "cannot be read" in problem(await reloading.post(), 422, "configuration_refused")["message"]
    reloading.write({"svc": [REFUSING]})
    assert (await reloading.reload())["changes"] == []


@pytest.mark.gen_test
async def test_a_part_that_cannot_use_the_settings_keeps_all_others_from_changing(serve: Serve, file: Path) -> None:
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]})
    told: list[Settings] = []

    def refuse(settings: Settings) -> Callable[[], None]:
        if settings.server.max_body_bytes == 7:
            raise ConfigurationError((Problem("TLS_CERT", "", "has expired", "a certificate"),))
        return lambda: told.append(settings)

    reloading.running.app.parts.append(refuse)
    reloading.write({"svc": ["http://127.0.0.1:2"]}, MAX_BODY_BYTES="7")
    with pytest.raises(ConfigurationRefused, match="TLS_CERT: has expired; allowed: a certificate"):
        await reloading.reloader.reload()
    assert [each.url for each in endpoints(reloading)] == [REFUSING] and told == []
    reloading.write({"svc": ["http://127.0.0.1:2"]}, MAX_BODY_BYTES="8")
    await reloading.reloader.reload()
    assert told == [reloading.running.app.settings]


@pytest.mark.gen_test
async def test_nobody_reloads_in_a_drain_or_without_a_reloader(serve: Serve, file: Path) -> None:
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]})
    running = reloading.running
    running.app.gateway.lifecycle.draining = True
    assert problem(await reloading.post(), 422, "configuration_refused")["message"] == "the gateway is stopping"
    await reloading.reloader.try_to_reload()
    running.app.gateway.lifecycle.draining = False
    await reloading.reloader.close()
    problem(await reloading.post(), 422, "configuration_refused")


@pytest.mark.gen_test
async def test_what_the_supervisor_hears_and_orders_is_of_the_configuration_in_force(serve: Serve, file: Path) -> None:
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]})
    app = reloading.running.app
    answers = app.answers
    reloading.write({"svc": [REFUSING], "new": [REFUSING]}, CACHE_ENABLED="true")
    await reloading.reload()
    purge = {"service": "new", "url": "/x", "prefix": "", "tags": [], "soft": False}
    await answers["order"](["purge", purge])
    assert app.gateway.cache and app.gateway.cache.store.changes == 1
    await ask(reloading.running, get(b"/api/new/x"))  # looks into the cache
    assert from_plain(await answers["figures"]([False, False])).cache.results


@pytest.mark.gen_test
async def test_who_may_reload(serve: Serve, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    strict = {"AUTH_REQUIRED": "true", "JWT_SECRET": KEY, "ADMIN_SCOPE": "admin"}
    reloading = await Reloading.start(serve, file, {"svc": [REFUSING]}, **strict)
    caplog.set_level(logging.INFO)
    problem(await reloading.post(), 401, "unauthorized")
    problem(await reloading.post(bearer()), 403, "forbidden")
    problem(await reloading.post(bearer(scope="admin"), b"Origin: https://evil.example"), 403, "forbidden")
    order = get(b"/admin/api/reload", bearer(scope="admin"), method=b"POST", body=b'{"more": 1}')
    problem(await ask(reloading.running, order, b"POST"), 400, "bad_request")
    reloading.write({"svc": [REFUSING]}, **strict, ADMIN_READ_ONLY="true")
    await reloading.reload(bearer(scope="admin"))
    acts = [each for each in caplog.messages if each.startswith("POST /admin/api/reload by")]
    assert acts[-1].endswith("200 (reloaded, changes: 1)") and len(acts) == 5
    problem(await reloading.post(bearer(scope="admin")), 405, "method_not_allowed")


# ---------------------------------------------------------------- files that are watched


@pytest.mark.gen_test
async def test_a_change_of_a_watched_file_is_a_reload(serve: Serve, upstream: Start, file: Path) -> None:
    first, second = upstream(named(b"first")), upstream(named(b"second"))
    reloading = await Reloading.start(serve, file, {"svc": [first.url]}, RELOAD_WATCH="true")
    reloading.write({"svc": [second.url]}, RELOAD_WATCH="true")
    await eventually(lambda: endpoints(reloading)[0].url == second.url)
    assert (await ask(reloading.running, get(b"/api/svc/x"))).body == b"second"


def test_a_problem_of_another_source_names_no_line() -> None:
    file = EnvFile({"PORT": "1"}, {"PORT": ".env:1"})
    problem = Problem("PORT", '"x"', "is wrong", "more")
    assert located((problem,), {"PORT": "x"}, file) == (problem,)
    assert str(located((problem,), {"PORT": "1"}, file)[0]).startswith('.env:1: PORT="x": ')
