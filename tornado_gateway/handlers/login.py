"""GET, POST /admin/login and POST /admin/logout: a browser gets a session for a credential, and gives the session back.

The credential is a token, an API key or the operators' password. A log-in always makes a new session, so that nobody
can plant a session before the log-in (session fixation). Log-ins that fail are counted by the client's address.
"""

import math
import re
import time
from contextlib import suppress
from typing import Any

from tornado_gateway.errors import GatewayError, TooManyAttempts, Unauthorized
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.handlers.admin_page import HOME
from tornado_gateway.handlers.admission import Admitted, refuse_revoked
from tornado_gateway.handlers.session import begin_session, end_sessions, is_secure
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.acting import check_same_origin
from tornado_gateway.policy.http.cookies import session_cookie
from tornado_gateway.policy.http.credentials import Presented
from tornado_gateway.policy.principal import Principal

LOG_IN = "/admin/login"

TOKENS = (Kind.JWT, Kind.KEY)  # what a log-in may use beside the password

_PLACE = re.compile(r"/admin(?:/[A-Za-z0-9._~/-]*)?")  # a path of this host; no page elsewhere can be named


class LoginHandler(ActingHandler):
    """The log-in."""

    changes_gateway = False

    def get(self) -> None:
        if self.gateway.operators.asks:
            self.send_log_in()
        else:
            self.redirect(HOME, status=303)

    head = get

    async def post(self) -> None:
        admitted = self.admitted
        if self.gateway.operators.asks:
            principal = await self._log_in(admitted)
            await end_sessions(self.gateway, self.exchange.head.known_fields, admitted.origination)
            session, cookie = await begin_session(self.gateway, principal, admitted.origination)
            self.who, self.deed = principal.name, f"session {session.id}"
            self.add_header("Set-Cookie", cookie)
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

    async def _log_in(self, admitted: Admitted[Any]) -> Principal:
        """The principal of the credential in the form.

        Raises:
            TooManyAttempts: the client has failed too often.
            Unauthorized: the credential is none of those that are accepted.
        """
        attempts, client, now = self.gateway.operators.attempts, admitted.origination.client.client, self.gateway.now()
        whole = self.gateway.whole
        wait, now = await whole.begin_attempt(client) if whole else (attempts.wait(client, now), now)
        if wait:
            raise TooManyAttempts(retry_after=wait)
        attempts.begin(client, now)  # before the check, so that attempts at the same time count
        principal = await self._check(self._said("credential"), client)
        attempts.succeed(client, now)
        if whole:
            whole.attempt_succeeded(client, now)
        return principal

    async def _check(self, given: bytes, client: str) -> Principal:
        """Check a credential: tokens and keys first, because a password takes a core for a while.

        Raises:
            Unauthorized: the credential is none of those that are accepted.
        """
        authenticator = self.gateway.authenticator
        for kind in TOKENS:
            with suppress(Unauthorized):
                if authenticator is None:
                    break
                checked = authenticator.check(Presented(kind, given.strip(), client=client))
                principal = checked if isinstance(checked, Principal) else await checked
                refuse_revoked(self.gateway, principal.holder)
                return principal
        is_password, config = self.gateway.operators.is_password, self.gateway.operators.config
        if is_password and config.password and await is_password(given):
            return of_password(config.password.name, config.scopes, time.time())
        raise Unauthorized("The credential is not valid.")


def of_password(name: str, scopes: frozenset[str], now: float) -> Principal:
    """The principal of whoever knows the operators' password.

    Args:
        now: seconds since 1970. A revocation ends the sessions from before, and none that begins later.
    """
    full = f"password:{name}"
    return Principal(full, full, {"sub": full, "iat": now}, scopes, math.inf)


class LogoutHandler(ActingHandler):
    """The end of a session."""

    changes_gateway = False

    async def post(self) -> None:
        admitted = self.admitted
        for session in await end_sessions(self.gateway, self.exchange.head.known_fields, admitted.origination):
            self.who, self.deed = session.principal.name, f"session {session.id}"
        self.add_header("Set-Cookie", session_cookie("", is_secure=is_secure(admitted.origination)))
        self.redirect(LOG_IN, status=303)

    def check_act(self, admitted: Admitted[Any]) -> None:
        check_same_origin(self.asked(admitted), is_strict=True)
