"""A long computation in steps, so that the event loop can do other work between two steps.

A computation is a generator: it yields after each step, of some 20 to 50 microseconds, and returns the result. Who
runs the generator decides how long to pause between two steps, see upkeep/shared.py.
"""

import json
from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]

OF_A_DOCUMENT = 4  # levels of /admin/stats above an endpoint: document, services, service, endpoints


def json_text(value: Any, levels: int = OF_A_DOCUMENT) -> Steps[str]:
    """The text that json.dumps() gives.

    Args:
        value: what json.dumps() takes. The keys of the upper levels are strings.
        levels: each object or array below this many upper levels is a step.
    """
    if not isinstance(value, dict | list):
        return json.dumps(value)
    if not levels:
        yield
        return json.dumps(value)
    parts = []
    for each in value:
        if isinstance(value, dict):
            parts.append(f"{json.dumps(each)}: {(yield from json_text(value[each], levels - 1))}")
        else:
            parts.append((yield from json_text(each, levels - 1)))
    inside = ", ".join(parts)
    return f"{{{inside}}}" if isinstance(value, dict) else f"[{inside}]"
