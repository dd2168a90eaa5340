"""What workers have in common: the figures of all, orders to all, and what a worker that starts later must know."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tornado_gateway.app import LOG_IN_WINDOW
from tornado_gateway.errors import TicketsUnavailable
from tornado_gateway.policy.attempts import Attempts
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.tickets.memory import MemoryTickets
from tornado_gateway.policy.views.keeping import caught_up, kept, of_present
from tornado_gateway.policy.views.state import ProcessState, State, from_plain, merge, to_plain
from tornado_gateway.supervisor.limits import SharedCounters
from tornado_gateway.upkeep.link import PATIENCE as PATIENCE_OF_LINKS
from tornado_gateway.upkeep.link import Link, LinkError
from tornado_gateway.upkeep.shared import Look

PATIENCE = 3.0  # seconds for a worker's figures and pages; of a worker that hangs, the figures before count
LOOK_KEPT = 0.5  # seconds; every worker looks each second, and all see the same
PROBE = 0.2  # seconds for a worker's answer to a probe; below PATIENCE_OF_PROBES of upkeep/whole.py
MOST_ORDERS = 100_000  # of a name: as many as there may be revocations


class Hub:
    """Made inside a running event loop.

    Args:
        now: seconds on a monotonic clock, which all processes of the machine share.
        rules: of rate limits.
        workers: how many there are to be.

    Attributes:
        crashes: workers that have ended without an order.
        links: to the workers that live, by number.
        began: instant of the start of the gateway.
        counters: of rate limits.
    """

    def __init__(self, now: Callable[[], float], rules: Iterable[Rule] = (), workers: int = 1) -> None:
        self._now, self.began = now, now()
        self._count, self.crashes = workers, 0
        self.counters, self._tickets = SharedCounters(rules, now), MemoryTickets()
        self.links: dict[int, Link] = {}
        self._full: dict[int, State] = {}  # the last figures of each worker, with what each stream has carried
        self._newest: dict[int, State] = {}
        self._kept = State()  # of the workers that have ended
        self._orders: dict[str, dict[str, Any]] = {}  # by name and key
        self._memory: dict[str, Any] = {}
        self._attempts = Attempts(window=LOG_IN_WINDOW)
        self._look = Look(partial(self._gather, with_minute=True, with_each=False), now, LOOK_KEPT)
        self._readiness = Look(partial(self._ask_each, "readiness", None, PROBE), now, LOOK_KEPT)
        self._pressure = {
            with_heap: Look(partial(self._ask_each, "pressure", with_heap, PROBE), now, LOOK_KEPT)
            for with_heap in (False, True)
        }

    @property
    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """What the supervisor answers every worker."""
        return {
            "state": self._state,
            "streams": lambda query: self._ask_all("streams", query),
            "services": lambda _: self._ask_all("services", None),
            "requests": lambda query: self._ask_all("requests", query),
            "newer-requests": lambda newest: self._ask_all(
                "newer-requests", newest, PROBE
            ),  # the next look has the rest
            "cache": lambda _: self._ask_all("cache", None),
            "uses": lambda _: self._ask_all("uses", None),
            "readiness": lambda _: self._readiness.get(),
            "pressure": lambda with_heap: self._pressure[with_heap].get(),
            "limits": self.counters.judge,
            "keep-ticket": self._keep_ticket,
            "take-ticket": self._take_ticket,
            "attempt": self._attempt,
            "succeeded": lambda said: self._attempts.succeed(*said),
        }

    def forget(self, number: int) -> None:
        """A worker has ended: what it has counted stays."""
        self.links.pop(number, None)
        newest, full = self._newest.pop(number, State()), self._full.pop(number, State())
        self._kept = merge([self._kept, kept(caught_up(newest, full))])

    # ---- figures

    async def _state(self, said: Sequence[bool]) -> list[Any]:
        with_minute, with_each = said
        if with_each:
            return await self._gather(with_minute=with_minute, with_each=True)
        return await self._look.get()

    async def _gather(self, *, with_minute: bool, with_each: bool) -> list[Any]:
        asked = [self._ask_figures(number, [with_minute, with_each]) for number in sorted(self.links)]
        workers = {"wanted": self._count, "answering": sum(await asyncio.gather(*asked))}
        living = merge(
            caught_up(state, self._full.get(number, State())) for number, state in sorted(self._newest.items())
        )
        own = State(process=ProcessState(workers=workers, crashes=self.crashes), limits=self.counters.state)
        return to_plain(merge([living, of_present(self._kept, living), own]))

    async def _ask_figures(self, number: int, said: list[bool]) -> bool:
        """Ask a worker for its figures; return whether the worker has answered, and lives."""
        link = self.links[number]
        try:
            state = from_plain(await link.ask("figures", said, PATIENCE))
        except LinkError:
            return False
        if self.links.get(number) is not link:
            return False
        self._newest[number] = state
        if said[1]:
            self._full[number] = state
        return True

    # ---- orders

    async def order(self, sender: int, name: str, body: Any, key: str) -> list[Any]:
        """Let the other workers carry out an order; return what each says."""
        if key:
            known = self._orders.setdefault(name, {})
            known.pop(key, None)
            known[key] = body
            if len(known) > MOST_ORDERS:
                del known[next(iter(known))]
        return await self._ask_all("order", [name, body], PATIENCE_OF_LINKS, sender)

    @property
    def for_newcomers(self) -> dict[str, Any]:
        """What a worker must know that starts now: of the gateway before, and the last order of each name and key."""
        orders = {name: list(known.values()) for name, known in self._orders.items()}
        return {**self._memory, "orders": orders, "began": self.began}

    def forget_what_ends(self, *, log_ins: bool, level: bool) -> None:
        """Forget, for workers that start later, operators' log-ins, and the log level that an operator has set."""
        if log_ins:
            self._memory.pop("sessions", None)
            for name in ("log-in", "log-out", "used"):
                self._orders.pop(name, None)
        if level:
            self._orders.pop("log-level", None)

    def tell_all(self, name: str, body: object) -> None:
        """Tell all workers, without an answer."""
        for link in self.links.values():
            link.tell(name, body)

    async def memory(self) -> dict[str, object]:
        """What a successor must know; see memory.py. All workers know the same, but for tickets."""
        for number in sorted(self.links):
            with suppress(LinkError):
                said: dict[str, object] = await self.links[number].ask("memory")
                return {**said, "tickets": self._tickets.to_plain()}
        return {}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Know what another process of the machine knew."""
        self._memory = dict(memory)
        self._tickets.add_plain(memory.get("tickets", ()))

    # ---- what the supervisor keeps

    def sweep(self) -> None:
        """Forget what is too old; called now and then."""
        now = self._now()
        self.counters.sweep(now)
        self._tickets.sweep(now)

    def _keep_ticket(self, said: Sequence[Any]) -> bool:
        digest, ticket, seconds = said
        try:
            self._tickets.put(digest, ticket.encode("latin-1"), seconds, self._now())
        except TicketsUnavailable:
            return False
        return True

    def _take_ticket(self, digest: str) -> str | None:
        ticket = self._tickets.take(digest, self._now())
        return None if ticket is None else ticket.decode("latin-1")

    def _attempt(self, client: str) -> list[float]:
        """Count an attempt to log in, unless the attempt must wait.

        Returns:
            The seconds that the client must wait first, and the present instant.
        """
        now = self._now()
        wait = self._attempts.wait(client, now)
        if not wait:
            self._attempts.begin(client, now)
        return [wait, now]

    async def _ask_all(self, name: str, body: Any, patience: float = PATIENCE, but: int = -1) -> list[Any]:
        """What each worker answers that does."""
        return [said for _, said in await self._ask_each(name, body, patience, but)]

    async def _ask_each(self, name: str, body: Any, patience: float, but: int = -1) -> list[tuple[int, Any]]:
        """The number of each worker that answers, and its answer."""
        numbers = [number for number in sorted(self.links) if number != but]
        asked = [self.links[number].ask(name, body, patience) for number in numbers]
        said = await asyncio.gather(*asked, return_exceptions=True)
        return [pair for pair in zip(numbers, said, strict=True) if not isinstance(pair[1], BaseException)]
