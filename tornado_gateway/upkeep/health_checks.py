"""Health checks: of endpoints of services with health checks, and of endpoints whose breaker is open.

policy/upstream/health.py and policy/upstream/breaker.py decide what an answer means. Requests of users close a breaker
too; but without requests nobody would notice that an endpoint works again, so the gateway probes the endpoint once its
opening is over. A service that is configured anew has the next check by the new configuration.

A probe is the service's health check. For a service without a health check the probe makes a connection, and only if
the endpoint's failure was that no connection could be made: a connection proves nothing about other failures.

Each check has a connection of its own, which is closed afterwards. A kept connection proves nothing about new
connections: the endpoint may accept none. And the endpoint may have just closed a kept connection, which is no failure.

HTTP and WebSocket checks go through fetch(), the latter as a request that asks for an upgrade: the status alone
counts, and no frame is sent. Each check runs in a task of its own, at most AT_ONCE for each service; the check that is
overdue longest begins first.
"""

import asyncio
import base64
import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from tornado.httpclient import HTTPError

from tornado_gateway.errors import OutOfSockets, UpstreamError
from tornado_gateway.policy.http.handshake import VERSION
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.upstream.health import Health, HealthConfig, HealthKind, first_pause
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.client.client import PooledHTTPClient
from tornado_gateway.wire.client.fetch import DirectRequest

MOST_OF_BODY = 64 * 1024  # bytes of a response that must arrive; the rest is not awaited
AT_ONCE = 64  # checks of a service under way: bounds descriptors, and TLS handshakes at the same moment
IDLE_FOR = 1.0  # seconds that an endpoint whose opening is over waits for a user's request
CONNECT_ONLY = HealthConfig(kind=HealthKind.TCP)
USER_AGENT = {"User-Agent": "tornado-gateway-health-check"}
CLOSE = {"Connection": "close"}  # RFC 9112 §9.6


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


class Shares(NamedTuple):
    """How workers share the endpoints. By default, a process is alone.

    Attributes:
        is_mine: whether this worker looks after the endpoint with a name.
        tell: tells other workers what the checks of an endpoint of a service have shown.
    """

    is_mine: Callable[[str], bool] = lambda _: True
    tell: Callable[[str, Endpoint], None] = lambda _, __: None


class HealthChecks:
    """A Sweeper that checks endpoints.

    Args:
        services: to look after, iterated live; those without health checks only where a breaker is open.
        now: seconds on the monotonic clock that breakers go by.
        at_once: checks of a service that may be under way; ≥ 1.
        shares: of other workers.
    """

    def __init__(
        self,
        services: Collection[Service],
        client: PooledHTTPClient,
        rng: random.Random,
        now: Callable[[], float],
        at_once: int = AT_ONCE,
        shares: Shares = Shares(),  # noqa: B008  # a frozen record
    ) -> None:
        self._at_once, self._shares = at_once, shares
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
                shows = shows and self._is_mine(service, endpoint)
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
                if self._is_mine(service, endpoint):
                    due.append((checked.due, endpoint, checked))
                else:  # perhaps at the next time, if the worker that checks has ended
                    checked.health.follow(up=endpoint.checks_pass)
                    checked.due = now + checked.health.pause(config, self._rng)
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
        if passed is None:
            checked.due = self._now() + checked.health.pause(configured, self._rng)
            return
        is_news = shown != endpoint.last_check
        service.note_check(endpoint, shown, passed=passed)
        checked.health.follow(up=endpoint.checks_pass)
        if checked.health.record(configured, passed=passed):
            service.set_health(endpoint, self._now(), up=checked.health.is_up)
            is_news = True
        if is_news:
            self._shares.tell(service.name, endpoint)
        checked.due = self._now() + checked.health.pause(configured, self._rng)

    def _is_mine(self, service: Service, endpoint: Endpoint) -> bool:
        """Whether this worker checks an endpoint, of all workers."""
        return self._shares.is_mine(f"{service.name} {endpoint.url}")

    def _begin_probe(self, service: Service, endpoint: Endpoint, now: float) -> None:
        if endpoint not in self._probes:
            permit = service.begin_permit(endpoint, now)
            task = self._probes[endpoint] = self._client.loop.create_task(self._probe(service, endpoint, permit))
            task.add_done_callback(lambda _: self._probes.pop(endpoint))

    async def _probe(self, service: Service, endpoint: Endpoint, permit: int) -> None:
        passed: bool | None = None
        try:
            passed, shown = await self._ask(endpoint, service.config.checks or CONNECT_ONLY)
            if passed is not None:
                service.note_check(endpoint, shown, passed=passed)
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

    async def _ask(self, endpoint: Endpoint, config: HealthConfig) -> tuple[bool | None, str]:
        """Check an endpoint; return whether the check passed, and the result in words.

        Nothing was learnt (None) if this machine could make no connection.
        """
        try:
            if config.kind is HealthKind.TCP:
                await self._connect(endpoint, config.timeout)
                return True, "connected"
            response = await self._client.fetch(self._request(endpoint, config), raise_error=False)
        except TimeoutError:
            return False, "timeout"
        except (UpstreamError, OutOfSockets) as error:
            return _failed_by(error)
        except HTTPError as error:  # fetch()'s, with the cause of the failure
            return _failed_by(error.__cause__)
        return response.code in config.expected, str(response.code)

    async def _connect(self, endpoint: Endpoint, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            connection = await self._client.connector.connect(endpoint.origin, _Connection, seconds)
        connection.transport.abort()

    def _request(self, endpoint: Endpoint, config: HealthConfig) -> DirectRequest:
        upgrades = config.kind is HealthKind.WEBSOCKET
        return DirectRequest(
            endpoint.origin,
            endpoint.base_path + config.path.encode("ascii"),
            headers=USER_AGENT | (self._handshake() if upgrades else CLOSE),
            connect_timeout=config.timeout,
            request_timeout=config.timeout,
            streaming_callback=_ignore,
            most_of_body=MOST_OF_BODY,
            upgrades=upgrades,
        )

    def _handshake(self) -> dict[str, str]:
        """The fields of a WebSocket handshake (RFC 6455 §4.1)."""
        return {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(self._rng.randbytes(16)).decode("ascii"),
            "Sec-WebSocket-Version": VERSION.decode("ascii"),
        }


def _failed_by(error: BaseException | None) -> tuple[bool | None, str]:
    """The result of a check that had no answer; see HealthChecks._ask()."""
    if isinstance(error, OutOfSockets):
        return None, error.reason
    return False, error.reason if isinstance(error, UpstreamError) else "timeout"


def _ignore(piece: bytes) -> None:
    """A check looks at the status alone."""


class _Connection(asyncio.Protocol):
    """A connection that only shows that the endpoint accepts connections."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit from asyncio's
