"""The two limit steps of the admission: what a rule is asked, and what the client is told."""

import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

from tornado_gateway.errors import RateLimited
from tornado_gateway.gateway import Limits
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.limits.key import Asker, key_of
from tornado_gateway.policy.limits.memory import Asked
from tornado_gateway.policy.limits.rules import LimitConfig, Rule
from tornado_gateway.policy.limits.totals import OBSERVED, REFUSED
from tornado_gateway.policy.limits.verdict import Verdict, longest_wait, refusals, state_lines
from tornado_gateway.policy.routing import Route
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.server.exchange import ServerExchange

_COST = re.compile(rb"[0-9]{1,9}")
OBSERVED_REASON = "quota_exceeded_observed"  # in the access log, of a request that RATE_LIMIT_MODE=observe admits


def config_of(limits: Limits, route: Route[Any], found: object) -> LimitConfig | None:
    """The limits of a request; None for a request without limits.

    Args:
        found: what the route leads to, see Admitted. Without a service, the limits of all services apply.
    """
    if route.is_operational:
        return None
    config = route.limits or (found.config.limits if isinstance(found, Service) else limits.default)
    return config if config.before or config.after else None


def limit(
    limits: Limits,
    config: LimitConfig,
    rules: Sequence[Rule],
    asker: Callable[[], Asker],
    exchange: ServerExchange,
    journal: Journal,
) -> Generator[Awaitable[Any], Any, None]:
    """Ask rules whether they admit a request, count the request, and add the state of the limits to the response.

    Args:
        asker: called if a rule does not count by address.

    Raises:
        RateLimited: a rule refuses the request, and the rules are enforced.
    """
    if not rules:  # none is for this principal
        return
    client = journal.client.client if journal.client else ""
    asked = [Asked(each, client if each.by_address else key_of(each.key, asker())) for each in rules]
    taken = limits.store.take(asked, journal.began)
    verdicts: list[Verdict] = taken if isinstance(taken, list) else (yield taken)
    if not verdicts:  # RATE_LIMIT_ON_ERROR=open, and the store is away
        return
    _tell(exchange, journal, verdicts)
    if config.cost_field:
        journal.charge = partial(_charge, limits, config.cost_field.lower(), asked, journal.charge)
    if all(not each.judgement.wait for each in verdicts):
        return
    refused = refusals(verdicts)
    outcome = REFUSED if config.enforces else OBSERVED
    for each in refused:
        limits.totals.limited[outcome, each.rule.name] += 1
    if config.enforces:
        raise RateLimited([each.rule.name for each in refused], longest_wait(refused))
    journal.remark = OBSERVED_REASON


def _charge(
    limits: Limits,
    name: bytes,
    asked: Sequence[Asked],
    others: Callable[[Iterable[Field]], None] | None,
    fields: Iterable[Field],
) -> None:
    """Count the cost that a service tells, beyond the request that is counted already.

    Args:
        name: of the field with the cost, in lower case. Anything but one whole number tells no cost.
        others: charges the rules of the earlier step.
        fields: of the response, or its trailers.
    """
    told = [value for each, value in fields if each.lower() == name]
    if len(told) == 1 and _COST.fullmatch(told[0]) and int(told[0]) > 1:
        limits.store.charge(asked, int(told[0]) - 1, limits.now())
        if others:
            others(fields)


def _tell(exchange: ServerExchange, journal: Journal, verdicts: list[Verdict]) -> None:
    """Add the lines of the verdicts to the response: with the verdicts of the earlier step, if there was one."""
    earlier = journal.verdicts
    if earlier:
        exchange.added_lines = exchange.added_lines.replace(state_lines(earlier), b"")
        verdicts = earlier + verdicts
    journal.verdicts = verdicts
    exchange.added_lines += state_lines(verdicts)
