"""The list of open streams, for operators: which streams are wanted, and a page of them.

Streams are listed in the order of their beginning, the oldest first. Each stream has a number that no other stream of
the process has. A page begins behind the number that the page before has named, so that streams which begin or end
meanwhile neither repeat nor hide a stream.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tornado_gateway.policy.upstream.endpoint import Kind
from tornado_gateway.policy.upstream.stream_totals import Carried
from tornado_gateway.policy.views.steps import Steps

MOST = 1000  # streams of a page
LONGEST = 256  # characters of a text in the list
LONGEST_PRINCIPAL = 1024  # characters: as much as a revocation names; a principal that is cut would be another

KINDS = {"eventStream": Kind.SSE, "webSocket": Kind.WS}
_NAMES = {kind: name for name, kind in KINDS.items()}


class Facts(NamedTuple):
    """What is known of a stream from the request.

    Attributes:
        endpoint: URL; "" for none.
        client: address.
        path: of the request's target. The query may hold secrets.
        request_id: of the request.
        began: instant (gateway clock) of the request.
    """

    service: str
    endpoint: str
    client: str
    path: str
    request_id: str
    began: float


class Row(NamedTuple):
    """An open stream.

    Attributes:
        principal: name; "" for none.
    """

    number: int
    kind: Kind
    principal: str
    facts: Facts
    carried: Carried


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams are wanted; an empty value wants every stream.

    Attributes:
        kind: a key of KINDS.
        text: a part of client, principal, service, endpoint or path, in any case.
    """

    kind: str = ""
    service: str = ""
    endpoint: str = ""
    client: str = ""
    principal: str = ""
    text: str = ""

    def admits(self, row: Row) -> bool:
        """Whether a stream is wanted."""
        facts = row.facts
        return (
            (not self.kind or _NAMES[row.kind] == self.kind)
            and self.service in ("", facts.service)
            and self.endpoint in ("", facts.endpoint)
            and self.client in ("", facts.client)
            and self.principal in ("", row.principal)
            and (not self.text or self._has_text(row))
        )

    def _has_text(self, row: Row) -> bool:
        facts = row.facts
        return self.text.lower() in "\n".join(
            (facts.client, row.principal, facts.service, facts.endpoint, facts.path)
        ).lower()  # fmt: skip


def joined(pages: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """The page of all workers, of the pages of each.

    >>> one = {"open": 2, "matching": 2, "streams": [{"id": 2}, {"id": 6}], "next": None}
    >>> joined([one, {"open": 1, "matching": 1, "streams": [{"id": 3}], "next": None}], 2)
    {'open': 3, 'matching': 3, 'streams': [{'id': 2}, {'id': 3}], 'next': 3}
    """
    found = sorted((each for page in pages for each in page["streams"]), key=lambda each: each["id"])
    shown = found[:limit]
    is_more = len(found) > limit or any(each["next"] for each in pages)
    return {
        "open": sum(each["open"] for each in pages),
        "matching": sum(each["matching"] for each in pages),
        "streams": shown,
        "next": shown[-1]["id"] if shown and is_more else None,
    }


def page(
    rows: Iterable[Row], wanted: Wanted, after: int, limit: int, *, open_: int, now: float
) -> Steps[dict[str, Any]]:
    """A page of the wanted streams, and how many are wanted and open in all.

    A page of all streams needs no look at the streams behind the page.

    Args:
        rows: the oldest first.
        after: number of the stream behind which the page begins; 0 for the first page.
        limit: streams of the page, 1 to MOST.
        open_: number of open streams.
        now: seconds on the gateway clock.
    """
    shown: list[Row] = []
    is_filtered, matching, left = wanted != Wanted(), 0, 0
    for row in rows:
        if wanted.admits(row):
            matching += 1
            if row.number > after:
                if len(shown) < limit:
                    shown.append(row)
                else:
                    left += 1
        if left and not is_filtered:
            break
        yield
    return {
        "open": open_,
        "matching": matching if is_filtered else open_,
        "streams": [_view(each, now) for each in shown],
        "next": shown[-1].number if left else None,
    }


def _view(row: Row, now: float) -> dict[str, Any]:
    facts, carried = row.facts, row.carried
    return {
        "id": row.number,
        "kind": _NAMES[row.kind],
        "service": facts.service,
        "endpoint": facts.endpoint,
        "client": facts.client,
        "principal": row.principal[:LONGEST_PRINCIPAL],
        "path": facts.path[:LONGEST],
        "requestId": facts.request_id,
        "ageMs": round((now - facts.began) * 1000),
        "messages": {"up": carried.messages_up, "down": carried.messages_down},
        "bytes": {"up": carried.bytes_up, "down": carried.bytes_down},
        "waitingBytes": carried.waiting,
    }
