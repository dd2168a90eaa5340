"""Verifies Basic credentials (RFC 7617) of the users of BASIC_USERS.

    credential ──► verdict known ──► Principal
             └──► the same credential is being checked ──► wait for that check
             └──► attempts of the address ──► a check by Argon2id, in a thread ──► Principal

A verdict about a valid credential is kept for VERDICT_AGE seconds, by a hash under a key of this process, so that the
memory holds nothing from which a password could be guessed later. Refused credentials are not kept.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from cachetools import TTLCache

from tornado_gateway.adapters.passwords import PasswordChecks
from tornado_gateway.errors import NOT_VALID, TooManyAttempts, Unauthorized
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.attempts import Attempts
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.http.basic import read_basic
from tornado_gateway.policy.principal import Principal

VERDICTS = 1_000  # credentials whose verdict is kept
VERDICT_AGE = 30.0  # seconds, as for tokens

Answer = asyncio.Future[Principal | None]


class BasicVerifier:
    """Verifies credentials. Credentials are verified inside a running event loop.

    Args:
        users: at least one; all names differ.
        now: seconds on a monotonic clock.
        before: whose place the verifier takes. The threads pass on, verdicts end.
        attempts: of addresses.

    Raises:
        ImportError: argon2-cffi is not installed.
    """

    def __init__(
        self,
        users: Sequence[NamedHash],
        now: Callable[[], float] = time.monotonic,
        before: "BasicVerifier | None" = None,
        attempts: Attempts | None = None,
    ) -> None:
        self._now = now
        self._hashes = {each.name: each.hash for each in users}
        self._principals = {each.name: Principal.local(Kind.BASIC, each.name, each.scopes) for each in users}
        self._stand_ins = tuple(self._hashes.values())
        self._key = secrets.token_bytes(32)
        self._verdicts: TTLCache[bytes, Principal] = TTLCache(VERDICTS, VERDICT_AGE, timer=now)
        self._running: dict[bytes, Answer] = {}
        self._attempts = attempts or Attempts()
        self.checks: PasswordChecks = before.checks if before else PasswordChecks()

    def verify(self, credential: bytes, client: str) -> Principal | Awaitable[Principal]:
        """The principal of a credential.

        Args:
            credential: what follows the scheme in Authorization.
            client: the address by which attempts are counted.

        Raises:
            Unauthorized: the credential is malformed, or not valid.
            TooManyAttempts: the address has failed too often.
            PasswordChecksBusy: too many checks run.
        """
        digest = self._keyed(credential)
        principal = self._verdicts.get(digest)
        if principal is not None:
            return principal
        answer = self._running.get(digest) or self._begin(digest, credential, client)
        return _principal(answer)

    def _begin(self, digest: bytes, credential: bytes, client: str) -> Answer:
        """Check a credential. Nothing that a client can time depends on whether the name is known."""
        given, now = read_basic(credential), self._now()
        if given is None:
            raise Unauthorized(NOT_VALID)
        wait = self._attempts.wait(client, now)
        if wait:
            raise TooManyAttempts(retry_after=wait)
        name, password = given
        check = self.checks.check(self._hashes.get(name, self._stand_in(name)), password)
        self._attempts.begin(client, now)
        answer = self._running[digest] = asyncio.get_running_loop().create_future()
        check.add_done_callback(partial(self._end, digest, name, client, now))
        return answer

    def _stand_in(self, name: str) -> str:
        """A hash for an unknown name. A name always gets the same hash, as a known name does: hashes differ in cost."""
        number = int.from_bytes(self._keyed(name.encode("utf-8")))
        return self._stand_ins[number % len(self._stand_ins)]

    def _end(self, digest: bytes, name: str, client: str, began: float, check: "asyncio.Future[bool]") -> None:
        answer = self._running.pop(digest)
        if check.cancelled():  # the gateway stops
            answer.cancel()
        elif error := check.exception():
            answer.set_exception(error)
            answer.exception()  # perhaps nobody waits any more, and asyncio would complain
        else:
            principal = self._principals.get(name) if check.result() else None
            if principal:
                self._verdicts[digest] = principal
                self._attempts.succeed(client, began)
            answer.set_result(principal)

    def _keyed(self, value: bytes) -> bytes:
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()


async def _principal(answer: Answer) -> Principal:
    """Wait for an answer, which others may wait for, too."""
    principal = await asyncio.shield(answer)
    if principal is None:
        raise Unauthorized(NOT_VALID)
    return principal
