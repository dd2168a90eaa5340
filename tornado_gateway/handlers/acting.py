"""The base of the pages by which operators change something, and of the log of what operators did.

A request of a safe method reads. Every other request is an act: policy/acting.py says who may act, and from where. Each
act has a line in the log, whether the act was carried out or refused:

    POST /admin/api/revocations by "id|ada" from 203.0.113.7: 201 (revoked jti a1b2)
"""

import json
import logging
from collections.abc import Awaitable
from typing import Any

from tornado_gateway.errors import MethodNotAllowed, NotFound
from tornado_gateway.handlers.admin_page import AdminPage
from tornado_gateway.handlers.admission import SAFE, Admitted, origin_of
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.acting import Asked, check_local, check_same_origin, check_scopes
from tornado_gateway.policy.orders import shown
from tornado_gateway.policy.principal import ANYBODY
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.http1 import fields

audit = logging.getLogger("tornado_gateway.audit")

# What browsers send by themselves, with requests that a page of another origin causes, too. Of a token in a cookie the
# admission checks the origin.
AMBIENT = (Kind.SESSION, Kind.BASIC)

_PRODUCTION = "production"

CONTROL_SOCKET = "control socket"  # who acts by the socket of CTL_SOCKET: a user of the machine


class ActingHandler(AdminPage):
    """A page that changes something by POST, PUT, PATCH or DELETE.

    Attributes:
        who: name of the principal, for the log; "anybody" where no credential is asked for, "nobody" while nobody is
            known.
        deed: what the act has done, for the log; a subclass fills it.
        changes_gateway: whether ADMIN_READ_ONLY removes the acts of the page; not the log-in and the log-out.
    """

    who = "nobody"
    deed = ""
    changes_gateway = True

    @property
    def is_act(self) -> bool:
        return (self.request.method or "").encode("latin-1") not in SAFE

    def prepare(self) -> Awaitable[Any] | None:
        if self.is_act and self.changes_gateway and self.gateway.operators.config.is_read_only:
            raise MethodNotAllowed(self.route.allowed, "ADMIN_READ_ONLY is true: no page changes something")
        return super().prepare()

    def on_admitted(self, admitted: Admitted[Any]) -> None:
        if self.is_act:
            self.check_act(admitted)

    def check_act(self, admitted: Admitted[Any]) -> None:
        """
        Raises:
            GatewayError: the client may not act.
        """
        if self.route.is_private:
            self.who = CONTROL_SOCKET
            return
        asked, principal = self.asked(admitted), admitted.principal
        in_production = self.gateway.environment == _PRODUCTION
        self.who = "anybody" if principal is ANYBODY else principal.name or "unnamed"
        check_same_origin(asked, is_strict=admitted.kind in AMBIENT)
        if principal is ANYBODY:
            check_local(asked, in_production=in_production)
        else:
            is_token, config = admitted.kind is Kind.JWT, self.gateway.operators.config
            check_scopes(config, principal.scopes, in_production=in_production, is_token=is_token)

    async def tell_others(self, name: str, body: object, key: str = "") -> list[Any]:
        """Let all other workers carry out an order; see Whole.share()."""
        return await self.gateway.whole.share(name, body, key) if self.gateway.whole else []

    def service_of(self, name: str) -> Service:
        """The service that an order names.

        Raises:
            NotFound: there is no such service.
        """
        service = self.gateway.services.get(name.encode("utf-8", "replace"))
        if service is None:
            known = ", ".join(each.decode("ascii") for each in self.gateway.services)
            raise NotFound(f"service is {shown(name)}, and must be one of {known}")
        return service

    def asked(self, admitted: Admitted[Any]) -> Asked:
        """Where the request comes from."""
        found = {name.lower(): value for name, value in fields(self.exchange.head.block)}
        return Asked(
            origin_of(self.exchange.head),
            found.get(b"sec-fetch-site"),
            admitted.origination.host,
            self.exchange.connection.peer,
            is_forwarded=any(is_of_a_proxy(name) for name in found),
        )

    def close_journal(self) -> None:
        super().close_journal()
        if self.is_act:
            client = self.journal.client.text if self.journal.client else ""
            place = f" from {client}" if client else ""  # a unix socket has no address
            did = f" ({self.deed})" if self.deed else ""
            who = json.dumps(self.who)
            audit.info("%s %s by %s%s: %d%s",
                       self.request.method, self.request.path, who, place, self.get_status(), did)  # fmt: skip


def is_of_a_proxy(name: bytes) -> bool:
    """Whether a field, in lower case, says that a proxy has forwarded the request.

    >>> is_of_a_proxy(b"x-forwarded-for"), is_of_a_proxy(b"origin")
    (True, False)
    """
    return name in (b"via", b"forwarded", b"x-real-ip") or name.startswith(b"x-forwarded-")
