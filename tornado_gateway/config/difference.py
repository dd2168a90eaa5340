"""What a reload changes: the difference of two Settings, a clause for each change, secrets masked.

BREAKER_FAILURES 5 -> 3
JWT_SECRET changed
service billing: added http://10.0.0.9:9000; http://10.0.0.7:9000 has weight 3 instead of 1; hedge true, was unset
"""

import json
from collections.abc import Iterator, Mapping

from tornado_gateway.config.settings import ServiceSpec, Settings
from tornado_gateway.config.variables import VARIABLES, Variable, own_values
from tornado_gateway.policy.routing import RouteSpec

LONGEST = 60  # characters of a value in a clause
UNSET = "unset"

_BY_PART = ("UPSTREAMS", "ROUTES")  # told service by service, and route by route


def difference(before: Settings, after: Settings) -> list[str]:
    """A clause for each change, in the order of the variables; services and routes come last."""
    changes = [_of_variable(each, before, after) for each in differing(before, after) if each.name not in _BY_PART]
    return [*changes, *_of_services(before, after), *_of_routes(before, after)]


def differing(before: Settings, after: Settings) -> list[Variable]:
    """The variables whose values differ."""
    return [each for each in VARIABLES if each.value(before) != each.value(after)]


def _of_variable(variable: Variable, before: Settings, after: Settings) -> str:
    was, is_ = variable.text(before), variable.text(after)
    if was == is_:  # both masked, or the content of a file
        return f"{variable.name} changed"
    return f"{variable.name} {_short(was)} -> {_short(is_)}"


def _short(text: str) -> str:
    return (text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...") or UNSET


def _of_services(before: Settings, after: Settings) -> Iterator[str]:
    old, new = ({each.name: each for each in settings.services} for settings in (before, after))
    for name, service in new.items():
        if name not in old:
            yield f"service {name}: new, {_count(service)}"
        elif changes := [*_of_endpoints(old[name], service), *_of_values(old[name], service)]:
            yield f"service {name}: {'; '.join(changes)}"
    yield from (f"service {name}: removed" for name in old if name not in new)


def _count(service: ServiceSpec) -> str:
    return "1 endpoint" if len(service.endpoints) == 1 else f"{len(service.endpoints)} endpoints"


def _of_endpoints(before: ServiceSpec, after: ServiceSpec) -> Iterator[str]:
    old, new = ({each.url: each.weight for each in service.endpoints} for service in (before, after))
    yield from (f"added {url}" for url in new if url not in old)
    yield from (f"removed {url}" for url in old if url not in new)
    for url, weight in new.items():
        if old.get(url, weight) != weight:
            yield f"{url} has weight {weight} instead of {old[url]}"


def _of_values(before: ServiceSpec, after: ServiceSpec) -> Iterator[str]:
    for key in dict.fromkeys([*before.given, *after.given]):
        if key in before.given and key in after.given and before.given[key] == after.given[key]:
            continue
        was, is_ = (_short(_json(own_values(each), key)) for each in (before, after))
        yield f"{key} changed" if was == is_ else f"{key} {is_}, was {was}"


def _json(values: Mapping[str, object], key: str) -> str:
    return json.dumps(values[key]) if key in values else ""


def _of_routes(before: Settings, after: Settings) -> Iterator[str]:
    old, new = ({each.label: _plain(each) for each in settings.routes} for settings in (before, after))
    yield from (f"route {label}: new" for label in new if label not in old)
    yield from (f"route {label}: removed" for label in old if label not in new)
    yield from (f"route {label}: changed" for label in new if old.get(label, new[label]) != new[label])


def _plain(route: RouteSpec) -> tuple[str, str | None, dict[str, object]]:
    return route.service, route.inner, dict(route.given)
