"""The door of the model hosts: what a caller's plan allows is taken here before anything runs.

Every route comes through it, by whatever name it calls the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Forbidden, Unauthenticated
from gatehouse.core.own_thread import OwnThread
from gatehouse.identity.actors import Actor
from gatehouse.identity.counters import Change, CountersBusy
from gatehouse.identity.plans import PlanLimits, Plans, plan_of
from gatehouse.identity.rate_limits import (
    Allowance,
    RateLimits,
    Reservation,
    caller_key,
    correction,
)
from gatehouse.inference.errors import (
    ModelLoading,
    ModelOverloaded,
    SupervisorAbsent,
    TooManyAtOnce,
)
from gatehouse.inference.meter import Meter
from gatehouse.inference.plans.ledger import Ledger
from gatehouse.inference.plans.pro_models import ProModels
from gatehouse.inference.plans.usage import Figures, UsageKey
from gatehouse.repos.repository import Repository

_GIGABYTE = 10**9


class AnonymousRefused(Unauthenticated):
    """The operator lets nobody run models without saying who they are."""

    def __init__(self) -> None:
        super().__init__("Running models needs an access token here. Please log in.")


class ProRequired(Forbidden):
    """The model is one of those that only PRO users may run."""

    def __init__(self, pricing_url: str) -> None:
        super().__init__(
            f"Model requires a Pro subscription; check out {pricing_url} to learn more. "
            "Make sure to include your HF token in your query."
        )


class TooLargeForPlan(Forbidden):
    """The model could run here, but not for this plan."""

    def __init__(self, name: str, weight_bytes: int, limit: int, pricing_url: str) -> None:
        super().__init__(
            f"The model {name} is too large to be loaded automatically "
            f"({weight_bytes / _GIGABYTE:.3g}GB > {limit / _GIGABYTE:.3g}GB) on your plan; "
            f"check out {pricing_url} to learn more."
        )


class NotBillable(Forbidden):
    """The organization to bill does not exist, or is none of the caller's: it looks the same."""

    def __init__(self) -> None:
        super().__init__(
            "`X-HF-Bill-To` must name an organization that you are a member of, and you must be "
            "signed in."
        )


# The server's own state, not an answer: asking again costs nothing.
_NOT_COUNTED = (ModelLoading, ModelOverloaded, SupervisorAbsent, TooManyAtOnce, TooLargeForPlan)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is.

    Attributes:
        address: Where an anonymous request comes from.
        pricing_url: The plans page as this caller reaches it.
        organization_id: Who is billed besides; 0 for nobody.
    """

    actor: Actor
    address: str
    pricing_url: str
    organization_id: int = 0

    @property
    def key(self) -> str:
        return caller_key(self.actor, self.address)


@dataclass(frozen=True, slots=True)
class Admitted:
    """One call that was let in, until `Admission.end`."""

    caller: Caller
    repository: Repository
    reservation: Reservation
    num_requests: int


class Admission:
    """Lets calls in and settles them when they end. Those under way the supervisor counts."""

    def __init__(
        self,
        plans: Plans,
        pro_models: ProModels,
        rate_limits: RateLimits,
        ledger: Ledger,
        clock: Clock,
        *,
        allow_anonymous: bool = True,
    ) -> None:
        self._plans = plans
        self._pro_models = pro_models
        self._rate_limits = rate_limits
        self._ledger = ledger
        self._clock = clock
        self._allow_anonymous = allow_anonymous
        self.thread = OwnThread("admission")

    def limits_of(self, actor: Actor) -> PlanLimits:
        return self._plans.limits_of(actor)

    def standing(self, caller: Caller) -> Allowance:
        """What is left of a caller's requests. Blocking."""
        limits = self.limits_of(caller.actor)
        return self._rate_limits.standing(caller.actor, caller.address, limits)

    def admit(
        self,
        caller: Caller,
        repository: Repository,
        *,
        num_new_tokens: int,
        num_requests: int = 1,
        may_wait: bool = True,
    ) -> Admitted:
        """Take from the caller's plan what a call may come to. Follow with `end`.

        Args:
            caller: Who asks; whether they may use the repository was asked before.
            repository: The model's.
            num_new_tokens: The most that will be generated.
            num_requests: How many requests it counts as: one for each prompt.
            may_wait: False on an event loop.

        Raises:
            CountersBusy: It may not wait, and would have to.
            AnonymousRefused: Nobody is signed in, and somebody has to be.
            ProRequired: The plan does not include this model.
            RateLimited: The plan's requests or tokens are used up.
        """
        actor = caller.actor
        if actor.is_anonymous and not self._allow_anonymous:
            raise AnonymousRefused
        if repository in self._pro_models and not plan_of(actor).is_paying:
            raise ProRequired(caller.pricing_url)
        reservation = self._rate_limits.reserve(
            actor,
            caller.address,
            self.limits_of(actor),
            caller.pricing_url,
            num_requests=max(1, num_requests),
            num_tokens=num_new_tokens,
            may_wait=may_wait,
        )
        return Admitted(caller, repository, reservation, max(1, num_requests))

    def require_size(self, caller: Caller, name: str, weight_bytes: int) -> None:
        """Return if the caller's plan includes models with so many bytes of weights.

        Raises:
            TooLargeForPlan: It does not.
        """
        limit = self.limits_of(caller.actor).largest_model_bytes
        if limit is not None and weight_bytes > limit:
            raise TooLargeForPlan(name, weight_bytes, limit, caller.pricing_url)

    def end(self, admitted: Admitted, meter: Meter, error: BaseException | None = None) -> None:
        """Settle a call: what `meter` counted is what was used. Does not wait.

        `error` is what the call ended with; some of them make it as if it had not been.
        """
        is_counted = not isinstance(error, _NOT_COUNTED)
        changes = correction(
            admitted.reservation, num_tokens=meter.num_generated_tokens, is_counted=is_counted
        )
        figures = None
        if is_counted:
            figures = Figures(
                num_requests=admitted.num_requests,
                num_cached_requests=admitted.num_requests if meter.is_cached else 0,
                num_prompt_tokens=meter.num_prompt_tokens,
                num_generated_tokens=meter.num_generated_tokens,
                seconds=meter.total_seconds,
            )
        self._ledger.enter(self._unsettled(changes), self._usage_key(admitted), figures)

    def _unsettled(self, changes: Sequence[Change]) -> Sequence[Change]:
        """What could not be settled at once: that would have meant to wait."""
        if changes:
            try:
                self._rate_limits.settle(changes, may_wait=False)
            except CountersBusy:
                return changes
        return ()

    def _usage_key(self, admitted: Admitted) -> UsageKey:
        caller = admitted.caller
        actor = caller.actor
        return UsageKey(
            day=self._clock.now().date(),
            user_id=actor.user.id if actor.user else 0,
            token_id=actor.token_id or 0,
            organization_id=caller.organization_id,
            repository_id=admitted.repository.id,
        )


def billed_organization(actor: Actor, name: str | None) -> int:
    """The internal id of the organization that `X-HF-Bill-To` names; 0 without one.

    Raises:
        NotBillable: The caller is no member, or there is no such organization.
    """
    if name is None:
        return 0
    memberships = actor.user.memberships if actor.user else ()
    for membership in memberships:
        if membership.organization_name.casefold() == name.strip().casefold():
            return membership.organization_id
    raise NotBillable
