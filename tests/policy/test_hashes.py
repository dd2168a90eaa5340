"""Items of API_KEYS and BASIC_USERS: what is accepted, and what is refused with which reason."""

import pytest

from tests.support.credentials import KEY_HASH, OTHER_HASH, PASSWORD_HASH
from tornado_gateway.policy.hashes import NamedHash, check_key_hash, check_password_hash, normal, parse

SALT, TAG = "MDEyMzQ1Njc4OWFiY2RlZg", "HPxNtkZgAWVPOXrDGj+U9dxUSahBNKK9qaVEy6LwcMM"


def phc(costs: str = "m=7168,t=5,p=1", salt: str = SALT, tag: str = TAG, kind: str = "argon2id$v=19") -> str:
    return f"${kind}${costs}${salt}${tag}"


@pytest.mark.parametrize(
    ("item", "named"),
    [
        (f"ci:{KEY_HASH}", NamedHash("ci", KEY_HASH)),
        (f"ci:{KEY_HASH.upper()}", NamedHash("ci", KEY_HASH)),
        (f"ci:{KEY_HASH}:read", NamedHash("ci", KEY_HASH, frozenset({"read"}))),
        (f"a@b.c:{KEY_HASH}:bill:read,x/y", NamedHash("a@b.c", KEY_HASH, frozenset({"bill:read", "x/y"}))),
        (f"ju\u0308rgen:{KEY_HASH}", NamedHash("j\u00fcrgen", KEY_HASH)),
        (f"{'n' * 64}:{KEY_HASH}", NamedHash("n" * 64, KEY_HASH)),
    ],
)
def test_an_item_is_a_name_a_hash_and_scopes(item: str, named: NamedHash) -> None:
    assert parse(item, check_key_hash) == named
    assert parse(str(named), check_key_hash) == named
    assert KEY_HASH not in repr(named)


@pytest.mark.parametrize(
    "item",
    [
        "", ":", "ci", "ci:", f":{KEY_HASH}", KEY_HASH, f"c|i:{KEY_HASH}", f"c,i:{KEY_HASH}", f"c i:{KEY_HASH}",
        f"{'n' * 65}:{KEY_HASH}", f"c\u200bi:{KEY_HASH}", f"c\x00i:{KEY_HASH}",
    ],
)  # fmt: skip
def test_an_item_without_name_or_hash_is_none(item: str) -> None:
    with pytest.raises(ValueError, match="is not a name, a colon and a hash"):
        parse(item, check_key_hash)


@pytest.mark.parametrize("scopes", ["", ",", "a,", "a,,b", 'a"b', "a\\b", "é"])
def test_scopes_are_scope_tokens_without_commas(scopes: str) -> None:
    with pytest.raises(ValueError, match="has no scopes behind the second colon"):
        parse(f"ci:{KEY_HASH}:{scopes}", check_key_hash)


@pytest.mark.parametrize(
    ("hash_", "reason"),
    [
        ("5f4dcc3b5aa765d61d8327deb882cf99", "64 hexadecimal digits"),  # MD5
        (KEY_HASH[:-1], "64 hexadecimal digits"),
        (KEY_HASH + "0", "64 hexadecimal digits"),
        (KEY_HASH[:-1] + "g", "64 hexadecimal digits"),
        (KEY_HASH[:-1] + "\u0660", "64 hexadecimal digits"),
        (PASSWORD_HASH, "64 hexadecimal digits"),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "of an empty key"),
        ("0" * 64, "a placeholder"),
        ("0123456" * 9 + "0", "a placeholder"),
    ],
)
def test_a_weak_or_malformed_hash_of_a_key_is_refused(hash_: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse(f"ci:{hash_}", check_key_hash)
    assert hash_ not in str(refused.value)


@pytest.mark.parametrize(
    "hash_",
    [
        PASSWORD_HASH, OTHER_HASH, phc("m=19456,t=2,p=1"), phc("m=47104,t=1,p=1"), phc("m=65536,t=3,p=4"),
        phc("m=262144,t=16,p=16"), phc("m=35840,t=1,p=1"), phc(salt="MDEyMzQ1Njc", tag="HPxNtkZgAWVPOXrDGj+U9Q"),
    ],
)  # fmt: skip
def test_a_hash_of_a_password_is_argon2id(hash_: str) -> None:
    assert parse(f"ada:{hash_}", check_password_hash) == NamedHash("ada", hash_)


@pytest.mark.parametrize(
    ("hash_", "reason"),
    [
        ("open sesame", "is not an Argon2id hash"),
        (KEY_HASH, "is not an Argon2id hash"),
        ("$2b$12$abcdefghijklmnopqrstuv", "is not an Argon2id hash"),
        (phc(kind="argon2i$v=19"), "is not an Argon2id hash"),
        (phc(kind="argon2d$v=19"), "is not an Argon2id hash"),
        (phc(kind="argon2id$v=16"), "is not an Argon2id hash"),
        (phc("m=7168,t=5"), "is not an Argon2id hash"),
        (phc("m=7168,t=5,p=-1"), "is not an Argon2id hash"),
        (phc() + "$x", "is not an Argon2id hash"),
        (phc("m=7168,t=4,p=1"), "is too weak: m"),
        (phc("m=7167,t=9,p=1"), "is too weak: m"),
        (phc("m=35839,t=1,p=1"), "is too weak: m"),
        (phc(salt="MDEyMzQ1Ng"), "is too weak: the salt"),
        (phc(tag="HPxNtkZgAWVPOXrDGj+U"), "is too weak: the salt"),
        (phc("m=262145,t=5,p=1"), "costs too much"),
        (phc("m=7168,t=17,p=1"), "costs too much"),
        (phc("m=7168,t=5,p=17"), "costs too much"),
        (phc("m=7168,t=5,p=0"), "costs too much"),
        (phc(salt="MDEyMzQ1Njc4"[:-3] + "!!!"), "not base64"),
        (phc(salt="MDEyMzQ1Njc4O"), "not base64"),  # 13 characters are no bytes
        (phc(tag=TAG[:-1] + "N"), "not base64"),  # bits that no byte has
        (phc(tag="é" * 22), "not base64"),
    ],
)
def test_a_weak_or_malformed_hash_of_a_password_is_refused(hash_: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_password_hash(hash_)


def test_a_name_has_one_spelling() -> None:
    assert normal("ju\u0308rgen") == normal("j\u00fcrgen") == "j\u00fcrgen"
