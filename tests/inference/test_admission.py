"""Plans at the door of the model hosts."""

import pytest

from gatehouse.core.ids import RepoId
from gatehouse.identity.actors import ANONYMOUS, Actor, Plan, User
from gatehouse.inference.admission import Admission, PlanLimits, ProRequired, TooManyAtOnce

pytestmark = pytest.mark.anyio

REPO = RepoId("Meta", "Big")


def actor(plan: Plan, number: int = 1) -> Actor:
    return Actor(User(number, "u", "u@example.org", "U", plan, is_admin=False))


def test_curated_models_are_for_paying_users() -> None:
    admission = Admission(pro_models={"meta/big"})
    for caller in (ANONYMOUS, actor(Plan.FREE)):
        with pytest.raises(ProRequired, match="Model requires a Pro subscription"):
            admission.require_plan(caller, REPO, "https://hub.example/pricing")
    for plan in (Plan.PRO, Plan.ENTERPRISE):
        admission.require_plan(actor(plan), REPO, "")
    admission.require_plan(ANONYMOUS, RepoId("meta", "small"), "")


def test_better_plans_go_first_and_may_ask_for_more() -> None:
    admission = Admission()
    ladder = [admission.limits_of(ANONYMOUS)]
    ladder += [admission.limits_of(actor(plan)) for plan in (Plan.FREE, Plan.PRO, Plan.ENTERPRISE)]
    assert ladder == sorted(ladder, key=lambda limits: limits.max_new_tokens)
    assert ladder == sorted(ladder, key=lambda limits: -limits.priority)


async def test_requests_under_way_are_counted_per_caller() -> None:
    admission = Admission(anonymous=PlanLimits(1, num_concurrent=1, priority=0))
    async with admission.slot(ANONYMOUS, "1.1.1.1"):
        with pytest.raises(TooManyAtOnce):
            async with admission.slot(ANONYMOUS, "1.1.1.1"):
                pass
        async with admission.slot(ANONYMOUS, "2.2.2.2"):
            pass
    async with admission.slot(ANONYMOUS, "1.1.1.1"):
        pass
