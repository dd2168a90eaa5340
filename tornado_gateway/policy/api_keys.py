"""API keys (API_KEYS): from the key in a request to the principal.

Keys are looked up by hash. The look-up does not take a constant time, and need not: the time depends on the hash of
what a client has sent, and tells at most how a hash begins. A client cannot choose hashes, and the beginning of the
hash of a key does not help to find the key.
"""

import hashlib
from collections.abc import Iterable

from tornado_gateway.errors import NOT_VALID, Unauthorized
from tornado_gateway.policy.access import Kind
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.principal import Principal


class ApiKeys:
    """The valid keys.

    Args:
        keys: all hashes differ. Keys may share a name, so that a new key is in use before the old key is removed.
    """

    def __init__(self, keys: Iterable[NamedHash]) -> None:
        self._principals = {
            bytes.fromhex(each.hash): Principal.local(Kind.KEY, each.name, each.scopes) for each in keys
        }

    def principal(self, key: bytes) -> Principal:
        """The principal of a key.

        Raises:
            Unauthorized: the key is not valid.
        """
        found = self._principals.get(hashlib.sha256(key).digest())
        if found is None:
            raise Unauthorized(NOT_VALID)
        return found
