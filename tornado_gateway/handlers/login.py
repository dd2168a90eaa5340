"""GET, POST /admin/login and POST /admin/logout: a browser gets a session for a credential, and gives the session back.

The credential is a token or an API key. A log-in always makes a new session, so that nobody
can plant a session before the log-in (session fixation). Log-ins are counted by the client's address, right ones too.
"""

import re
from contextlib import suppress
from typing import Any

from tornado_gateway.errors import GatewayError, TooManyLogIns, Unauthorized
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admission import Admitted
from tornado_gateway.handlers.session import begin_session, end_sessions, is_secure
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.acting import check_same_origin
from tornado_gateway.policy.http.cookies import session_cookie
from tornado_gateway.policy.http.credentials import Presented
from tornado_gateway.policy.limits.memory import Asked
from tornado_gateway.policy.limits.quota import Quota
from tornado_gateway.policy.limits.rules import Rule
from tornado_gateway.policy.limits.verdict import longest_wait, refusals
from tornado_gateway.policy.principal import Principal

HOME = "/admin"
LOG_IN = "/admin/login"

# 10 at once, then one in 30 s: 2,890 guesses a day.
ATTEMPTS = Rule("log-in", "log-in", Quota(10, 300.0), "gcra")
TOKENS = (Kind.JWT, Kind.KEY)  # what a log-in may use

_PLACE = re.compile(r"/admin(?:/[A-Za-z0-9._~/-]*)?")  # a path of this host; no page elsewhere can be named


class LoginHandler(ActingHandler):
    """The log-in."""

    def get(self) -> None:
        if self.gateway.operators.asks:
            self.send_log_in()
        else:
            self.redirect(HOME, status=303)

    head = get

    async def post(self) -> None:
        admitted = self.admitted
        if self.gateway.operators.asks:
            self._count(admitted)
            principal = await self._check(self._said("credential"))
            end_sessions(self.gateway, self.exchange.head.known_fields, admitted.origination)
            self.who = principal.name
            self.add_header("Set-Cookie", begin_session(self.gateway, principal, admitted.origination))
        self.redirect(self.place, status=303)

    def check_act(self, admitted: Admitted[Any]) -> None:
        check_same_origin(self.asked(admitted), is_strict=False)

    @property
    def place(self) -> str:
        said = self._said("next").decode("latin-1")
        return said if _PLACE.fullmatch(said) else HOME

    def _said(self, name: str) -> bytes:
        """A value of the form; b"" for none."""
        return self.request.body_arguments.get(name, [b""])[-1]

    def shows_log_in(self, error: GatewayError) -> bool:
        return True

    def complaint(self, error: GatewayError) -> str:
        return error.message

    def _count(self, admitted: Admitted[Any]) -> None:
        """
        Raises:
            TooManyLogIns: the client has tried too often.
        """
        asked = [Asked(ATTEMPTS, admitted.origination.client.client)]
        if refused := refusals(self.gateway.operators.attempts.take(asked, self.gateway.now())):
            raise TooManyLogIns([ATTEMPTS.name], longest_wait(refused))

    async def _check(self, given: bytes) -> Principal:
        """The principal of a credential.

        Raises:
            Unauthorized: the credential is none of those that are accepted.
        """
        authenticator = self.gateway.authenticator
        for kind in TOKENS:
            with suppress(Unauthorized):
                if authenticator is None:
                    break
                checked = authenticator.check(Presented(kind, given.strip()))
                return checked if isinstance(checked, Principal) else await checked
        raise Unauthorized("The credential is not valid.")


class LogoutHandler(ActingHandler):
    """The end of a session."""

    def post(self) -> None:
        admitted = self.admitted
        for session in end_sessions(self.gateway, self.exchange.head.known_fields, admitted.origination):
            self.who = session.principal.name
        self.add_header("Set-Cookie", session_cookie("", is_secure=is_secure(admitted.origination)))
        self.redirect(LOG_IN, status=303)

    def check_act(self, admitted: Admitted[Any]) -> None:
        check_same_origin(self.asked(admitted), is_strict=True)
