"""DNS SRV as a source of endpoints: the records are looked up again and again."""

import asyncio
from collections.abc import AsyncGenerator

from tornado_gateway.policy.upstream.sources import Source, Target
from tornado_gateway.policy.upstream.srv_records import targets_of
from tornado_gateway.wire.client.resolver import Resolver


class SrvFeed:
    """Looks up records of type SRV; see Feed.

    Args:
        interval: seconds between two look-ups.
    """

    def __init__(self, resolver: Resolver, source: Source, interval: float) -> None:
        self._resolver, self._name, self._interval = resolver, source.name, interval

    async def answers(self) -> AsyncGenerator[tuple[Target, ...], None]:
        """See Feed."""
        while True:
            yield targets_of(await self._resolver.records(self._name))
            await asyncio.sleep(self._interval)
