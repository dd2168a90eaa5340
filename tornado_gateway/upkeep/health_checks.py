"""Health checks: of endpoints of services with health checks, and of endpoints whose breaker is open.

policy/upstream/health.py and policy/upstream/breaker.py decide what an answer means. Requests of users close a breaker
too; but without requests nobody would notice that an endpoint works again, so the gateway probes the endpoint once its
opening is over. A service that is configured anew has the next check by the new configuration.
A service without a health check does not say what to ask for. Then the probe makes a connection, if that was what had
failed; a connection shows nothing about an endpoint that failed in another way.

Each check makes a connection of its own and closes the connection afterwards. A kept connection of users proves nothing
about new connections: the endpoint may accept none any more. And a kept connection may just have been closed by the
endpoint, which is no failure.

The heartbeat starts the checks, each in a task of its own. A service has no more than AT_ONCE checks under way; the
check that is due longest is the first to begin. Services do not wait for each other's checks.
"""

import asyncio
import base64
import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import itemgetter

from tornado_gateway.errors import UpstreamError
from tornado_gateway.policy.http.handshake import VERSION
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.health import Health, HealthConfig, HealthKind, first_pause
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.receivers import BodyReceiver, BodySource
from tornado_gateway.wire.http1 import ResponseHead

MOST_OF_BODY = 64 * 1024  # bytes of a response that must arrive; the rest is not awaited
AT_ONCE = 64  # checks of a service under way: bounds descriptors, and TLS handshakes at the same moment
IDLE_FOR = 1.0  # seconds that an endpoint whose opening is over waits for a user's request
CONNECT_ONLY = HealthConfig(kind=HealthKind.TCP)


@dataclass(slots=True)
class _Checked:
    """An endpoint that is checked.

    Attributes:
        due: instant of the next check.
        task: the check that is under way, or None.
    """

    due: float
    health: Health = field(default_factory=Health)
    task: "asyncio.Task[None] | None" = None


