"""How much of the models a caller may use in a window of time: requests and generated tokens.

Both are taken before a model runs, in one step, so that simultaneous requests cannot overshoot;
afterwards the tokens are settled to what was generated. A crash in between leaves them taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Limited
from gatehouse.identity.actors import Actor
from gatehouse.identity.counters import Change, Count, Counters, Want, WindowFull
from gatehouse.identity.plans import PlanLimits, PlanName, plan_of

_HOUR = 3600
_DAY = 86400
_MAX_KEY = 200


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a caller stands, for the `RateLimit` headers.

    Attributes:
        name: What is counted: `inference` for requests, `tokens`.
        limit: Of one window.
        remaining: What is left of it.
        reset_seconds: Seconds until the window ends.
        window_seconds: The length of a window.
    """

    name: str
    limit: int
    remaining: int
    reset_seconds: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was taken for one call.

    Attributes:
        allowance: What is left of the requests.
        requests: What was taken of them.
        tokens: What was taken of the tokens; None without a limit.
    """

    allowance: Allowance
    requests: Change
    tokens: Change | None


class RateLimited(Limited):
    """A window is used up. `allowance` is for the `RateLimit` headers."""

    def __init__(self, message: str, allowance: Allowance) -> None:
        super().__init__(message, retry_after=allowance.reset_seconds)
        self.allowance = allowance


class RateLimits:
    """A user has one window over all their tokens; nobody is counted by address."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    def reserve(
        self,
        actor: Actor,
        address: str,
        limits: PlanLimits,
        pricing_url: str,
        *,
        num_requests: int = 1,
        num_tokens: int = 0,
        may_wait: bool = True,
    ) -> Reservation:
        """Take requests and tokens, or neither.

        Args:
            actor: Who asks.
            address: Where an anonymous request comes from.
            limits: The caller's plan.
            pricing_url: The plans page as the caller reaches it.
            num_requests: How many requests the call counts as.
            num_tokens: The most that it can generate.
            may_wait: False on an event loop.

        Raises:
            RateLimited: One of the windows has not so much left.
            CountersBusy: It may not wait, and would have to.
        """
        caller = caller_key(actor, address)
        wants = [Want(f"requests {caller}", num_requests, limits.requests_per_hour, _HOUR)]
        if limits.tokens_per_day is not None and num_tokens > 0:
            wants.append(Want(f"tokens {caller}", num_tokens, limits.tokens_per_day, _DAY))
        now = self._now()
        try:
            counts = self._counters.take(wants, now, may_wait=may_wait)
        except WindowFull as full:
            allowance = _allowance(full.want, full.count, now)
            sentence = _refusal(actor, full.want, allowance, pricing_url)
            raise RateLimited(sentence, allowance) from None
        taken = [Change(w.key, c.ends_at, w.amount) for w, c in zip(wants, counts, strict=True)]
        tokens = taken[1] if len(taken) > 1 else None
        return Reservation(_allowance(wants[0], counts[0], now), taken[0], tokens)

    def standing(self, actor: Actor, address: str, limits: PlanLimits) -> Allowance:
        """What is left of the caller's requests; takes nothing."""
        key = f"requests {caller_key(actor, address)}"
        now = self._now()
        count = self._counters.read(key, _HOUR, now)
        return _allowance(Want(key, 1, limits.requests_per_hour, _HOUR), count, now)

    def settle(self, corrections: Sequence[Change], *, may_wait: bool = True) -> None:
        """Correct what was taken.

        Raises:
            CountersBusy: It may not wait, and would have to.
        """
        self._counters.change(corrections, may_wait=may_wait)

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def correction(
    reservation: Reservation, *, num_tokens: int, is_counted: bool = True
) -> tuple[Change, ...]:
    """What makes a reservation come to what was really used, for `RateLimits.settle`.

    Args:
        reservation: What was taken.
        num_tokens: What was generated.
        is_counted: False gives the requests back too.
    """
    changes = []
    if not is_counted:
        requests = reservation.requests
        changes.append(Change(requests.key, requests.ends_at, -requests.amount))
    tokens = reservation.tokens
    if tokens is not None and tokens.amount != num_tokens:
        changes.append(Change(tokens.key, tokens.ends_at, num_tokens - tokens.amount))
    return tuple(changes)


def caller_key(actor: Actor, address: str) -> str:
    """Who is counted: a user whatever their credential, else an address."""
    if actor.user is None:
        return f"address {address[:_MAX_KEY]}"
    return f"user {actor.user.id}"


def _allowance(want: Want, count: Count, now: int) -> Allowance:
    name = "inference" if want.key.startswith("requests ") else "tokens"
    # Somebody may have taken more before the plan was made smaller.
    remaining = max(0, want.limit - count.used)
    reset_seconds = min(max(1, count.ends_at - now), want.window_seconds)
    return Allowance(name, want.limit, remaining, reset_seconds, want.window_seconds)


def _refusal(actor: Actor, want: Want, allowance: Allowance, pricing_url: str) -> str:
    plan = plan_of(actor)
    if plan is PlanName.ANONYMOUS:
        sentence = "Rate limit reached. Please log in or use a HF access token"
    elif plan is PlanName.FREE:
        reset = "hourly" if want.window_seconds == _HOUR else "daily"
        sentence = (
            f"Rate limit reached. You reached free usage limit (reset {reset}). "
            f"Please subscribe to a plan at {pricing_url} to use the API at this rate"
        )
    else:
        name = "PRO" if plan is PlanName.PRO else "enterprise"
        reset = "hourly" if want.window_seconds == _HOUR else "daily"
        sentence = (
            f"Rate limit reached. You reached {name} {reset} usage limit. "
            "Please wait until it resets"
        )
    if want.amount > 1 and allowance.remaining > 0:
        what = "requests" if allowance.name == "inference" else "generated tokens"
        sentence += f". This call may take {want.amount} {what}; {allowance.remaining} are left"
    return sentence
