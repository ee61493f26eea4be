from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import Hub

from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.identity.actors import ANONYMOUS
from gatehouse.identity.plans import (
    DEFAULT_PLANS,
    LimitInvalid,
    PlanName,
    Plans,
    default_plans,
)
from gatehouse.observability.audit import OPERATOR, AuditTrail


@pytest.fixture
def other_worker(hub: Hub) -> Iterator[Plans]:
    """The same plans as another process has them; its memory is short."""
    database = Database(hub.settings.resolved_database_url())
    yield Plans(database, hub.clock, max_age_seconds=0.0)
    database.dispose()


def test_nothing_set_is_the_default(hub: Hub) -> None:
    assert hub.services.plans.all() == DEFAULT_PLANS
    assert hub.services.plans.limits_of(ANONYMOUS) == DEFAULT_PLANS[PlanName.ANONYMOUS]


def test_settings_are_defaults(tmp_path: Path) -> None:
    plans = default_plans(Settings(data_dir=tmp_path, pro_requests_per_hour=7))
    assert plans[PlanName.PRO].requests_per_hour == 7
    assert plans[PlanName.FREE] == DEFAULT_PLANS[PlanName.FREE]


def test_another_worker_sees_what_was_set(hub: Hub, other_worker: Plans) -> None:
    before = other_worker.all()[PlanName.FREE]
    changes = {"num_concurrent": 3, "tokens_per_day": None}
    here = hub.services.plans.set(PlanName.FREE, changes, by=OPERATOR)
    assert (here.num_concurrent, here.tokens_per_day) == (3, None)
    assert here.max_new_tokens == before.max_new_tokens
    assert other_worker.all()[PlanName.FREE] == here
    assert other_worker.all()[PlanName.PRO] == DEFAULT_PLANS[PlanName.PRO]


def test_a_plan_can_be_reset(hub: Hub, other_worker: Plans) -> None:
    other_worker.set(PlanName.FREE, {"priority": 9}, by=OPERATOR)
    hub.services.plans.reset(PlanName.FREE, by=OPERATOR)
    assert other_worker.all() == DEFAULT_PLANS


@pytest.mark.parametrize(
    "changes",
    [
        {"num_concurrent": 0},
        {"requests_per_hour": -1},
        {"requests_per_hour": None},
        {"max_new_tokens": 2**63},
        {"colour": 1},
    ],
)
def test_values_that_no_limit_can_have_are_refused(
    hub: Hub, changes: dict[str, int | None]
) -> None:
    with pytest.raises(LimitInvalid):
        hub.services.plans.set(PlanName.FREE, {"priority": 5} | changes, by=OPERATOR)
    assert hub.services.plans.all() == DEFAULT_PLANS


def test_changes_are_in_the_audit_trail(hub: Hub) -> None:
    hub.services.plans.set(PlanName.PRO, {"tokens_per_day": None, "priority": 0}, by=OPERATOR)
    (entry,) = AuditTrail(hub.database).recent(1)
    assert (entry.action, entry.subject) == ("plan.set", "pro")
    assert entry.detail == {"tokens_per_day": "none", "priority": 0}
