"""What workers have in common: the figures of all, orders to all, and what a worker that starts later must know."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tornado_gateway.app import LOG_IN_WINDOW
from tornado_gateway.policy.attempts import Attempts
from tornado_gateway.policy.views.keeping import caught_up, kept, of_present
from tornado_gateway.policy.views.state import State, from_plain, merge, to_plain
from tornado_gateway.upkeep.link import Link, LinkError

PATIENCE = 3.0  # seconds for a worker's figures; of a worker that hangs, the figures before count
LOOK_KEPT = 0.5  # seconds; every worker looks each second, and all see the same
MOST_ORDERS = 100_000  # of a name: as many as there may be revocations


class Hub:
    """Made inside a running event loop.

    Args:
        now: seconds on a monotonic clock, which all processes of the machine share.

    Attributes:
        links: to the workers that live, by number.
        began: instant of the start of the gateway.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self.began = now, now()
        self.links: dict[int, Link] = {}
        self._full: dict[int, State] = {}  # the last figures of each worker, with what each stream has carried
        self._newest: dict[int, State] = {}
        self._kept = State()  # of the workers that have ended
        self._orders: dict[str, dict[str, Any]] = {}  # by name and key
        self._attempts = Attempts(window=LOG_IN_WINDOW)
        self._looked_at = 0.0
        self._look: asyncio.Task[dict[str, Any]] | None = None

    @property
    def answers(self) -> dict[str, Callable[[Any], Any]]:
        """What the supervisor answers every worker."""
        return {
            "state": self._state,
            "streams": lambda query: self._ask_all("streams", query),
            "attempt": self._attempt,
            "succeeded": lambda said: self._attempts.succeed(*said),
        }

    def forget(self, number: int) -> None:
        """A worker has ended: what it has counted stays."""
        self.links.pop(number, None)
        newest, full = self._newest.pop(number, State()), self._full.pop(number, State())
        self._kept = merge([self._kept, kept(caught_up(newest, full))])

    # ---- figures

    async def _state(self, said: Sequence[bool]) -> dict[str, Any]:
        with_minute, with_each = said
        if with_each:
            return await self._gather(with_minute=with_minute, with_each=True)
        if self._look is None or self._now() - self._looked_at >= LOOK_KEPT:
            self._looked_at = self._now()
            self._look = asyncio.ensure_future(self._gather(with_minute=True, with_each=False))
        return await asyncio.shield(self._look)

    async def _gather(self, *, with_minute: bool, with_each: bool) -> dict[str, Any]:
        await asyncio.gather(*[self._ask_figures(number, [with_minute, with_each]) for number in sorted(self.links)])
        living = merge(
            caught_up(state, self._full.get(number, State())) for number, state in sorted(self._newest.items())
        )
        return to_plain(merge([living, of_present(self._kept, living)]))

    async def _ask_figures(self, number: int, said: list[bool]) -> None:
        link = self.links[number]
        with suppress(LinkError):
            state = from_plain(await link.ask("figures", said, PATIENCE))
            if self.links.get(number) is link:
                self._newest[number] = state
                if said[1]:
                    self._full[number] = state

    # ---- orders

    async def order(self, sender: int, name: str, body: Any, key: str) -> list[Any]:
        """Let the other workers carry out an order; return what each says."""
        if key:
            known = self._orders.setdefault(name, {})
            known.pop(key, None)
            known[key] = body
            if len(known) > MOST_ORDERS:
                del known[next(iter(known))]
        return await self._ask_all("order", [name, body], sender)

    @property
    def orders_so_far(self) -> dict[str, list[Any]]:
        """The last order of each name and key, by name."""
        return {name: list(known.values()) for name, known in self._orders.items()}

    async def memory(self) -> dict[str, object]:
        """What a successor must know; see memory.py. All workers know the same."""
        for number in sorted(self.links):
            with suppress(LinkError):
                said: dict[str, object] = await self.links[number].ask("memory")
                return said
        return {}

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

    async def _ask_all(self, name: str, body: Any, but: int = -1) -> list[Any]:
        """What each worker answers that does."""
        asked = [link.ask(name, body) for number, link in sorted(self.links.items()) if number != but]
        said = await asyncio.gather(*asked, return_exceptions=True)
        return [each for each in said if not isinstance(each, BaseException)]
