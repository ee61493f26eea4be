"""Plans: what a caller may ask of models. Defaults, and over them what an administrator set."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import delete, select

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Invalid
from gatehouse.core.remembered import Remembered
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor, Plan
from gatehouse.identity.tables import PlanLimitRow
from gatehouse.observability.audit import AuditedActor, record

_LARGEST = 2**53


class PlanName(StrEnum):
    """A user's plan, or that of those who have not signed in."""

    ANONYMOUS = "anonymous"
    FREE = Plan.FREE.value
    PRO = Plan.PRO.value
    ENTERPRISE = Plan.ENTERPRISE.value

    @property
    def is_paying(self) -> bool:
        return self in (PlanName.PRO, PlanName.ENTERPRISE)


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """One plan's limits, for each of its callers. None is "without limit".

    Attributes:
        requests_per_hour: In a window that opens with its first request.
        tokens_per_day: Generated tokens, in a window of a day.
        num_concurrent: Requests under way at once.
        max_new_tokens: Of one request.
        priority: Waiting requests of a lower number go first.
        largest_model_bytes: Weights of the largest model they may run.
    """

    requests_per_hour: int
    tokens_per_day: int | None
    num_concurrent: int
    max_new_tokens: int
    priority: int
    largest_model_bytes: int | None


DEFAULT_PLANS: Mapping[PlanName, PlanLimits] = {
    PlanName.ANONYMOUS: PlanLimits(
        requests_per_hour=60,
        tokens_per_day=50_000,
        num_concurrent=8,
        max_new_tokens=512,
        priority=3,
        largest_model_bytes=10 * 10**9,
    ),
    PlanName.FREE: PlanLimits(
        requests_per_hour=300,
        tokens_per_day=500_000,
        num_concurrent=16,
        max_new_tokens=2048,
        priority=2,
        largest_model_bytes=10 * 10**9,
    ),
    PlanName.PRO: PlanLimits(
        requests_per_hour=6000,
        tokens_per_day=20_000_000,
        num_concurrent=64,
        max_new_tokens=16384,
        priority=1,
        largest_model_bytes=None,
    ),
    PlanName.ENTERPRISE: PlanLimits(
        requests_per_hour=60000,
        tokens_per_day=None,
        num_concurrent=256,
        max_new_tokens=65536,
        priority=0,
        largest_model_bytes=None,
    ),
}


def default_plans(settings: Settings) -> dict[PlanName, PlanLimits]:
    """What plans allow where an administrator has set nothing."""
    requests_per_hour = {
        PlanName.ANONYMOUS: settings.anonymous_requests_per_hour,
        PlanName.FREE: settings.free_requests_per_hour,
        PlanName.PRO: settings.pro_requests_per_hour,
        PlanName.ENTERPRISE: settings.enterprise_requests_per_hour,
    }
    return {
        plan: replace(limits, requests_per_hour=requests_per_hour[plan])
        for plan, limits in DEFAULT_PLANS.items()
    }


# The least value of each limit; those in the second may be None.
_LEAST = {
    "requests_per_hour": 0,
    "tokens_per_day": 0,
    "num_concurrent": 1,
    "max_new_tokens": 1,
    "priority": 0,
    "largest_model_bytes": 0,
}
_MAY_BE_UNLIMITED = frozenset({"tokens_per_day", "largest_model_bytes"})


class LimitInvalid(Invalid):
    """A value that a limit cannot have."""


class Plans:
    """What each plan allows. Changes are seen by every worker within a few seconds.

    Args:
        database: Where changes are kept.
        clock: Dates the audit trail.
        defaults: What holds where nothing was set.
        max_age_seconds: How long another process's change may go unseen.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        defaults: Mapping[PlanName, PlanLimits] = DEFAULT_PLANS,
        max_age_seconds: float = 2.0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._defaults = defaults
        self._plans = Remembered(self._load, max_age_seconds)

    def all(self) -> Mapping[PlanName, PlanLimits]:
        return self._plans.get()

    def limits_of(self, actor: Actor) -> PlanLimits:
        return self._plans.get()[plan_of(actor)]

    def set(
        self, plan: PlanName, changes: Mapping[str, int | None], *, by: AuditedActor
    ) -> PlanLimits:
        """Set some limits of a plan, by the names that `PlanLimits` gives them.

        Raises:
            LimitInvalid: There is no such limit, or it cannot have that value.
        """
        for name, value in changes.items():
            _check(name, value)
        with self._database.write() as session:
            for name, value in changes.items():
                session.merge(PlanLimitRow(plan=plan.value, name=name, value=value))
            record(session, self._clock.now(), by, "plan.set", plan.value, _told(changes))
        self._plans.forget()
        return self._plans.get()[plan]

    def reset(self, plan: PlanName, *, by: AuditedActor) -> PlanLimits:
        """Give a plan its default limits back."""
        with self._database.write() as session:
            session.execute(delete(PlanLimitRow).where(PlanLimitRow.plan == plan.value))
            record(session, self._clock.now(), by, "plan.reset", plan.value)
        self._plans.forget()
        return self._plans.get()[plan]

    def _load(self) -> Mapping[PlanName, PlanLimits]:
        plans = dict(self._defaults)
        with self._database.read() as session:
            rows = session.execute(
                select(PlanLimitRow.plan, PlanLimitRow.name, PlanLimitRow.value)
            ).all()
        known_plans = {plan.value for plan in PlanName}
        for row in rows:
            # A newer Gatehouse may have set what this one does not know.
            if row.plan in known_plans and row.name in _LEAST:
                plan = PlanName(row.plan)
                plans[plan] = replace(plans[plan], **{row.name: row.value})
        return plans


def plan_of(actor: Actor) -> PlanName:
    return PlanName.ANONYMOUS if actor.user is None else PlanName(actor.user.plan.value)


def _check(name: str, value: int | None) -> None:
    if name not in _LEAST:
        raise LimitInvalid(f"There is no limit `{name}`: there are {', '.join(_LEAST)}.")
    if value is None:
        if name not in _MAY_BE_UNLIMITED:
            raise LimitInvalid(f"`{name}` must be a number.")
    elif not _LEAST[name] <= value <= _LARGEST:
        raise LimitInvalid(f"`{name}` must be {_LEAST[name]} to {_LARGEST}. Given: {value}")


def _told(changes: Mapping[str, int | None]) -> dict[str, int | str]:
    return {name: "none" if value is None else value for name, value in changes.items()}
