"""Plans at the door of the model hosts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from factories import Hub, Person

from gatehouse.db.engine import Database
from gatehouse.identity.actors import ANONYMOUS, Actor, Plan
from gatehouse.identity.plans import PlanName
from gatehouse.identity.rate_limits import RateLimited
from gatehouse.inference.errors import HostLost, ModelLoading
from gatehouse.inference.meter import Meter
from gatehouse.inference.plans.admission import (
    Admission,
    AnonymousRefused,
    Caller,
    NotBillable,
    ProRequired,
    TooLargeForPlan,
    billed_organization,
)
from gatehouse.observability.audit import OPERATOR
from gatehouse.repos.repository import Repository
from gatehouse.server.services import build_services

PRICING = "https://hub.example/pricing"


@pytest.fixture
def admission(hub: Hub) -> Iterator[Admission]:
    yield hub.services.admission
    hub.services.ledger.close()


@pytest.fixture
def owner(hub: Hub) -> Person:
    return hub.make_user("olga")


@pytest.fixture
def repository(hub: Hub, owner: Person) -> Repository:
    return hub.make_repo(owner, "small")


def on_plan(hub: Hub, person: Person, plan: Plan) -> Caller:
    user = hub.services.users.set_plan(person.user.id, plan, by=OPERATOR)
    return Caller(Actor(user), "10.0.0.1", PRICING)


def stranger(address: str = "10.0.0.1") -> Caller:
    return Caller(ANONYMOUS, address, PRICING)


def meter(num_generated_tokens: int = 0) -> Meter:
    return Meter(num_generated_tokens=num_generated_tokens)


def test_curated_models_are_for_paying_users(
    hub: Hub, admission: Admission, owner: Person, repository: Repository
) -> None:
    hub.services.pro_models.add(repository, by=OPERATOR)
    for caller in (stranger(), on_plan(hub, owner, Plan.FREE)):
        with pytest.raises(ProRequired, match=r"^Model requires a Pro subscription; check out"):
            admission.admit(caller, repository, num_new_tokens=1)
    for plan in (Plan.PRO, Plan.ENTERPRISE):
        admission.admit(on_plan(hub, owner, plan), repository, num_new_tokens=1)
    admission.admit(stranger(), hub.make_repo(owner, "other"), num_new_tokens=1)


def test_another_name_does_not_open_a_curated_model(
    hub: Hub, admission: Admission, owner: Person, repository: Repository
) -> None:
    hub.services.pro_models.add(repository, by=OPERATOR)
    target = replace(repository.repo_id, name="harmless")
    moved = hub.services.repositories.move(owner.actor, repository, target)
    with pytest.raises(ProRequired):
        admission.admit(stranger(), moved, num_new_tokens=1)
    hub.services.pro_models.remove(moved, by=OPERATOR)
    admission.admit(stranger(), moved, num_new_tokens=1)


def test_better_plans_go_first_and_may_ask_for_more(hub: Hub, owner: Person) -> None:
    admission = hub.services.admission
    ladder = [admission.limits_of(ANONYMOUS)]
    ladder += [
        admission.limits_of(on_plan(hub, owner, plan).actor)
        for plan in (Plan.FREE, Plan.PRO, Plan.ENTERPRISE)
    ]
    assert ladder == sorted(ladder, key=lambda limits: limits.max_new_tokens)
    assert ladder == sorted(ladder, key=lambda limits: -limits.priority)


def test_large_models_are_not_for_small_plans(hub: Hub, owner: Person) -> None:
    admission = hub.services.admission
    hub.services.plans.set(PlanName.FREE, {"largest_model_bytes": 10**9}, by=OPERATOR)
    free = on_plan(hub, owner, Plan.FREE)
    admission.require_size(free, "olga/small", 10**9)
    with pytest.raises(
        TooLargeForPlan,
        match=r"The model olga/big is too large to be loaded automatically \(2GB > 1GB\)",
    ):
        admission.require_size(free, "olga/big", 2 * 10**9)
    admission.require_size(on_plan(hub, owner, Plan.PRO), "olga/big", 2 * 10**12)


def test_strangers_may_be_kept_out(hub: Hub, owner: Person, repository: Repository) -> None:
    services = hub.services
    admission = Admission(
        services.plans,
        services.pro_models,
        services.admission._rate_limits,
        services.ledger,
        hub.clock,
        allow_anonymous=False,
    )
    with pytest.raises(AnonymousRefused):
        admission.admit(stranger(), repository, num_new_tokens=1)
    admission.admit(on_plan(hub, owner, Plan.FREE), repository, num_new_tokens=1)


def test_a_loading_model_costs_nothing_and_a_broken_one_what_it_gave(
    hub: Hub, admission: Admission, owner: Person, repository: Repository
) -> None:
    caller = on_plan(hub, owner, Plan.FREE)
    hub.services.plans.set(
        PlanName.FREE, {"requests_per_hour": 2, "tokens_per_day": 100}, by=OPERATOR
    )
    for _ in range(3):
        admitted = admission.admit(caller, repository, num_new_tokens=100)
        admission.end(admitted, meter(), ModelLoading("olga/small", 1.0))
        hub.services.ledger.flush()
    admitted = admission.admit(caller, repository, num_new_tokens=100)
    admission.end(admitted, meter(30), HostLost())
    hub.services.ledger.flush()
    admitted = admission.admit(caller, repository, num_new_tokens=70)
    admission.end(admitted, meter(70))
    with pytest.raises(RateLimited):
        admission.admit(caller, repository, num_new_tokens=1)
    hub.services.ledger.flush()
    (line,) = hub.services.usage.lines()
    assert (line.figures.num_requests, line.figures.num_generated_tokens) == (2, 100)


def test_a_call_that_never_ended_counts_whole(
    hub: Hub, admission: Admission, owner: Person, repository: Repository
) -> None:
    caller = on_plan(hub, owner, Plan.FREE)
    hub.services.plans.set(PlanName.FREE, {"tokens_per_day": 100}, by=OPERATOR)
    admission.admit(caller, repository, num_new_tokens=60)
    with pytest.raises(RateLimited):
        admission.admit(caller, repository, num_new_tokens=60)


def test_only_members_may_have_an_organization_billed(hub: Hub, owner: Person) -> None:
    hub.make_organization("acme", owner)
    member, other = hub.reload(owner).actor, hub.make_user("bob").actor
    acme = hub.services.organizations.by_name("acme")
    assert billed_organization(member, "ACME") == acme.id
    assert billed_organization(member, None) == 0
    for actor, name in ((other, "acme"), (ANONYMOUS, "acme"), (member, "nobody"), (member, "")):
        with pytest.raises(NotBillable):
            billed_organization(actor, name)


def test_a_burst_over_two_workers_takes_what_is_there_and_no_more(
    hub: Hub, owner: Person, repository: Repository
) -> None:
    caller = on_plan(hub, owner, Plan.FREE)
    limits: dict[str, int | None] = {"requests_per_hour": 50, "tokens_per_day": 400}
    hub.services.plans.set(PlanName.FREE, limits, by=OPERATOR)
    database = Database(hub.settings.resolved_database_url())
    workers = [hub.services, build_services(hub.settings, database, hub.clock)]

    def call(number: int) -> bool:
        """Reserve twenty tokens, generate ten."""
        admission = workers[number % 2].admission
        try:
            admitted = admission.admit(caller, repository, num_new_tokens=20)
        except RateLimited:
            return False
        admission.end(admitted, meter(10))
        return True

    with ThreadPoolExecutor(16) as threads:
        num_served = sum(threads.map(call, range(160)))
    # A call is refused while others may still generate what they reserved: never more than forty.
    assert 20 <= num_served <= 40
    for worker in workers:
        worker.ledger.close()
    (line,) = hub.services.usage.lines()
    assert line.figures.num_generated_tokens == 10 * num_served <= 400
    standing = hub.services.admission.standing(caller)
    assert standing.remaining == 50 - num_served
    workers[1].response_cache.close()
    database.dispose()
