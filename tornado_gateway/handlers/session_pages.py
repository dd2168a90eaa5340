"""GET /admin/api/sessions: the credentials in use, so that an operator knows what to revoke (revocations.py)."""

import time
from collections.abc import Iterator

from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.policy.orders import number, parameters
from tornado_gateway.policy.views.credential_list import MOST, LogIn, Use, credentials, uses_of
from tornado_gateway.upkeep.shared import in_slices

PAGE = 100  # credentials


class SessionsHandler(AdminPage):
    """Operators' log-ins, and the credentials of open streams."""

    async def get(self) -> None:
        said = parameters(self.request.query, ("text", "limit"))
        limit = number(said, "limit", 1, MOST, PAGE)
        whole = self.gateway.whole
        uses = await (whole.uses() if whole else uses_in(self.gateway))
        steps = credentials(self._log_ins(), uses, said.get("text", ""), limit)
        self.send_json(await in_slices(steps, self.gateway.now))

    head = get

    def _log_ins(self) -> Iterator[LogIn]:
        """The sessions that a request could use now."""
        now, wall, sessions = self.gateway.now(), time.time(), self.gateway.operators.sessions
        for each in sessions.living(now, wall):
            holder = each.expiry.holder
            if not self.gateway.revocations.refuses(holder, wall):
                yield LogIn(holder, each.id, now - each.used_at, sessions.left(each, now, wall))


async def uses_in(gateway: Gateway) -> list[Use]:
    """The credentials of the open streams of this process."""
    return await in_slices(uses_of(gateway.streams.holders()), gateway.now)
