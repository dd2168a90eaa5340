"""The two limit steps of the admission: what a rule is asked, and what the client is told."""

import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

from tornado_gateway.errors import RateLimited, TooManyInFlight
from tornado_gateway.gateway import Limits
from tornado_gateway.handlers.journal import Journal
from tornado_gateway.policy.http.address import NO_ADDRESS
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.limits.in_flight import Claim, claims_of
from tornado_gateway.policy.limits.key import Asker, key_of
from tornado_gateway.policy.limits.memory import Asked
from tornado_gateway.policy.limits.refused_keys import Refusal
from tornado_gateway.policy.limits.rules import Group, LimitConfig, quoted_name
from tornado_gateway.policy.limits.totals import OBSERVED, REFUSED
from tornado_gateway.policy.limits.verdict import Verdict, longest_wait, refusals, state_lines
from tornado_gateway.policy.principal import Principal
from tornado_gateway.policy.routing import Route
from tornado_gateway.policy.upstream.service import Service
from tornado_gateway.wire.http1 import fields
from tornado_gateway.wire.server.exchange import ServerExchange

_COST = re.compile(rb"[0-9]{1,9}")
_NO_LIMITS = LimitConfig()
OBSERVED_REASON = "quota_exceeded_observed"  # in the access log, of a request that RATE_LIMIT_MODE=observe admits


def config_of(limits: Limits, route: Route[Any], found: object) -> LimitConfig:
    """The limits of a request.

    Args:
        found: what the route leads to, see Admitted. Without a service, the limits of all services apply.
    """
    if route.is_operational:
        return _NO_LIMITS
    return route.limits or (found.config.limits if isinstance(found, Service) else limits.default)


def limit(
    limits: Limits,
    groups: Iterable[Group],
    exchange: ServerExchange,
    journal: Journal,
    principal: Principal,
    route: Route[Any],
    found: object,
) -> Generator[Awaitable[Any], Any, None] | None:
    """Ask rules whether they admit a request, count the request, and add the state of the limits to the response.

    Args:
        principal: ANYBODY before the authentication.
        found: what the route leads to, see Admitted.

    Returns:
        The rest of the step if the store has to do I/O; else None, so that a store in memory costs no generator.

    Raises:
        RateLimited: a rule refuses the request, and the rules are enforced.
    """
    client, left = journal.client or NO_ADDRESS, iter(groups)
    for group in left:
        if group.alone and limits.store is limits.memory:
            verdict = limits.memory.take_alone(group.alone, client.client, journal.began)
            _heed(limits, group, (), exchange, journal, [verdict])
            continue
        if group.by_address:
            asked = [Asked(each, client.client) for each in group.rules]
        else:
            asker = _asker(exchange, journal, principal, route, found)
            asked = [Asked(each, key_of(each.key, asker, each.route)) for each in group.rules]
        taken = limits.store.take(asked, journal.began)
        if not isinstance(taken, list):
            heed = partial(_heed, limits, group, asked, exchange, journal)
            return _go_on(taken, heed, partial(limit, limits, left, exchange, journal, principal, route, found))
        _heed(limits, group, asked, exchange, journal, taken)
    return None


def _go_on(
    taken: Awaitable[list[Verdict]],
    heed: Callable[[list[Verdict]], None],
    rest: Callable[[], Generator[Awaitable[Any], Any, None] | None],
) -> Generator[Awaitable[Any], Any, None]:
    """Heed what a store says later, and ask the groups that are left."""
    heed((yield taken))
    later = rest()
    if later:
        yield from later


def _heed(
    limits: Limits,
    group: Group,
    asked: Sequence[Asked],
    exchange: ServerExchange,
    journal: Journal,
    verdicts: list[Verdict],
) -> None:
    """Tell the client what the rules say, and see to the cost.

    Args:
        verdicts: none with RATE_LIMIT_ON_ERROR=open while the store is away.

    Raises:
        RateLimited: as limit().
    """
    if not verdicts:
        return
    earlier = journal.verdicts
    if earlier:
        exchange.added_lines = exchange.added_lines.replace(state_lines(earlier), b"")
    journal.verdicts = told = earlier + verdicts if earlier else verdicts
    exchange.added_lines += state_lines(told)
    if group.tells_cost:
        journal.charge = partial(_charge, limits, asked, journal.charge)
    for _, judgement in verdicts:
        if judgement.wait:
            _refuse(limits, group, asked, refusals(verdicts), journal)
            break


def claims(
    config: LimitConfig,
    exchange: ServerExchange,
    journal: Journal,
    principal: Principal,
    route: Route[Any],
    found: object,
) -> tuple[Claim, ...]:
    """What a request counts under while it is in flight. Arguments as for limit()."""
    return claims_of(config, _asker(exchange, journal, principal, route, found))


def check_claims(limits: Limits, claims: Iterable[Claim], journal: Journal) -> None:
    """
    Raises:
        TooManyInFlight: the client has as many requests in flight as it may, and the limit is enforced.
    """
    for each in limits.in_flight.exceeded(claims):
        limits.totals.limited[REFUSED if each.enforces else OBSERVED, each.policy] += 1
        limits.totals.keys.add(Refusal(each.policy, each.key, each.header), journal.began)
        if each.enforces:
            raise TooManyInFlight([each.policy], each.limit, quoted_name(each.policy))
        journal.remark = OBSERVED_REASON


def _asker(exchange: ServerExchange, journal: Journal, principal: Principal, route: Route[Any], found: object) -> Asker:
    client = journal.client or NO_ADDRESS
    return Asker(client, principal.name, _name_of(route, found), partial(fields, exchange.head.block))


def _name_of(route: Route[Any], found: object) -> str:
    """Names the route and the service of a request."""
    return f"{route.path} {found.name if isinstance(found, Service) else ''}"


def _refuse(limits: Limits, group: Group, asked: Sequence[Asked], refused: Sequence[Verdict], journal: Journal) -> None:
    """
    Args:
        asked: none of a rule that is asked alone, by the client's address.

    Raises:
        RateLimited: the rules are enforced.
    """
    outcome = REFUSED if group.enforces else OBSERVED
    for rule, _ in refused:
        limits.totals.limited[outcome, rule.name] += 1
        key = next((one.key for one in asked if one.rule is rule), (journal.client or NO_ADDRESS).client)
        limits.totals.keys.add(Refusal.of(rule, key), journal.began)
    if group.enforces:
        raise RateLimited([rule.name for rule, _ in refused], longest_wait(refused))
    journal.remark = OBSERVED_REASON


def _charge(
    limits: Limits,
    asked: Sequence[Asked],
    others: Callable[[Iterable[Field]], None] | None,
    response_fields: Iterable[Field],
) -> None:
    """Count the cost that a service tells, beyond the request that is counted already.

    Args:
        others: charges the rules of the earlier groups.
        response_fields: of the response, or its trailers.
    """
    told = list(response_fields)
    for name in {each.rule.cost_field for each in asked} - {b""}:
        cost = _cost(name, told)
        if cost > 1:
            limits.store.charge([each for each in asked if each.rule.cost_field == name], cost - 1, limits.now())
    if others:
        others(told)


def _cost(name: bytes, response_fields: Iterable[Field]) -> int:
    """The cost in the field of a name; 1 for anything but one whole number."""
    told = [value for each, value in response_fields if each.lower() == name]
    return int(told[0]) if len(told) == 1 and _COST.fullmatch(told[0]) else 1
