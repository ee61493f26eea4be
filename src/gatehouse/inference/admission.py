"""What each plan may ask of the model hosts: how much, how many at once, and who goes first.

How often somebody may ask is `identity/rate_limits.py`'s.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatehouse.core.errors import Forbidden, Limited
from gatehouse.core.ids import RepoId
from gatehouse.identity.actors import Actor, Plan


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """One plan's limits.

    Attributes:
        max_new_tokens: Of one request.
        num_concurrent: Requests of one caller under way at once.
        priority: Waiting requests of a lower number go first.
    """

    max_new_tokens: int
    num_concurrent: int
    priority: int


ANONYMOUS_LIMITS = PlanLimits(max_new_tokens=512, num_concurrent=8, priority=3)
DEFAULT_LIMITS: Mapping[Plan, PlanLimits] = {
    Plan.FREE: PlanLimits(max_new_tokens=2048, num_concurrent=16, priority=2),
    Plan.PRO: PlanLimits(max_new_tokens=16384, num_concurrent=64, priority=1),
    Plan.ENTERPRISE: PlanLimits(max_new_tokens=65536, num_concurrent=256, priority=0),
}


class TooManyAtOnce(Limited):
    """The caller's own requests under way are at the plan's limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You have {limit} requests under way, which is your plan's limit. "
            "Wait for one to end.",
            retry_after=1,
        )


class ProRequired(Forbidden):
    """The model is one of those that only PRO users may run."""

    def __init__(self, pricing_url: str) -> None:
        super().__init__(
            f"Model requires a Pro subscription; check out {pricing_url} to learn more. "
            "Make sure to include your HF token in your query."
        )


@dataclass(eq=False)
class Admission:
    """Lets requests in, and counts those under way in this worker.

    Args:
        pro_models: Repository ids that only PRO and enterprise users may run, in lower case.
    """

    pro_models: Collection[str] = ()
    limits: Mapping[Plan, PlanLimits] = field(default_factory=lambda: DEFAULT_LIMITS)
    anonymous: PlanLimits = ANONYMOUS_LIMITS
    _under_way: Counter[str] = field(default_factory=Counter)

    def limits_of(self, actor: Actor) -> PlanLimits:
        return self.anonymous if actor.user is None else self.limits[actor.user.plan]

    def require_plan(self, actor: Actor, repo_id: RepoId, pricing_url: str) -> None:
        """Return if the caller's plan may run this model at all.

        Raises:
            ProRequired: It may not.
        """
        if str(repo_id).casefold() not in self.pro_models:
            return
        if actor.user is None or actor.user.plan is Plan.FREE:
            raise ProRequired(pricing_url)

    @asynccontextmanager
    async def slot(self, actor: Actor, address: str) -> AsyncIterator[PlanLimits]:
        """Count a request while it runs. Anonymous callers are told apart by address.

        Raises:
            TooManyAtOnce: The caller has enough under way.
        """
        limits = self.limits_of(actor)
        caller = f"address {address}" if actor.user is None else f"user {actor.user.id}"
        if self._under_way[caller] >= limits.num_concurrent:
            raise TooManyAtOnce(limits.num_concurrent)
        self._under_way[caller] += 1
        try:
            yield limits
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]
