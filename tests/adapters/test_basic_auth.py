"""Verifying Basic credentials: who gets in, what is remembered, what an address may try, and what the time tells."""

import asyncio
import random

import pytest

from tests.policy.test_api_keys import mutated
from tests.support.credentials import OTHER_HASH, OTHER_PASSWORD, PASSWORD, PASSWORD_HASH, credential
from tornado_gateway.adapters.basic_auth import VERDICT_AGE, BasicVerifier
from tornado_gateway.adapters.passwords import WAITING, WORKERS
from tornado_gateway.errors import PasswordChecksBusy, TooManyAttempts, Unauthorized
from tornado_gateway.policy.attempts import MOST, WINDOW
from tornado_gateway.policy.hashes import NamedHash
from tornado_gateway.policy.http.basic import read_basic
from tornado_gateway.policy.principal import Principal

ADA = NamedHash("ada", PASSWORD_HASH, frozenset({"read"}))
OTHER = NamedHash("jürgen", OTHER_HASH)
RIGHT, WRONG = credential("ada", PASSWORD), credential("ada", "wrong")


class Verifier(BasicVerifier):
    """A verifier with a clock that stands, and with checks that are counted and compare nothing but texts.

    Attributes:
        time: seconds on the clock.
        checked: pairs of hash and password.
        held: checks end when they are let go, if set.
    """

    def __init__(self, *users: NamedHash) -> None:
        self.time = 1000.0
        super().__init__(users or (ADA, OTHER), lambda: self.time)
        self.checked: list[tuple[str, str]] = []
        self.held: list[asyncio.Future[bool]] | None = None
        self.checks.check = self._check  # type: ignore[method-assign]

    def _check(self, hash_: str, password: str) -> "asyncio.Future[bool]":
        if self.held is not None and len(self.held) >= WORKERS + WAITING:
            raise PasswordChecksBusy
        self.checked.append((hash_, password))
        check: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.held is None:
            check.set_result((hash_, password) in ((PASSWORD_HASH, PASSWORD), (OTHER_HASH, OTHER_PASSWORD)))
        else:
            self.held.append(check)
        return check

    async def ask(self, value: bytes, client: str = "192.0.2.1") -> Principal:
        found = self.verify(value, client)
        return found if isinstance(found, Principal) else await found


@pytest.mark.gen_test
async def test_a_user_with_the_password_gets_in_and_nobody_else() -> None:
    verifier = BasicVerifier([ADA, OTHER])  # with real checks

    async def ask(name: str, password: str) -> Principal:
        found = verifier.verify(credential(name, password), "192.0.2.1")
        return found if isinstance(found, Principal) else await found

    ada, other = await ask("ada", PASSWORD), await ask("ju\u0308rgen", "pa\u0308sswo\u0308rd")
    assert (ada.name, ada.scopes, other.name, other.scopes) == ("basic:ada", {"read"}, "basic:jürgen", set())
    for wrong in (("ada", OTHER_PASSWORD), ("jürgen", PASSWORD), ("eve", PASSWORD), ("Ada", PASSWORD), ("", "")):
        with pytest.raises(Unauthorized):
            await ask(*wrong)
    await verifier.checks.close()


@pytest.mark.gen_test
async def test_a_verdict_is_kept_for_a_while_and_a_refusal_never() -> None:
    verifier = Verifier()
    first = await verifier.ask(RIGHT)
    assert verifier.verify(RIGHT, "198.51.100.1") is first
    verifier.time += VERDICT_AGE - 0.1
    assert verifier.verify(RIGHT, "192.0.2.1") is first
    assert len(verifier.checked) == 1
    verifier.time += 0.2
    assert await verifier.ask(RIGHT) == first
    assert len(verifier.checked) == 2
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await verifier.ask(WRONG)
    assert len(verifier.checked) == 4


@pytest.mark.gen_test
async def test_the_memory_holds_no_credential() -> None:
    verifier = Verifier()
    await verifier.ask(RIGHT)
    (kept,) = verifier._verdicts
    other = Verifier()
    await other.ask(RIGHT)
    assert kept not in other._verdicts  # another key, so that a list of likely passwords finds nothing
    assert not verifier._running


@pytest.mark.gen_test
async def test_requests_with_one_credential_share_a_check() -> None:
    verifier = Verifier()
    verifier.held = []
    asking = [asyncio.ensure_future(verifier.ask(RIGHT)) for _ in range(3 * MOST)]
    await asyncio.sleep(0)
    asking[0].cancel()  # the client has left; others still wait
    (check,) = verifier.held
    check.set_result(True)
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {each.name for each in answers[1:] if isinstance(each, Principal)} == {"basic:ada"}
    assert not verifier._running and not verifier._attempts._began


