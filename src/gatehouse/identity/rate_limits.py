"""How often a caller may run models or try to sign in: fixed windows in this process's memory."""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from gatehouse.core.errors import Limited
from gatehouse.identity.actors import Actor, Plan

_HOUR = 3600
_SIGN_IN_WINDOW = 300
_SIGN_INS_PER_NAME = 10
_SIGN_INS_PER_ADDRESS = 100
_DEVICE_SIGN_INS_PER_ADDRESS = 60
_SIGN_UPS_PER_ADDRESS = 60


@dataclass(frozen=True, slots=True)
class Quotas:
    """Requests in one window, by plan."""

    anonymous: int
    free: int
    pro: int
    enterprise: int

    def for_caller(self, actor: Actor) -> int:
        if actor.user is None:
            return self.anonymous
        by_plan: Mapping[Plan, int] = {
            Plan.FREE: self.free,
            Plan.PRO: self.pro,
            Plan.ENTERPRISE: self.enterprise,
        }
        return by_plan[actor.user.plan]


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a caller stands after a request.

    Attributes:
        limit: Requests in one window.
        remaining: What is left of them.
        reset_seconds: Seconds until the window ends, rounded up.
        window_seconds: The length of a window.
    """

    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


class RateLimited(Limited):
    """The window is used up. `allowance` is for the `RateLimit` headers."""

    def __init__(self, message: str, allowance: Allowance) -> None:
        super().__init__(message, retry_after=allowance.reset_seconds)
        self.allowance = allowance


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


class RateLimits:
    """Counts and refuses in one step, so that simultaneous requests cannot overshoot.

    A user has one window over all their tokens; nobody is counted by address.
    """

    def __init__(
        self,
        quotas: Quotas,
        pricing_url: str = "/pricing",
        *,
        window_seconds: int = _HOUR,
        storage: Storage | None = None,
    ) -> None:
        self._quotas = quotas
        self._pricing_url = pricing_url
        self._window_seconds = window_seconds
        self._storage = storage or MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)
        # The memory store counts safely, but a count and its window's end are two look-ups.
        self._lock = threading.Lock()

    def take(self, actor: Actor, address: str, pricing_url: str | None = None) -> Allowance:
        """Count one request.

        Args:
            actor: Who asks.
            address: Where an anonymous request comes from.
            pricing_url: The plans page as the caller reaches it.

        Raises:
            RateLimited: The window is used up; the request was not counted.
        """
        quota = self._quotas.for_caller(actor)
        allowed, allowance = self._hit("run", _key(actor, address), quota, self._window_seconds)
        if not allowed:
            raise RateLimited(_refusal(actor, pricing_url or self._pricing_url), allowance)
        return allowance

    def give_back(self, actor: Actor, address: str) -> None:
        """Undo one `take`: the request turned out not to count."""
        item = _item("run", self._quotas.for_caller(actor), self._window_seconds)
        key = item.key_for(_key(actor, address))
        with self._lock:
            if self._storage.get(key) > 1:
                self._storage.decr(key, 1)
            else:
                self._storage.clear(key)

    def take_sign_in(self, address: str, name: str) -> None:
        """Count one attempt to sign in, before the password is looked at.

        Raises:
            TooManySignIns: This address tried this name, or names in all, too often.
        """
        folded = name.casefold()[:320]
        for space, key, amount in (
            ("sign-in-address", address, _SIGN_INS_PER_ADDRESS),
            ("sign-in-name", f"{address} {folded}", _SIGN_INS_PER_NAME),
        ):
            allowed, allowance = self._hit(space, key, amount, _SIGN_IN_WINDOW)
            if not allowed:
                raise TooManySignIns(allowance.reset_seconds)

    def take_device_sign_in(self, address: str) -> None:
        """Count one start of a device sign-in, which anybody may ask for.

        Raises:
            TooManySignIns: This address started too many.
        """
        allowed, allowance = self._hit(
            "device", address, _DEVICE_SIGN_INS_PER_ADDRESS, _SIGN_IN_WINDOW
        )
        if not allowed:
            raise TooManySignIns(allowance.reset_seconds)

    def take_sign_up(self, address: str) -> None:
        """Count one attempt to make an account: each costs a password hash, and gets a window.

        Raises:
            TooManySignUps: This address tried too often.
        """
        allowed, allowance = self._hit("sign-up", address, _SIGN_UPS_PER_ADDRESS, _SIGN_IN_WINDOW)
        if not allowed:
            raise TooManySignUps(allowance.reset_seconds)

    def forgive_sign_in(self, address: str, name: str) -> None:
        """Forget the attempts of this address on this name: the password was right."""
        item = _item("sign-in-name", _SIGN_INS_PER_NAME, _SIGN_IN_WINDOW)
        with self._lock:
            self._storage.clear(item.key_for(f"{address} {name.casefold()[:320]}"))

    def _hit(self, space: str, key: str, amount: int, window: int) -> tuple[bool, Allowance]:
        item = _item(space, amount, window)
        with self._lock:
            allowed = self._limiter.test(item, key) and self._limiter.hit(item, key)
            stats = self._limiter.get_window_stats(item, key)
        # A quota of nothing never opens a window.
        seconds = math.ceil(stats.reset_time - time.time()) if amount else window
        return allowed, Allowance(amount, stats.remaining, min(max(1, seconds), window), window)


def _item(space: str, amount: int, window: int) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(amount, window, namespace=space)


def _key(actor: Actor, address: str) -> str:
    return f"address {address}" if actor.user is None else f"user {actor.user.id}"


def _refusal(actor: Actor, pricing_url: str) -> str:
    if actor.user is None:
        return "Rate limit reached. Please log in or use a HF access token"
    if actor.user.plan is Plan.FREE:
        return (
            "Rate limit reached. You reached free usage limit (reset hourly). "
            f"Please subscribe to a plan at {pricing_url} to use the API at this rate"
        )
    name = "PRO" if actor.user.plan is Plan.PRO else "enterprise"
    return f"Rate limit reached. You reached {name} hourly usage limit. Please wait until it resets"
