"""The whole gateway, as a worker asks the supervisor about it."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

from tornado_gateway.errors import WorkersUnavailable
from tornado_gateway.policy.http.stream_tally import OthersStreams
from tornado_gateway.policy.tally import Others
from tornado_gateway.policy.upstream.endpoint import Endpoint
from tornado_gateway.policy.views.credential_list import Use
from tornado_gateway.policy.views.credential_list import from_plain as from_plain_uses
from tornado_gateway.policy.views.state import State, from_plain
from tornado_gateway.policy.views.steps import Steps
from tornado_gateway.upkeep.link import PATIENCE as PATIENCE_OF_LINKS
from tornado_gateway.upkeep.link import Link, LinkError
from tornado_gateway.upkeep.shared import Look, in_slices

PATIENCE = 1.0  # seconds for an answer that a client waits for
PATIENCE_OF_PROBES = 0.3  # seconds: who asks for readiness waits a second, as a rule
PROBE_KEPT = 0.25  # seconds, beside LOOK_KEPT of the supervisor

T = TypeVar("T")


class Whole:
    """The other workers. Whatever waits for an answer raises WorkersUnavailable if the supervisor does not answer.

    Args:
        streams, requests: of the other workers; requests in flight by what they count under, see InFlight.

    Attributes:
        number: of this worker, from 0 on.
        count: of all workers.
        link: to the supervisor; set before the worker accepts.
        others_streams, others_requests: see above.
    """

    link: Link

    def __init__(
        self, streams: OthersStreams | None = None, requests: Others | None = None, number: int = 0, count: int = 1
    ) -> None:
        self.others_streams, self.others_requests, self.number, self.count = streams, requests, number, count
        self._looks: dict[tuple[str, object], Look[dict[int, Any]]] = {}

    async def others(self, name: str, body: object = None) -> dict[int, Any]:
        """What other workers say to a probe, by their numbers; nothing of a worker that does not answer at once.

        However many probes come, the others are asked some times a second.
        """
        place = name, body
        if place not in self._looks:
            self._looks[place] = Look(partial(self._probe, name, body), time.monotonic, PROBE_KEPT)
        return await self._looks[place].get()

    async def _probe(self, name: str, body: object) -> dict[int, Any]:
        try:
            said = await self.link.ask(name, body, PATIENCE_OF_PROBES)
        except LinkError:
            return {}
        return {number: each for number, each in said if number != self.number}

    async def state(self, *, with_minute: bool, with_each: bool) -> State:
        """The figures of all workers; see state_of() in figures.py."""
        return from_plain(await self._ask("state", [with_minute, with_each]))

    async def streams(self, query: str) -> list[dict[str, Any]]:
        """The pages of streams of all workers; see StreamsHandler."""
        pages: list[dict[str, Any]] = await self._ask("streams", query)
        return pages

    async def services(self) -> list[list[dict[str, Any]]]:
        """The services of each worker; see ServicesHandler."""
        pages: list[list[dict[str, Any]]] = await self._ask("services")
        return pages

    async def requests(self, query: str) -> list[dict[str, Any]]:
        """The pages of the newest requests of all workers; see RequestsHandler."""
        pages: list[dict[str, Any]] = await self._ask("requests", query)
        return pages

    async def newer_requests(self, newest: list[int]) -> list[list[list[Any]]]:
        """The requests of each worker that are newer than a number of each; see WholeTail."""
        rows: list[list[list[Any]]] = await self._ask("newer-requests", newest)
        return rows

    async def caches(self) -> list[dict[str, Any]]:
        """What each worker has for the page about the cache; see CacheHandler."""
        pages: list[dict[str, Any]] = await self._ask("cache")
        return pages

    async def uses(self) -> list[Use]:
        """The credentials of the open streams of all workers; see SessionsHandler."""
        return [each for said in await self._ask("uses") for each in from_plain_uses(said)]

    async def share(self, name: str, body: object, key: str = "") -> list[Any]:
        """Let all other workers carry out an order; return what each has said.

        Args:
            key: a worker that starts later carries out the last order of each name and key, too; "" for none.
        """
        said: list[Any] = await self._ask("order", [name, body, key])
        return said

    def tell(self, name: str, body: object, key: str = "") -> None:
        """As share(), without waiting."""
        self.link.tell("order", [name, body, key])

    def tell_breaker(self, service: str, endpoint: Endpoint) -> None:
        """Tell the others that a breaker has opened, opened again or closed."""
        breaker = endpoint.breaker
        until = breaker.open_until if breaker.is_open else None
        self.tell("breaker", [service, endpoint.url, until, breaker.level], f"{service} {endpoint.url}")

    def tell_health(self, service: str, endpoint: Endpoint) -> None:
        """Tell the others what the checks of an endpoint have shown."""
        said = [service, endpoint.url, endpoint.checks_pass, endpoint.last_check]
        self.tell("health", said, f"{service} {endpoint.url}")

    def tell_attempt(self, client: str, began: float, begins: bool) -> None:  # see Attempts
        """Tell the others of an attempt to find a password."""
        self.tell("password-attempt", [client, began, begins])

    async def judge(self, said: list[Any], patience: float) -> list[Any] | None:
        """What the supervisor says about rate limits; see adapters/supervisor_limits.py."""
        try:
            answers: list[Any] = await self.link.ask("limits", said, patience)
        except LinkError:
            return None
        return answers

    async def keep_ticket(self, digest: str, ticket: str, seconds: float) -> bool:
        """Keep a ticket for all workers; return whether there is room."""
        is_kept: bool = await self._ask("keep-ticket", [digest, ticket, seconds], PATIENCE)
        return is_kept

    async def take_ticket(self, digest: str) -> str | None:
        """Take a ticket, which no worker gets again; None for no good ticket."""
        ticket: str | None = await self._ask("take-ticket", digest, PATIENCE)
        return ticket

    async def begin_attempt(self, client: str) -> tuple[float, float]:
        """Count an attempt to log in; see Attempts.

        Returns:
            The seconds that the client must wait first, and the instant of the attempt.
        """
        wait, began = await self._ask("attempt", client)
        return wait, began

    async def _ask(self, name: str, body: object = None, patience: float = PATIENCE_OF_LINKS) -> Any:
        """The supervisor's answer.

        Raises:
            WorkersUnavailable: there is none.
        """
        try:
            return await self.link.ask(name, body, patience)
        except LinkError:
            raise WorkersUnavailable from None

    def attempt_succeeded(self, client: str, began: float) -> None:
        self.link.tell("succeeded", [client, began])


class Gathered(Generic[T]):
    """A page about all workers; has what Shared has.

    Args:
        gather: gives the figures of all workers.
        render: renders these.
        now: seconds on a monotonic clock.
    """

    def __init__(
        self, gather: Callable[[], Awaitable[State]], render: Callable[[State], Steps[T]], now: Callable[[], float]
    ) -> None:
        self._gather, self._render, self._now = gather, render, now

    async def get(self) -> T:
        return await in_slices(self._render(await self._gather()), self._now)

    def close(self) -> None:
        """Nothing goes on without a caller."""
