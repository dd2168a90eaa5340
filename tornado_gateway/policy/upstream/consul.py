"""Answers of Consul's health endpoint: the instances of a service whose checks pass, and the index of the answer.

A blocking query names the index of the last answer, and is answered when the index has changed.

Source: https://developer.hashicorp.com/consul/api-docs/health, /features/blocking
"""

import json
from typing import Any

from tornado_gateway.policy.http.target import is_address
from tornado_gateway.policy.upstream.sources import Source, Target, scaled

DOMAIN = "service.consul"  # of a service's name, for Host and certificate


def next_index(last: int, said: str | None) -> int:
    """The index for the next query; 0 for a query that does not block.

    An index that goes backwards, as after a restore of Consul's state, means nothing to the queries that follow.

    Args:
        said: the field X-Consul-Index; None without one.

    Raises:
        ValueError: the answer has no index above 0; with index 0, queries would follow each other without a pause.

    >>> next_index(7, "9"), next_index(9, "7")
    (9, 0)
    """
    if said is None or not (said.isascii() and said.isdigit() and 0 < len(said) < 21 and int(said) > 0):
        raise ValueError("the answer has no X-Consul-Index")
    index = int(said)
    return index if index >= last else 0


def instances(document: bytes, source: Source) -> tuple[Target, ...]:
    """The instances in an answer.

    Raises:
        ValueError: the document is not what Consul says.
    """
    try:
        found = [_instance(each) for each in json.loads(document)]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the answer is not a list of instances: {error!r}") from None
    weights = scaled(weight for *_, weight in found)
    return tuple(_target(source, *each[:2], weight) for each, weight in zip(found, weights, strict=True))


def _instance(entry: Any) -> tuple[str, int, int]:
    """Address, port and weight. The address of a service may be empty: then the address of the node counts."""
    service = entry["Service"]
    address = service["Address"] or entry["Node"]["Address"]
    port, weight = service["Port"], (service.get("Weights") or {}).get("Passing", 1)
    if not (isinstance(address, str) and type(port) is int and type(weight) is int and 0 < port < 65536):
        raise TypeError(f"{address}, {port}, {weight}")
    return address, port, max(weight, 0)


def _target(source: Source, address: str, port: int, weight: int) -> Target:
    if is_address(address):
        return Target(f"{source.name}.{DOMAIN}", port, address, weight)
    return Target(address, port, "", weight)
