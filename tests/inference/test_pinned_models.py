"""Pinned models: what the supervisor is told of them, and when."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from factories import Hub, Person

from gatehouse.inference.errors import SupervisorAbsent
from gatehouse.inference.lifecycle.hosts import ModelHosts
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.lifecycle.pin_keeper import PinKeeper
from gatehouse.observability.audit import OPERATOR, AuditTrail
from gatehouse.repos.commits import AddFile
from gatehouse.repos.repository import Repository

pytestmark = pytest.mark.anyio


@dataclass
class ToldHosts(ModelHosts):
    """Remembers what the supervisor would be told."""

    told: list[list[str]] = field(default_factory=list)
    is_absent: bool = False

    def __post_init__(self) -> None:
        super().__init__(Path("unused"))

    async def pin(self, sources: Iterable[ModelSource]) -> None:
        if self.is_absent:
            raise SupervisorAbsent
        self.told.append([source.version for source in sources])


@pytest.fixture
def ada(hub: Hub) -> Person:
    return hub.make_user("ada")


@pytest.fixture
def hosts() -> ToldHosts:
    return ToldHosts()


@pytest.fixture
def keeper(hub: Hub, hosts: ToldHosts) -> PinKeeper:
    services = hub.services
    return PinKeeper(services.pinned_models, services.repositories, services.model_sources, hosts)


def make_model(hub: Hub, owner: Person, name: str) -> Repository:
    weights = {"model.safetensors": name.encode()}
    return hub.make_repo(owner, name, files={"config.json": b"{}"}, large_files=weights)


async def test_pins_follow_their_branch_and_commits_stay(
    hub: Hub, ada: Person, keeper: PinKeeper, hosts: ToldHosts
) -> None:
    model = make_model(hub, ada, "model")
    first = hub.head(model)
    pins = hub.services.pinned_models
    pins.add(model, "main", by=OPERATOR)
    pins.add(model, "main", by=OPERATOR)
    pins.add(model, first, by=OPERATOR)
    await keeper.keep_once()
    second = hub.commit(ada, model, [AddFile("config.json", b'{"a": 1}')])
    await keeper.keep_once()
    assert hosts.told[0] == [f"{model.storage_id}:{first}"]
    assert set(hosts.told[1]) == {f"{model.storage_id}:{oid}" for oid in (first, second)}
    assert pins.remove(model, first, by=OPERATOR)
    assert not pins.remove(model, first, by=OPERATOR)
    await keeper.keep_once()
    assert hosts.told[2] == [f"{model.storage_id}:{second}"]


async def test_pins_of_one_model_under_two_cards_are_one(
    hub: Hub, ada: Person, keeper: PinKeeper, hosts: ToldHosts
) -> None:
    model = make_model(hub, ada, "model")
    for revision in (hub.head(model), "main"):
        hub.services.pinned_models.add(model, revision, by=OPERATOR)
    hub.commit(ada, model, [AddFile("README.md", b"# New\n")])
    await keeper.keep_once()
    assert len(hosts.told[0]) == 1


async def test_pins_that_lead_nowhere_hinder_no_other(
    hub: Hub, ada: Person, keeper: PinKeeper, hosts: ToldHosts
) -> None:
    pins = hub.services.pinned_models
    empty = hub.make_repo(ada, "empty", files={"config.json": b"{}"})
    model, gone = make_model(hub, ada, "model"), make_model(hub, ada, "gone")
    for repository, revision in [(empty, "main"), (gone, "main"), (model, "no"), (model, "main")]:
        pins.add(repository, revision, by=OPERATOR)
    hub.services.repositories.delete(ada.actor, gone)
    await keeper.keep_once()
    assert hosts.told == [[f"{model.storage_id}:{hub.head(model)}"]]
    assert all(pin.repository_id != gone.id for pin in pins.all())


async def test_without_a_supervisor_it_is_tried_again(
    hub: Hub, ada: Person, keeper: PinKeeper, hosts: ToldHosts
) -> None:
    hub.services.pinned_models.add(make_model(hub, ada, "model"), "main", by=OPERATOR)
    hosts.is_absent = True
    await keeper.keep_once()
    hosts.is_absent = False
    await keeper.keep_once()
    assert len(hosts.told) == 1


async def test_pinning_leaves_a_trail(hub: Hub, ada: Person) -> None:
    model = make_model(hub, ada, "model")
    hub.services.pinned_models.add(model, "main", by=OPERATOR)
    hub.services.pinned_models.remove(model, "main", by=OPERATOR)
    entries = AuditTrail(hub.database).recent(2)
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("model.unpin", "ada/model@main"),
        ("model.pin", "ada/model@main"),
    ]
