import pytest

from gatehouse.core.clock import FakeClock
from gatehouse.identity.counters import MemoryCounters
from gatehouse.identity.sign_in_limits import SignInLimits, TooManySignIns, TooManySignUps


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limits(clock: FakeClock) -> SignInLimits:
    return SignInLimits(MemoryCounters(), clock)


def test_guessing_one_name_is_stopped_for_that_address_only(limits: SignInLimits) -> None:
    for number in range(10):
        limits.take_sign_in("10.0.0.1", "Alice" if number % 2 else "alice")
    with pytest.raises(TooManySignIns, match="try again in 5 minutes"):
        limits.take_sign_in("10.0.0.1", "ALICE")
    limits.take_sign_in("10.0.0.2", "alice")
    limits.take_sign_in("10.0.0.1", "bob")


def test_guessing_many_names_is_stopped(limits: SignInLimits) -> None:
    for number in range(100):
        limits.take_sign_in("10.0.0.1", f"user{number}")
    with pytest.raises(TooManySignIns):
        limits.take_sign_in("10.0.0.1", "one-more")


def test_a_right_password_forgives_the_attempts_before(limits: SignInLimits) -> None:
    for _ in range(3):
        for _ in range(10):
            limits.take_sign_in("10.0.0.1", "alice")
        limits.forgive_sign_in("10.0.0.1", "Alice")
    limits.take_sign_in("10.0.0.1", "alice")


def test_the_window_ends(limits: SignInLimits, clock: FakeClock) -> None:
    for _ in range(60):
        limits.take_sign_up("10.0.0.1")
        limits.take_device_sign_in("10.0.0.1")
    with pytest.raises(TooManySignUps):
        limits.take_sign_up("10.0.0.1")
    with pytest.raises(TooManySignIns):
        limits.take_device_sign_in("10.0.0.1")
    clock.advance(300)
    limits.take_sign_up("10.0.0.1")
    limits.take_device_sign_in("10.0.0.1")
