"""What a gateway does because another gateway says so, over Redis: acts of operators, findings of breakers, reloads.

An act is carried out as if an operator had asked here, with a line in the log of acts. A finding is hearsay: the rules
of the own service decide (Service.hear_opening()). A reload is told by the log; a gateway that watches its files
(RELOAD_WATCH) reads its own configuration again.
"""

import json
import logging
import math
import time
from typing import Any

from tornado_gateway.adapters.shared_endpoints import SharedEndpoints
from tornado_gateway.errors import BadRequest
from tornado_gateway.gateway import Gateway
from tornado_gateway.handlers.acting import audit
from tornado_gateway.handlers.control import act_on, read_act
from tornado_gateway.policy.statements import (
    ACTS,
    BREAKER,
    CLOSED,
    OPENED,
    RELOADED,
    STALE,
    Flaw,
    Ignored,
    Statement,
    key_of,
)
from tornado_gateway.policy.upstream.endpoint import Endpoint

log = logging.getLogger("tornado_gateway")


def tell_breaker(shared: SharedEndpoints, service: str, endpoint: Endpoint) -> None:
    """Tell other gateways that a breaker has opened or opened again, or that such an opening has ended.

    A breaker that was open by hearsay closes without a word: each gateway finds out by itself.
    """
    key, breaker = key_of(OPENED, service, endpoint.url), endpoint.breaker
    if breaker.is_open:
        until = time.time() + breaker.open_until - time.monotonic()
        shared.tell(key, OPENED, [service, endpoint.url, until])
    elif (known := shared.known(key)) and (known.name, known.sender) == (OPENED, shared.sender):
        shared.tell(key, CLOSED, [service, endpoint.url, 0.0])


def carry_out(gateway: Gateway, shared: SharedEndpoints, statement: Statement) -> None:
    """Carry out a statement that is news.

    Raises:
        Ignored: the body is not that of such a statement.
    """
    try:
        if statement.name in ACTS:
            _act(gateway, shared, statement)
        elif statement.sender == shared.sender:
            return  # other workers of this gateway have told over their link
        elif statement.name == RELOADED:
            _reload(gateway, shared, statement)
        else:
            _hear(gateway, shared, statement)
    except (ValueError, TypeError, BadRequest):  # of another version
        raise Ignored(Flaw.MALFORMED) from None


def repeat(gateway: Gateway, shared: SharedEndpoints) -> None:
    """Give services that a reload has made the weights and drains that last."""
    for statement in shared.lasting:
        _, said = statement.body
        act_on(gateway, statement.name, said)


def _act(gateway: Gateway, shared: SharedEndpoints, statement: Statement) -> None:
    name, (who, said) = statement.name, statement.body
    order = read_act(name, said)
    if name == BREAKER and not _still_counts(order, time.time() - statement.at):
        return
    deed = act_on(gateway, name, order)
    if statement.sender == shared.sender or not shared.speaks():
        return
    audit.info("%s by %s at gateway %s: %s", name, json.dumps(who), json.dumps(statement.sender), deed)
    if gateway.whole:  # a worker that starts while Redis is away is to know, too
        key = "" if name == BREAKER else statement.key
        gateway.whole.tell("act", [statement.sender, statement.at, statement.key, name, statement.body], key)


def _still_counts(order: dict[str, Any], seconds: float) -> bool:
    """Whether an act on a breaker counts after so many seconds; an opening gets the rest of its time."""
    if order["act"] == "reset":
        return seconds < STALE
    order["forMs"] -= max(0, round(seconds * 1000))
    return bool(order["forMs"] > 0)


def _hear(gateway: Gateway, shared: SharedEndpoints, statement: Statement) -> None:
    name, url, until = statement.body
    if not (isinstance(name, str) and math.isfinite(until)):
        raise ValueError("no finding")
    service = gateway.services.get(name.encode("utf-8", "replace"))
    for endpoint in service.endpoints if service else ():
        if service and endpoint.url == url:
            now, seconds = gateway.now(), until - time.time()
            is_opening = statement.name == OPENED
            has = service.hear_opening(endpoint, now, seconds) if is_opening else service.hear_closing(endpoint, now)
            if has and shared.speaks():
                what = f"ejected for {seconds:.1f} s" if is_opening else "no longer ejected"
                log.info("%s of %s: %s, as gateway %s has found", url, name, what, json.dumps(statement.sender))


def _reload(gateway: Gateway, shared: SharedEndpoints, statement: Statement) -> None:
    if statement.at <= shared.began or not shared.speaks():
        return
    follow = gateway.reloading.follow
    does = "reads its own again" if follow and follow() else "keeps its own, for RELOAD_WATCH is not true"
    log.info("gateway %s has reloaded its configuration; this gateway %s", json.dumps(statement.sender), does)
