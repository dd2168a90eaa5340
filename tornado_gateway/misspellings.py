"""Which variables that are set look like misspellings of the gateway's own."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from tornado_gateway.variables import VARIABLES

# What starts like this is meant for the gateway: a distant likeness to a variable of the same family is enough.
_FAMILIES = (
    *("GATEWAY_", "UPSTREAM", "WS_", "SSE_", "MAX_STREAMS", "CACHE_", "RATE_LIMIT_", "UNDER_PRESSURE_"),
    *("BREAKER_", "HEALTH_", "RETRY_", "HTTP_PROXY_T"),
)
_DISTANT, _CLOSE = 0.7, 0.85  # ratios of difflib
_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]


def hints(env: Mapping[str, str], places: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """A warning for each variable that looks like a misspelling of one of VARIABLES, or is in .env and sets nothing.

    Args:
        places: where a variable stands in .env, as "file:line".

    >>> hints({"UPSTREAM": "{}", "PORT": "80", "PATH": "/bin"})
    ['UPSTREAM is not a variable of this gateway; did you mean UPSTREAMS?']
    >>> hints({}, {"X": ".env:3"})
    ['.env:3: X is not a variable of this gateway']
    """
    unknown = {name: env.get(name, "") for name in sorted({*env, *places}) if name not in _NAMES}
    return [hint for name, text in unknown.items() if (hint := _hint(name, text, places.get(name)))]


def _hint(name: str, text: str, place: str | None) -> str | None:
    other = None if _is_service_link(text) else _meant(name.upper())
    if not other and not place:
        return None
    said = name.encode("ascii", "backslashreplace").decode("ascii")  # what cannot be seen would look like another name
    at = f"{place}: " if place else ""
    return f"{at}{said} is not a variable of this gateway{f'; did you mean {other}?' if other else ''}"


def _meant(name: str) -> str | None:
    bare = name.removeprefix("GATEWAY_")
    if bare in _NAMES:
        return bare
    family = next(filter(name.startswith, _FAMILIES), None)
    relatives = [each for each in _NAMES if family and each.startswith(family)]
    likely = difflib.get_close_matches(name, _NAMES, n=1, cutoff=_CLOSE)
    likely += difflib.get_close_matches(name, relatives, n=1, cutoff=_DISTANT)
    return next(iter(likely), None)


def _is_service_link(text: str) -> bool:
    """Whether Kubernetes may have set it: a service called "gateway" puts GATEWAY_PORT into every pod."""
    return text.startswith(("tcp://", "udp://"))