@pytest.mark.gen_test
async def test_an_address_that_fails_often_waits_before_any_hash_is_computed() -> None:
    verifier = Verifier()
    for number in range(MOST):
        with pytest.raises(Unauthorized):
            await verifier.ask(credential("ada", f"wrong{number}"))
        verifier.time += 1
    for value in (RIGHT, WRONG, credential("eve", "x")):
        with pytest.raises(TooManyAttempts) as refused:
            await verifier.ask(value)
        assert refused.value.retry_after == WINDOW - MOST
    assert len(verifier.checked) == MOST
    assert (await verifier.ask(RIGHT, "198.51.100.1")).name == "basic:ada"  # another address may
    assert (await verifier.ask(RIGHT)).name == "basic:ada"  # a verdict needs no hash
    verifier.time += WINDOW - MOST + 0.1
    assert (await verifier.ask(credential("jürgen", OTHER_PASSWORD))).name == "basic:jürgen"


@pytest.mark.gen_test
async def test_attempts_at_the_same_time_count_as_well() -> None:
    verifier = Verifier()
    verifier.held = []
    asking = [asyncio.ensure_future(verifier.ask(credential("ada", f"w{each}"))) for each in range(5 * MOST)]
    await asyncio.sleep(0)
    assert len(verifier.held) == MOST
    for check in verifier.held:
        check.set_result(False)
    refusals = [type(each) for each in await asyncio.gather(*asking, return_exceptions=True)]
    assert refusals == [Unauthorized] * MOST + [TooManyAttempts] * 4 * MOST


@pytest.mark.gen_test
async def test_a_busy_gateway_refuses_without_blaming_the_client() -> None:
    verifier = Verifier()
    verifier.held = [asyncio.get_running_loop().create_future() for _ in range(WORKERS + WAITING)]
    for _ in range(2 * MOST):
        with pytest.raises(PasswordChecksBusy):
            await verifier.ask(RIGHT)
    assert not verifier._attempts._began and not verifier._running


@pytest.mark.gen_test
async def test_a_malformed_credential_costs_no_hash_and_no_attempt() -> None:
    verifier = Verifier()
    for _ in range(2 * MOST):
        with pytest.raises(Unauthorized):
            await verifier.ask(b"YWRh")
    assert not verifier.checked and not verifier._attempts._began


@pytest.mark.gen_test
async def test_an_unknown_name_costs_a_hash_too_and_always_the_same() -> None:
    verifier = Verifier()
    names = [f"u{each}" for each in range(40)]
    for number, name in enumerate(names * 2):
        with pytest.raises(Unauthorized):
            await verifier.ask(credential(name, f"x{number}"), f"address {number}")
    hashes = [hash_ for hash_, _ in verifier.checked]
    assert hashes[:40] == hashes[40:]
    assert set(hashes) == {PASSWORD_HASH, OTHER_HASH}
    with pytest.raises(Unauthorized):  # the password of the user whose hash stands in
        await verifier.ask(credential("u0", PASSWORD if hashes[0] == PASSWORD_HASH else OTHER_PASSWORD))


@pytest.mark.gen_test
async def test_a_check_that_breaks_is_an_error_and_no_refusal() -> None:
    verifier = Verifier()
    verifier.held = []
    asking = [asyncio.ensure_future(verifier.ask(RIGHT)) for _ in range(2)]
    await asyncio.sleep(0)
    verifier.held[0].set_exception(MemoryError())
    assert [type(each) for each in await asyncio.gather(*asking, return_exceptions=True)] == [MemoryError] * 2
    assert not verifier._running


@pytest.mark.gen_test
async def test_a_check_that_the_end_drops_ends_who_waits() -> None:
    verifier = Verifier()
    verifier.held = []
    asking = asyncio.ensure_future(verifier.ask(RIGHT))
    await asyncio.sleep(0)
    verifier.held[0].cancel()
    (ended,) = await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


@pytest.mark.gen_test
async def test_a_thousand_mutations_of_a_credential_are_refused() -> None:
    verifier, rng = Verifier(), random.Random(12)
    mutations = {mutated(rng, RIGHT) for _ in range(3_000)} - {RIGHT}
    assert len(mutations) > 1_000
    for number, each in enumerate(mutations):
        with pytest.raises(Unauthorized):
            await verifier.ask(each, f"address {number}")
        assert read_basic(each) != ("ada", PASSWORD)
