"""The list of the credentials in use, for operators: who has logged in, and whose streams are open.

A row is a credential, named by what a revocation may name: the principal, the `jti`, the sessions. A request is over
too soon to be listed. No row has a secret: neither the text of a token nor the value of a cookie is known here.

Operators' log-ins stand first, then the credentials of streams, the oldest stream first; worker by worker if there are
several.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tornado_gateway.policy.principal import NOBODY, Holder
from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.views.steps import Steps

MOST = 1000  # credentials of an answer
LONGEST = 1024  # characters of a name; nothing longer can be revoked


class LogIn(NamedTuple):
    """An operator's session.

    Attributes:
        holder: of the credential, in the session.
        id: of the session.
        idle: seconds since the last request.
        left: seconds until the end, unless the session is used.
    """

    holder: Holder
    id: str
    idle: float
    left: float


class Use(NamedTuple):
    """A credential of open streams, and the numbers of these."""

    holder: Holder
    event_streams: int
    web_sockets: int


@dataclass(slots=True)
class _Uses:
    """What a credential is used for."""

    log_in: LogIn | None = None
    event_streams: int = 0
    web_sockets: int = 0


def uses_of(streams: Iterable[tuple[Holder, Kind]]) -> Steps[list[Use]]:
    """The credentials of the streams of a process, which may become JSON for another process.

    Args:
        streams: the oldest first.
    """
    found: dict[Holder, list[int]] = {}
    for holder, kind in streams:
        if holder != NOBODY:
            found.setdefault(holder, [0, 0])[kind is Kind.WS] += 1
        yield
    return [Use(holder, *numbers) for holder, numbers in found.items()]


def from_plain(said: Iterable[Sequence[Any]]) -> Iterator[Use]:
    """What uses_of() has found, from JSON."""
    for (name, jti, issued, sessions), event_streams, web_sockets in said:
        yield Use(Holder(name, jti, issued, tuple(sessions)), event_streams, web_sockets)


def credentials(log_ins: Iterable[LogIn], uses: Iterable[Use], text: str, limit: int) -> Steps[dict[str, Any]]:
    """The wanted credentials, and how many are wanted in all.

    Args:
        uses: by the streams of each process.
        text: a part of the principal, the jti or the id of a session, in any case; "" for every credential.
        limit: credentials of the answer, 1 to MOST.
    """
    used = {each.holder: _Uses(each) for each in log_ins}
    for each in uses:
        use = used.setdefault(each.holder, _Uses())
        use.event_streams += each.event_streams
        use.web_sockets += each.web_sockets
        yield
    matching, shown = 0, list[dict[str, Any]]()
    for holder, use in used.items():
        if text.lower() in "\n".join((holder.name, holder.jti, *holder.sessions)).lower():
            matching += 1
            if len(shown) < limit:
                shown.append(_view(holder, use))
        yield
    return {"matching": matching, "credentials": shown}


def _view(holder: Holder, use: _Uses) -> dict[str, Any]:
    log_in = use.log_in
    return {
        "principal": holder.name[:LONGEST],
        "jti": holder.jti[:LONGEST],
        "sessions": [each[:LONGEST] for each in holder.sessions],
        "issuedAtMs": round(holder.issued * 1000) if math.isfinite(holder.issued) else None,
        "logIn": {"session": log_in.id, "idleMs": _ms(log_in.idle), "endsInMs": _ms(log_in.left)} if log_in else None,
        "eventStreams": use.event_streams,
        "webSockets": use.web_sockets,
    }


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
