"""The pages that revoke credentials.

GET    /admin/api/revocations        what is revoked, the latest first
POST   /admin/api/revocations        {"subject": "iss|sub"}, {"jti": "..."} or {"session": "..."}, and "expiresInMs"
DELETE /admin/api/revocations/<id>   lift a revocation
"""

import json
import time
from itertools import islice
from typing import Any

from tornado_gateway.errors import BadRequest, NotFound, Overloaded
from tornado_gateway.handlers.acting import ActingHandler
from tornado_gateway.policy.orders import read_object
from tornado_gateway.policy.revocations import DEFAULT_LIFE, LONGEST_LIFE, MOST, By, Revocation

LONGEST_VALUE = 1024  # characters of what is revoked; a token has up to 8 KiB
SHOWN = 1000  # revocations of a GET

_LIFE = "expiresInMs"
_MEMBERS = (*(by.value for by in By), _LIFE)


class _RevocationPage(ActingHandler):
    async def state(self, statement: Revocation, status: int) -> None:
        """Make a statement count, and answer with the statement."""
        deed, value = "lifted the revocation of" if statement.is_lifted else "revoked", json.dumps(statement.value)
        self.deed = f"{deed} {statement.by.value} {value} until {_instant(statement.until)}"
        shared = await self.gateway.revocation_store.add(statement)
        row = [statement.by.value, statement.value, statement.at, statement.until, statement.is_lifted]
        await self.tell_others("revocation", row, statement.id)
        self.send_json({**_shown(statement), "shared": shared}, status)


class RevocationsHandler(_RevocationPage):
    """All revocations."""

    def get(self) -> None:
        now = time.time()
        current = sorted(self.gateway.revocations.current(now), key=lambda each: each.at, reverse=True)
        self.send_json({"total": len(current), "revocations": [_shown(each) for each in islice(current, SHOWN)]})

    head = get

    async def post(self) -> None:
        by, value, life = read_order(self.request.body)
        revocations = self.gateway.revocations
        if revocations.is_full:
            raise Overloaded(f"there are {MOST} revocations, as many as there may be")
        await self.state(revocations.revoke(by, value, time.time(), life), 201)


class RevocationHandler(_RevocationPage):
    """A revocation."""

    async def delete(self, id_: str) -> None:
        now = time.time()
        known = self.gateway.revocations.of_id(id_, now)
        if known is None:
            raise NotFound("no revocation has this id")
        await self.state(self.gateway.revocations.lift(known, now), 200)


def read_order(body: bytes) -> tuple[By, str, float]:
    """What is to be revoked, and for how many seconds.

    Raises:
        BadRequest: the body is no such order; the message names the member.
    """
    said = read_object(body)
    if unknown := sorted(set(said) - set(_MEMBERS)):
        raise BadRequest(f"{json.dumps(unknown[0][:80])} is not a member of a revocation; {', '.join(_MEMBERS)} are")
    named = [by for by in By if by.value in said]
    if len(named) != 1:
        raise BadRequest("one of subject, jti and session is needed")
    (by,) = named
    value = said[by.value]
    if not isinstance(value, str) or not value.strip() or value != value.strip() or len(value) > LONGEST_VALUE:
        raise BadRequest(f"{by.value} must be a string of 1 to {LONGEST_VALUE} characters without blanks around it")
    return by, value, _life(said.get(_LIFE, DEFAULT_LIFE * 1000))


def _life(milliseconds: Any) -> float:
    longest = round(LONGEST_LIFE * 1000)
    if type(milliseconds) not in (int, float) or not 1 <= milliseconds <= longest:
        raise BadRequest(f"{_LIFE} must be a number of milliseconds from 1 to {longest}")
    return float(milliseconds) / 1000


def _shown(statement: Revocation) -> dict[str, object]:
    return {
        "id": statement.id,
        statement.by.value: statement.value,
        "revokedAtMs": round(statement.at * 1000),
        "expiresAtMs": round(statement.until * 1000),
    }


def _instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
