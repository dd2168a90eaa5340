"""EndpointSlices of a Service in Kubernetes: a list, then events that change the list.

An endpoint that terminates gets no new requests, and is a target of weight 0 as long as the endpoint serves: requests
and streams in flight go on. If no other endpoint is ready, terminating endpoints that still serve get requests
(KEP-1669).

Source: Kubernetes API conventions, "Efficient detection of changes"; discovery.k8s.io/v1 EndpointSlice.
"""

import json
from dataclasses import dataclass
from typing import Any

from tornado_gateway.policy.upstream.sources import Source, Target

GONE = 410  # the events since a version are no longer known


class Gone(Exception):
    """The list must be read anew."""


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class _Slice:
    """What counts of a slice.

    Attributes:
        addresses: of endpoints that serve; whether each terminates.
        ports: of TCP.
    """

    addresses: dict[str, bool]
    ports: tuple[_Port, ...]

    def port(self, wanted: str) -> int | None:
        """The first port of a name or number; of any, for ""."""
        fitting = (each.number for each in self.ports if wanted in ("", each.name, str(each.number)))
        return next(fitting, None)


class EndpointSlices:
    """The slices of a Service.

    Attributes:
        version: resourceVersion to watch from; "" before the list.
    """

    def __init__(self) -> None:
        self.version = ""
        self._slices: dict[str, _Slice] = {}

    def replace(self, document: bytes) -> None:
        """Use a list.

        Raises:
            ValueError: the document is no list of EndpointSlices.
        """
        said = _object(document)
        try:
            slices = {each["metadata"]["name"]: _slice(each) for each in said["items"]}
            version = said["metadata"]["resourceVersion"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the answer is no list of EndpointSlices: {error!r}") from None
        self._slices, self.version = slices, str(version)

    def apply(self, line: bytes) -> bool:
        """Use an event of a watch; return whether slices have changed.

        Raises:
            Gone: the list must be read anew.
            ValueError: the line is no event.
        """
        said = _object(line)
        if said.get("kind") == "Status" or said.get("type") == "ERROR":
            self._fail(said.get("object", said))
        try:
            kind, changed = said["type"], said["object"]
            metadata = changed["metadata"]
            version, name = str(metadata["resourceVersion"]), metadata.get("name", "")
            told = _slice(changed) if kind in ("ADDED", "MODIFIED") else None
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the line is no event: {error!r}") from None
        self.version = version
        if told:
            self._slices[name] = told
        elif kind == "DELETED":
            self._slices.pop(name, None)
        return told is not None or kind == "DELETED"

    def _fail(self, status: Any) -> None:
        code = status.get("code") if isinstance(status, dict) else None
        if code == GONE:
            raise Gone
        raise ValueError(f"the server says: status {code}")

    def targets(self, source: Source, namespace: str) -> tuple[Target, ...]:
        """The endpoints as targets, in the order of their addresses."""
        found: dict[tuple[str, int], int] = {}
        for each in self._slices.values():
            port = each.port(source.port)
            for address, is_terminating in each.addresses.items() if port else ():
                place, weight = (address, port or 0), int(not is_terminating)
                found[place] = max(weight, found.get(place, 0))
        if not any(found.values()):
            found = dict.fromkeys(found, 1)
        host = f"{source.name}.{namespace}.svc"
        return tuple(Target(host, port, address, weight) for (address, port), weight in sorted(found.items()))


def _slice(of: Any) -> _Slice:
    """
    Raises:
        KeyError, TypeError, AttributeError: the slice is not what the API server says.
    """
    is_known = of["addressType"] in ("IPv4", "IPv6")
    addresses = dict(filter(None, map(_address, of.get("endpoints") or ()))) if is_known else {}
    ports = [each for each in of.get("ports") or () if each.get("port") and each.get("protocol", "TCP") == "TCP"]
    return _Slice(addresses, tuple(_Port(each.get("name") or "", each["port"]) for each in ports))


def _address(endpoint: Any) -> tuple[str, bool] | None:
    """The address, and whether the endpoint terminates; None if the endpoint does not serve.

    Of several addresses the first counts, as the API says. A condition that is not told holds.
    """
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready", True) is not False
    serves = bool(conditions.get("serving", ready))
    return (endpoint["addresses"][0], conditions.get("terminating") is True) if ready or serves else None


def _object(document: bytes) -> dict[str, Any]:
    """
    Raises:
        ValueError: the document is no JSON object.
    """
    try:
        said = json.loads(document)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("the answer is no JSON object")
    return said
