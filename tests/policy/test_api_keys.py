"""API keys: who has which key."""

import hashlib
import random

import pytest

from tests.support.credentials import KEY, KEY_HASH
from tornado_gateway.errors import Unauthorized
from tornado_gateway.policy.api_keys import ApiKeys
from tornado_gateway.policy.hashes import NamedHash

NEW = "a-newer-key-of-the-tests-9876"
NEW_HASH = hashlib.sha256(NEW.encode()).hexdigest()
KEYS = ApiKeys([NamedHash("ci", KEY_HASH, frozenset({"read"})), NamedHash("ci", NEW_HASH)])


def test_keys_of_one_name_are_valid_beside_each_other() -> None:
    old, new = KEYS.principal(KEY.encode()), KEYS.principal(NEW.encode())
    assert (old.name, new.name) == ("key:ci", "key:ci")
    assert (old.scopes, new.scopes) == ({"read"}, set())


@pytest.mark.parametrize("key", [b"", KEY_HASH.encode(), bytes.fromhex(KEY_HASH), KEY.upper().encode(), b"ci"])
def test_any_other_key_is_refused(key: bytes) -> None:
    with pytest.raises(Unauthorized):
        KEYS.principal(key)


def test_a_thousand_mutations_of_a_key_are_refused() -> None:
    rng, key = random.Random(12), KEY.encode()
    mutations = {mutated(rng, key) for _ in range(3_000)} - {key}
    assert len(mutations) > 1_000
    for each in mutations:
        with pytest.raises(Unauthorized):
            KEYS.principal(each)


def mutated(rng: random.Random, value: bytes) -> bytes:
    """A value with bytes changed, taken away, doubled, inserted or moved, once or several times."""
    place, byte = rng.randrange(len(value)), bytes([rng.randrange(256)])
    before, behind = value[:place], value[place:]
    changed = rng.choice([
        before + byte + behind[1:], before + behind[1:], before + byte + behind, before, behind, value + behind,
        behind + before, value.swapcase(),
    ])  # fmt: skip
    return mutated(rng, changed) if changed and rng.random() < 0.5 else changed
