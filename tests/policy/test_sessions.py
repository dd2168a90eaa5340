"""The sessions of operators: when a session ends, and how many there may be."""

import json
import math

import pytest

from tornado_gateway.policy.principal import Principal
from tornado_gateway.policy.sessions import MAX_OF_PRINCIPAL, MAX_SESSIONS, SessionConfig, SessionStore

WALL = 1_700_000_000.0  # seconds since 1970 at the instant 0 of the gateway's clock
CONFIG = SessionConfig(idle=10.0, longest=100.0)


def ada(expiry: float = math.inf, name: str = "id|ada") -> Principal:
    return Principal(name, name, {}, frozenset(), expiry)


def opened(principal: Principal, at: float = 0.0) -> SessionStore:
    store = SessionStore(CONFIG)
    store.open(b"token", principal, at, WALL + at)
    return store


def is_open(store: SessionStore, at: float, token: bytes = b"token") -> bool:
    return store.use(token, at, WALL + at) is not None


def test_a_session_has_the_principal_of_its_log_in() -> None:
    session = opened(ada()).use(b"token", 1.0, WALL + 1.0)
    assert session and session.principal == ada()


def test_a_session_has_an_id_that_its_holder_tells_and_that_is_no_token() -> None:
    store = SessionStore(CONFIG)
    one, other = (store.open(each, ada(), 0.0, WALL) for each in (b"token", b"tokens"))
    assert (one.expiry.holder.sessions, one.expiry.holder.name) == ((one.id,), "id|ada")
    assert one.id != other.id and len(one.id) == 16
    assert not is_open(store, 0.0, one.id.encode())


def test_the_list_of_sessions_leaves_out_those_that_have_ended() -> None:
    store = opened(ada())
    later = store.open(b"later", ada(WALL + 25.0), 6.0, WALL + 6.0)
    assert [each.used_at for each in store.living(9.0, WALL + 9.0)] == [0.0, 6.0]
    assert store.living(12.0, WALL + 12.0) == [later]
    assert store.living(12.0, WALL + 30.0) == []


def test_a_session_ends_after_a_pause_or_with_its_credential() -> None:
    store = opened(ada(WALL + 15.0))
    (session,) = store.living(0.0, WALL)
    assert store.left(session, 4.0, WALL + 4.0) == 6.0
    assert is_open(store, 9.0)
    assert store.left(session, 9.0, WALL + 9.0) == 6.0
    assert store.left(session, 9.0, WALL + 14.0) == 1.0


@pytest.mark.parametrize("token", [b"", b"tokeN", b"token "])
def test_another_token_is_no_session(token: bytes) -> None:
    store = opened(ada())
    assert not is_open(store, 0.0, token)
    assert is_open(store, 0.0)


def test_a_session_ends_without_requests() -> None:
    assert is_open(opened(ada()), 9.9)
    store = opened(ada())
    assert not is_open(store, 10.0)
    assert not is_open(store, 0.0)  # and for good


def test_each_request_prolongs_a_session_up_to_the_longest() -> None:
    store = opened(ada())
    assert all(is_open(store, float(at)) for at in range(9, 100, 9))
    assert not is_open(store, 100.0)


@pytest.mark.parametrize(("at", "is_still_open"), [(4.9, True), (5.0, False)])
def test_a_session_ends_with_its_credential(at: float, is_still_open: bool) -> None:
    assert is_open(opened(ada(WALL + 5.0)), at) is is_still_open


@pytest.mark.parametrize(("now", "wall"), [(5.0, 0.0), (0.0, 5.0)], ids=["clock set back", "machine suspended"])
def test_either_clock_ends_a_session(now: float, wall: float) -> None:
    store = opened(ada(WALL + 5.0))
    assert store.use(b"token", now, WALL + wall) is None


def test_a_log_out_ends_a_session() -> None:
    store = opened(ada())
    session = store.close(b"token")
    assert session and session.principal == ada()
    assert not is_open(store, 0.0)
    assert store.close(b"token") is None


def test_sessions_that_have_ended_are_dropped_at_the_next_log_in() -> None:
    store = opened(ada())
    store.open(b"other", ada(), 10.0, WALL + 10.0)
    assert len(store) == 1


def test_a_principal_with_many_sessions_ends_the_one_that_was_used_first() -> None:
    store = SessionStore(CONFIG)
    store.open(b"of others", ada(name="id|eve"), 0.0, WALL)
    for number in range(MAX_OF_PRINCIPAL):
        store.open(b"%d" % number, ada(), 0.0, WALL)
    assert is_open(store, 1.0, b"0")
    store.open(b"one more", ada(), 2.0, WALL + 2.0)
    assert [is_open(store, 3.0, each) for each in (b"0", b"1", b"one more", b"of others")] == [True, False, True, True]


def test_the_number_of_sessions_is_bounded() -> None:
    store = SessionStore(CONFIG)
    for number in range(MAX_SESSIONS + 5):
        store.open(b"%d" % number, ada(name=f"id|{number}"), 0.0, WALL)
    assert len(store) == MAX_SESSIONS
    assert [is_open(store, 1.0, b"%d" % number) for number in (4, 5, MAX_SESSIONS + 4)] == [False, True, True]


def test_the_store_has_no_token() -> None:
    assert "token" not in repr(opened(ada()))


def test_another_process_takes_the_sessions_over() -> None:
    principal = Principal("ada", "id|ada", {"sub": "ada", "jti": "7"}, frozenset({"write", "read"}), math.inf)
    other = SessionStore(CONFIG)
    other.add_plain(json.loads(json.dumps(opened(principal).to_plain())))
    session = other.use(b"token", 9.0, WALL + 9.0)
    assert session == opened(principal).use(b"token", 9.0, WALL + 9.0)
    assert session and session.principal.holder == principal.holder


def test_a_session_goes_on_in_another_process_and_ends_there_too() -> None:
    one, other = opened(ada()), SessionStore(CONFIG)
    row = one.plain_of(b"token")
    other.add_plain(json.loads(json.dumps([row])))
    other.used(row[0], 9.0)
    assert is_open(other, 18.0) and not is_open(one, 18.0)
    other.used(row[0], 1.0)  # late news
    other.end(row[0])
    other.used(row[0], 18.0)
    assert not is_open(other, 18.0)
    assert other.plain_of(b"token") == []


def test_no_session_is_left_after_a_clearing() -> None:
    store = opened(ada())
    store.clear()
    assert len(store) == 0