class HealthChecks:
    """A Sweeper that checks endpoints.

    Args:
        services: to look after, iterated live; those without health checks only where a breaker is open.
        now: seconds on the monotonic clock that breakers go by.
        at_once: checks of a service that may be under way; ≥ 1.
    """

    def __init__(
        self,
        services: Collection[Service],
        client: PooledHTTPClient,
        rng: random.Random,
        now: Callable[[], float],
        at_once: int = AT_ONCE,
    ) -> None:
        self._at_once = at_once
        self._services = services
        self._client, self._rng, self._now = client, rng, now
        self._checked: dict[Endpoint, _Checked] = {}
        self._probes: dict[Endpoint, asyncio.Task[None]] = {}
        self._is_closed = False

    @property
    def shortest_timeout(self) -> float:
        """Seconds of the shortest interval between two checks of an endpoint; math.inf if no service has checks."""
        configs = [service.config.checks for service in self._services if service.config.checks]
        return min((config.shortest_timeout for config in configs), default=math.inf)

    def sweep(self, now: float) -> None:
        """Begin the checks and probes that are due."""
        if self._is_closed:
            return
        for service in self._services:
            if service.config.checks:
                self._begin_checks(service, service.config.checks, now)
            for endpoint in [each for each in service.endpoints if each.breaker.is_open]:
                shows = service.config.checks or endpoint.is_unreachable
                if shows and now >= endpoint.breaker.open_until + IDLE_FOR and endpoint.breaker.passes(now):
                    self._begin_probe(service, endpoint, now)
        if len(self._checked) > sum(len(service.endpoints) for service in self._services if service.config.checks):
            self._forget_departed()

    def close(self) -> None:
        """Begin no more checks, and cancel the checks under way."""
        self._is_closed = True
        for task in [*self._probes.values(), *[each.task for each in self._checked.values() if each.task]]:
            task.cancel()

    def _begin_checks(self, service: Service, config: HealthConfig, now: float) -> None:
        due, under_way, latest = [], 0, now + config.longest_pause
        for endpoint in service.endpoints:
            checked = self._checked.get(endpoint)
            if checked is None:
                self._checked[endpoint] = _Checked(now + first_pause(config, self._rng))
            elif checked.task:
                under_way += 1
            elif now >= checked.due:
                due.append((checked.due, endpoint, checked))
            elif checked.due > latest:  # the interval has been configured shorter
                checked.due = now + first_pause(config, self._rng)
        due.sort(key=itemgetter(0))
        for _, endpoint, checked in due[: self._at_once - under_way]:
            checked.task = self._client.loop.create_task(self._check(service, config, endpoint, checked))

    async def _check(self, service: Service, config: HealthConfig, endpoint: Endpoint, checked: _Checked) -> None:
        try:
            passed, shown = await self._ask(endpoint, config)
        finally:
            checked.task = None
        configured = service.config.checks
        if not configured:  # switched off meanwhile
            return
        service.note_check(endpoint, shown)
        if checked.health.record(configured, passed=passed):
            service.set_health(endpoint, self._now(), up=checked.health.is_up)
        checked.due = self._now() + checked.health.pause(configured, self._rng)

    def _begin_probe(self, service: Service, endpoint: Endpoint, now: float) -> None:
        if endpoint not in self._probes:
            permit = service.begin_permit(endpoint, now)
            task = self._probes[endpoint] = self._client.loop.create_task(self._probe(service, endpoint, permit))
            task.add_done_callback(lambda _: self._probes.pop(endpoint))

    async def _probe(self, service: Service, endpoint: Endpoint, permit: int) -> None:
        passed: bool | None = None
        try:
            passed, shown = await self._ask(endpoint, service.config.checks or CONNECT_ONLY)
            service.note_check(endpoint, shown)
        finally:
            failed = None if passed is None else not passed
            service.end_permit(endpoint, permit, self._now(), failed=failed)

    def _forget_departed(self) -> None:
        checked = [service for service in self._services if service.config.checks]
        present = {endpoint for service in checked for endpoint in service.endpoints}
        for endpoint in [each for each in self._checked if each not in present]:
            task = self._checked.pop(endpoint).task
            if task:
                task.cancel()

    # ---- asking

    async def _ask(self, endpoint: Endpoint, config: HealthConfig) -> tuple[bool, str]:
        """Check an endpoint; return whether the check passed, and the result in words."""
        try:
            async with asyncio.timeout(config.timeout):
                if config.kind is HealthKind.TCP:
                    connection = await self._client.connector.connect(endpoint.origin, _Connection, config.timeout)
                    connection.transport.abort()
                    return True, "connected"
                status = await self._status(endpoint, config)
        except TimeoutError:
            return False, "timeout"
        except UpstreamError as error:
            return False, error.reason
        return status in config.expected, str(status)

    async def _status(self, endpoint: Endpoint, config: HealthConfig) -> int:
        answer = _Answer(self._client.loop)
        exchange = self._client.open(endpoint.origin, b"GET", answer, alone=True)
        lines = b"Connection: close\r\n"  # RFC 9112 §9.6
        if config.kind is HealthKind.WEBSOCKET:
            exchange.upgrades = True
            key = base64.b64encode(self._rng.randbytes(16))
            lines = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            lines += b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\n" % (key, VERSION)
        head = b"GET %b%b HTTP/1.1\r\nHost: %b\r\nUser-Agent: tornado-gateway-health-check\r\n%b\r\n" % (
            endpoint.base_path, config.path.encode("ascii"), endpoint.authority, lines,
        )  # fmt: skip
        exchange.send(head, connect_timeout=config.timeout)
        try:
            return await answer.status
        finally:
            exchange.abort()


class _Connection(asyncio.Protocol):
    """A connection that only shows that the endpoint accepts connections."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit from asyncio's


class _Answer:
    """Both receivers of a check's answer.

    Attributes:
        status: of the response, once it has come, with as much of its body as is read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status: asyncio.Future[int] = loop.create_future()
        self._seen = 0
        self._bytes = 0

    def on_interim(self, head: ResponseHead) -> None:
        """A final response follows."""

    def on_head(self, head: ResponseHead, source: BodySource) -> BodyReceiver:
        self._seen = head.status
        if head.status == 101:
            source.abort()  # the upgraded connection must not go back to the pool
            self._finish()
        return self

    def on_chunk(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MOST_OF_BODY:
            self._finish()

    def on_end(self, trailers: list[Field]) -> None:
        self._finish()

    def on_failure(self, error: UpstreamError) -> None:
        if not self.status.done():
            self.status.set_exception(error)

    def _finish(self) -> None:
        if not self.status.done():
            self.status.set_result(self._seen)
