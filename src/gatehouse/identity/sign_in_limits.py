"""How often an address may try to sign in or make accounts."""

import math

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Limited
from gatehouse.identity.counters import Counters, Want, WindowFull

_WINDOW_SECONDS = 300
_SIGN_INS_PER_NAME = 10
_SIGN_INS_PER_ADDRESS = 100
_DEVICE_SIGN_INS_PER_ADDRESS = 60
_SIGN_UPS_PER_ADDRESS = 60
_MAX_NAME = 320


class TooManySignIns(Limited):
    def __init__(self, retry_after: int) -> None:
        minutes = math.ceil(retry_after / 60)
        super().__init__(
            f"Too many attempts to sign in: try again in {minutes} minute{'s' * (minutes > 1)}.",
            retry_after,
        )


class TooManySignUps(Limited):
    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "Too many accounts were asked for from this address: try again in a few minutes.",
            retry_after,
        )


class SignInLimits:
    """Counts and refuses in one step. Addresses are as `http/client_address.py` gives them."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    def take_sign_in(self, address: str, name: str) -> None:
        """Count one attempt to sign in, before the password is looked at.

        Raises:
            TooManySignIns: This address tried this name, or names in all, too often.
        """
        by_address = _want(f"sign-in address {address}", _SIGN_INS_PER_ADDRESS)
        by_name = _want(_name_key(address, name), _SIGN_INS_PER_NAME)
        self._take(TooManySignIns, by_address, by_name)

    def forgive_sign_in(self, address: str, name: str) -> None:
        """Forget the attempts of this address on this name: the password was right."""
        self._counters.clear(_name_key(address, name))

    def take_device_sign_in(self, address: str) -> None:
        """Count one start of a device sign-in, which anybody may ask for.

        Raises:
            TooManySignIns: This address started too many.
        """
        self._take(TooManySignIns, _want(f"device {address}", _DEVICE_SIGN_INS_PER_ADDRESS))

    def take_sign_up(self, address: str) -> None:
        """Count one attempt to make an account: each costs a password hash, and gets a window.

        Raises:
            TooManySignUps: This address tried too often.
        """
        self._take(TooManySignUps, _want(f"sign-up {address}", _SIGN_UPS_PER_ADDRESS))

    def _take(self, refusal: type[TooManySignIns | TooManySignUps], *wants: Want) -> None:
        now = int(self._clock.now().timestamp())
        try:
            self._counters.take(wants, now)
        except WindowFull as full:
            raise refusal(max(1, full.count.ends_at - now)) from None


def _want(key: str, limit: int) -> Want:
    return Want(key, 1, limit, _WINDOW_SECONDS)


def _name_key(address: str, name: str) -> str:
    return f"sign-in name {address} {name.casefold()[:_MAX_NAME]}"
