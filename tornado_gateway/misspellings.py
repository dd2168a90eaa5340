"""Which variables that are set look like misspellings of the gateway's own."""

import difflib
from collections.abc import Mapping

from tornado_gateway.variables import VARIABLES

# What starts like this is meant for the gateway: a distant likeness to a variable of the same family is enough.
_FAMILIES = (
    *("GATEWAY_", "UPSTREAM", "WS_", "SSE_", "MAX_STREAMS", "CACHE_", "RATE_LIMIT_", "UNDER_PRESSURE_"),
    *("BREAKER_", "HEALTH_", "RETRY_", "HTTP_PROXY_T"),
)
_DISTANT, _CLOSE = 0.7, 0.85  # ratios of difflib
_NAMES = [name for variable in VARIABLES for name in (variable.name, *variable.aliases)]


def hints(env: Mapping[str, str]) -> list[str]:
    """A warning for each variable that looks like a misspelling of one of VARIABLES.

    >>> hints({"UPSTREAM": "{}", "PORT": "80", "PATH": "/bin"})
    ['UPSTREAM is not a variable of this gateway; did you mean UPSTREAMS?']
    """
    meant = {
        name: _meant(name.upper()) for name in sorted(env) if name not in _NAMES and not _is_service_link(env[name])
    }
    return [
        f"{name} is not a variable of this gateway; did you mean {other}?" for name, other in meant.items() if other
    ]


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
