import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gatehouse.identity.actors import ANONYMOUS, Actor, Plan, User
from gatehouse.identity.rate_limits import Quotas, RateLimited, RateLimits, TooManySignIns

_QUOTAS = Quotas(anonymous=1, free=2, pro=3, enterprise=4)


def _actor(plan: Plan, user_id: int = 1) -> Actor:
    return Actor(User(user_id, "alice", "a@b.c", "", plan, is_admin=False))


def _take_all(limits: RateLimits, actor: Actor, address: str = "10.0.0.1") -> RateLimited:
    for _ in range(_QUOTAS.for_caller(actor)):
        limits.take(actor, address)
    with pytest.raises(RateLimited) as caught:
        limits.take(actor, address)
    return caught.value


@pytest.mark.parametrize(
    ("actor", "sentence"),
    [
        (ANONYMOUS, "Rate limit reached. Please log in or use a HF access token"),
        (
            _actor(Plan.FREE),
            (
                "Rate limit reached. You reached free usage limit (reset hourly). "
                "Please subscribe to a plan at http://hub/pricing to use the API at this rate"
            ),
        ),
        (_actor(Plan.PRO), "Rate limit reached. You reached PRO hourly usage limit. "),
        (_actor(Plan.ENTERPRISE), "Rate limit reached. You reached enterprise hourly usage limit."),
    ],
)
def test_each_plan_has_its_quota_and_its_sentence(actor: Actor, sentence: str) -> None:
    error = _take_all(RateLimits(_QUOTAS, "http://hub/pricing"), actor)
    assert error.message.startswith(sentence)
    assert error.allowance.remaining == 0
    assert 3590 <= error.retry_after == error.allowance.reset_seconds <= 3600


def test_an_allowance_counts_down() -> None:
    limits = RateLimits(_QUOTAS)
    seen = [limits.take(_actor(Plan.PRO), "10.0.0.1") for _ in range(3)]
    assert [allowance.remaining for allowance in seen] == [2, 1, 0]
    assert {(allowance.limit, allowance.window_seconds) for allowance in seen} == {(3, 3600)}


def test_strangers_are_counted_by_address_and_users_by_account() -> None:
    limits = RateLimits(_QUOTAS)
    _take_all(limits, ANONYMOUS, "10.0.0.1")
    _take_all(limits, ANONYMOUS, "10.0.0.2")
    limits.take(_actor(Plan.FREE), "10.0.0.1")
    limits.take(_actor(Plan.FREE), "10.0.0.2")
    with pytest.raises(RateLimited):
        limits.take(_actor(Plan.FREE), "10.0.0.3")
    limits.take(_actor(Plan.FREE, user_id=2), "10.0.0.1")


def test_the_window_ends() -> None:
    limits = RateLimits(_QUOTAS, window_seconds=1)
    error = _take_all(limits, ANONYMOUS)
    assert error.allowance.reset_seconds == 1
    time.sleep(1.1)
    assert limits.take(ANONYMOUS, "10.0.0.1").remaining == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    limits = RateLimits(_QUOTAS)
    actor = _actor(Plan.FREE)
    for _ in range(5):
        limits.take(actor, "10.0.0.1")
        limits.give_back(actor, "10.0.0.1")
    assert limits.take(actor, "10.0.0.1").remaining == 1


def test_a_refused_request_is_not_counted() -> None:
    limits = RateLimits(_QUOTAS)
    actor = _actor(Plan.FREE)
    _take_all(limits, actor)
    limits.give_back(actor, "10.0.0.1")
    assert limits.take(actor, "10.0.0.1").remaining == 0


def test_a_quota_of_nothing_refuses_the_first_request() -> None:
    limits = RateLimits(Quotas(0, 1, 1, 1))
    with pytest.raises(RateLimited) as caught:
        limits.take(ANONYMOUS, "10.0.0.1")
    assert caught.value.retry_after == 3600


def test_simultaneous_requests_do_not_overshoot() -> None:
    limits = RateLimits(Quotas(25, 1, 1, 1))

    def take(_: int) -> bool:
        try:
            limits.take(ANONYMOUS, "10.0.0.1")
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(take, range(200))) == 25


def test_guessing_one_name_is_stopped_for_that_address_only() -> None:
    limits = RateLimits(_QUOTAS)
    for number in range(10):
        limits.take_sign_in("10.0.0.1", "Alice" if number % 2 else "alice")
    with pytest.raises(TooManySignIns, match="try again in 5 minutes"):
        limits.take_sign_in("10.0.0.1", "ALICE")
    limits.take_sign_in("10.0.0.2", "alice")
    limits.take_sign_in("10.0.0.1", "bob")


def test_guessing_many_names_is_stopped() -> None:
    limits = RateLimits(_QUOTAS)
    for number in range(100):
        limits.take_sign_in("10.0.0.1", f"user{number}")
    with pytest.raises(TooManySignIns):
        limits.take_sign_in("10.0.0.1", "one-more")


def test_a_right_password_forgives_the_attempts_before() -> None:
    limits = RateLimits(_QUOTAS)
    for _ in range(3):
        for _ in range(10):
            limits.take_sign_in("10.0.0.1", "alice")
        limits.forgive_sign_in("10.0.0.1", "Alice")
    limits.take_sign_in("10.0.0.1", "alice")
