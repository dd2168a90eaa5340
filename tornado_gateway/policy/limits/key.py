"""The key of a request under a rule: requests with equal keys are counted together."""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tornado_gateway.policy.http.address import Address
from tornado_gateway.policy.http.headers import Field
from tornado_gateway.policy.limits.quota import LimitKey

# Characters of the longest key. A longer key, which a client may have made up, is replaced by a hash, so that a
# million keys stay within the bound of the memory.
LONGEST = 40


class Asker(NamedTuple):
    """What is known about a request when a rule is asked.

    Attributes:
        address: of the client.
        principal: name of the client's principal; "" for none.
        route: names the route and the service.
        fields: gives the fields of the request; called only if a key is a header.
    """

    address: Address
    principal: str
    route: str
    fields: Callable[[], Iterable[Field]]


def key_of(key: LimitKey, asker: Asker, route: str = "") -> str:
    """The key of a request. Keys of different sources differ: an address never begins with "p", "h" or "r".

    A request without a principal, or without the field, has the client's address as the key.

    Args:
        route: the route whose limits ask, see LimitConfig; "" for the route of the request.
    """
    source = key.source
    if source == "ip":
        return asker.address.client
    if source == "route":
        return _short("r", route or asker.route)
    if source == "principal":
        return _short("p", asker.principal) if asker.principal else asker.address.client
    name = key.name.encode("ascii")
    value = b",".join([value for each, value in asker.fields() if each.lower() == name])
    return _short("h", value.decode("latin-1")) if value else asker.address.client


def _short(kind: str, value: str) -> str:
    if len(value) < LONGEST:
        return kind + value
    return kind.upper() + hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
