from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gatehouse.core.clock import FakeClock
from gatehouse.identity.actors import ANONYMOUS, Actor, Plan, User
from gatehouse.identity.counters import MemoryCounters
from gatehouse.identity.plans import DEFAULT_PLANS, PlanLimits, PlanName, plan_of
from gatehouse.identity.rate_limits import RateLimited, RateLimits, Reservation, correction

_REQUESTS = {"anonymous": 1, "free": 2, "pro": 3, "enterprise": 4}
_PRICING = "http://hub/pricing"


class House:
    """Limits over counts of their own, and a clock to move."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.limits = RateLimits(MemoryCounters(), self.clock)

    def reserve(
        self,
        actor: Actor,
        address: str = "10.0.0.1",
        *,
        num_requests: int = 1,
        num_tokens: int = 0,
        tokens_per_day: int | None = 1000,
    ) -> Reservation:
        plan = replace(
            _plan(actor),
            requests_per_hour=_REQUESTS[plan_of(actor)],
            tokens_per_day=tokens_per_day,
        )
        return self.limits.reserve(
            actor, address, plan, _PRICING, num_requests=num_requests, num_tokens=num_tokens
        )

    def settle(self, reservation: Reservation, num_tokens: int = 0, **options: bool) -> None:
        self.limits.settle(correction(reservation, num_tokens=num_tokens, **options))


def _plan(actor: Actor) -> PlanLimits:
    return DEFAULT_PLANS[PlanName(plan_of(actor))]


def _actor(plan: Plan, user_id: int = 1) -> Actor:
    return Actor(User(user_id, "alice", "a@b.c", "", plan, is_admin=False))


def _take_all(house: House, actor: Actor, address: str = "10.0.0.1") -> RateLimited:
    for _ in range(_REQUESTS[plan_of(actor)]):
        house.reserve(actor, address)
    with pytest.raises(RateLimited) as caught:
        house.reserve(actor, address)
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
    error = _take_all(House(), actor)
    assert error.message.startswith(sentence)
    assert error.allowance.remaining == 0
    assert error.retry_after == error.allowance.reset_seconds == 3600


def test_an_allowance_counts_down() -> None:
    house = House()
    seen = [house.reserve(_actor(Plan.PRO)).allowance for _ in range(3)]
    assert [allowance.remaining for allowance in seen] == [2, 1, 0]
    assert {(allowance.limit, allowance.window_seconds) for allowance in seen} == {(3, 3600)}


def test_strangers_are_counted_by_address_and_users_by_account() -> None:
    house = House()
    _take_all(house, ANONYMOUS, "10.0.0.1")
    _take_all(house, ANONYMOUS, "10.0.0.2")
    house.reserve(_actor(Plan.FREE), "10.0.0.1")
    house.reserve(_actor(Plan.FREE), "10.0.0.2")
    with pytest.raises(RateLimited):
        house.reserve(_actor(Plan.FREE), "10.0.0.3")
    house.reserve(_actor(Plan.FREE, user_id=2), "10.0.0.1")


def test_the_window_opens_with_the_first_request_and_ends_an_hour_later() -> None:
    house = House()
    house.clock.advance(1000)
    house.reserve(_actor(Plan.FREE))
    house.clock.advance(3000)
    assert house.reserve(_actor(Plan.FREE)).allowance.reset_seconds == 600
    house.clock.advance(600)
    assert house.reserve(_actor(Plan.FREE)).allowance.remaining == 1


def test_what_is_given_back_can_be_taken_again() -> None:
    house = House()
    for _ in range(5):
        house.settle(house.reserve(_actor(Plan.FREE)), is_counted=False)
    assert house.reserve(_actor(Plan.FREE)).allowance.remaining == 1


def test_what_was_taken_in_a_window_is_not_given_back_in_the_next() -> None:
    house = House()
    old = house.reserve(_actor(Plan.FREE))
    house.clock.advance(3600)
    house.reserve(_actor(Plan.FREE))
    house.settle(old, is_counted=False)
    assert house.reserve(_actor(Plan.FREE)).allowance.remaining == 0


def test_a_refused_request_is_not_counted() -> None:
    house = House()
    first = house.reserve(_actor(Plan.FREE))
    house.reserve(_actor(Plan.FREE))
    for _ in range(3):
        with pytest.raises(RateLimited):
            house.reserve(_actor(Plan.FREE))
    house.settle(first, is_counted=False)
    assert house.reserve(_actor(Plan.FREE)).allowance.remaining == 0


def test_a_batch_is_taken_whole_or_not_at_all() -> None:
    house = House()
    with pytest.raises(RateLimited, match="may take 4 requests; 3 are left"):
        house.reserve(_actor(Plan.PRO), num_requests=4)
    assert house.reserve(_actor(Plan.PRO), num_requests=3).allowance.remaining == 0


def test_tokens_are_reserved_and_settled_to_what_was_generated() -> None:
    house = House()
    pro = _actor(Plan.PRO)
    first = house.reserve(pro, num_tokens=900)
    with pytest.raises(RateLimited, match=r"PRO daily usage limit.*200 generated tokens; 100 are"):
        house.reserve(pro, num_tokens=200)
    house.settle(first, num_tokens=300)
    house.settle(house.reserve(pro, num_tokens=700), num_tokens=700)
    with pytest.raises(RateLimited) as caught:
        house.reserve(pro, num_tokens=1)
    allowance = caught.value.allowance
    assert (allowance.name, allowance.limit, allowance.remaining) == ("tokens", 1000, 0)
    assert allowance.window_seconds == caught.value.retry_after == 86400


def test_a_request_refused_for_its_tokens_takes_no_request() -> None:
    house = House()
    for _ in range(5):
        with pytest.raises(RateLimited):
            house.reserve(_actor(Plan.FREE), num_tokens=1001)
    assert house.reserve(_actor(Plan.FREE), num_tokens=1000).allowance.remaining == 1


def test_a_plan_without_a_limit_of_tokens_counts_none() -> None:
    house = House()
    reservation = house.reserve(_actor(Plan.PRO), num_tokens=10**12, tokens_per_day=None)
    assert reservation.tokens is None
    house.settle(reservation, num_tokens=10**12)


def test_a_quota_of_nothing_refuses_the_first_request() -> None:
    house = House()
    with pytest.raises(RateLimited) as caught:
        house.limits.reserve(
            ANONYMOUS, "10.0.0.1", replace(_plan(ANONYMOUS), requests_per_hour=0), _PRICING
        )
    assert caught.value.retry_after == 3600


def test_asking_where_one_stands_takes_nothing() -> None:
    house = House()
    free = _actor(Plan.FREE)
    house.reserve(free)
    plan = replace(_plan(free), requests_per_hour=2)
    for _ in range(3):
        assert house.limits.standing(free, "10.0.0.1", plan).remaining == 1


def test_simultaneous_requests_do_not_overshoot() -> None:
    house = House()
    plan = replace(_plan(ANONYMOUS), requests_per_hour=25)

    def take(_: int) -> bool:
        try:
            house.limits.reserve(ANONYMOUS, "10.0.0.1", plan, _PRICING)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(take, range(200))) == 25
