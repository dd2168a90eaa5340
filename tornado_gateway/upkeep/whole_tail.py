"""The newest requests of all workers, as the dashboard of one worker follows them.

    each look with a viewer:  numbers of the newest known request of each worker ──► supervisor ──► every worker
                                                    newer requests of each  ◄──────────────────────────┘

Without a viewer nobody is asked; the first look with a viewer gets what every worker has kept.
"""

from collections.abc import Sequence

from tornado_gateway.policy.views.request_tail import Cell, Followed, RequestTail
from tornado_gateway.upkeep.whole import Whole


class WholeTail:
    """What an Observer shows of requests.

    Args:
        own: the requests of this worker.
    """

    def __init__(self, own: RequestTail, whole: Whole) -> None:
        self._own, self._whole = own, whole
        self._followed = Followed(whole.count)

    async def follow(self) -> None:
        """Learn what is new.

        Raises:
            WorkersUnavailable: the supervisor does not answer.
        """
        for rows in await self._whole.newer_requests(self._followed.newest):
            self._followed.learn(rows)

    def look(self) -> list[Sequence[Cell]]:
        """As RequestTail.look()."""
        self._own.make_room()
        return self._followed.look()

    def rows(self) -> list[Sequence[Cell]]:
        """As RequestTail.rows()."""
        return self._followed.rows()
