"""What is remembered of models, and that it is never what was so before."""

import json
from pathlib import Path

import pytest
from factories import Hub, Person

from gatehouse.core.clock import FakeClock
from gatehouse.db.engine import Database
from gatehouse.engines.base import EngineOptions, RunnerName, WeightFormat
from gatehouse.engines.remote.base import RemoteAbilities, RemoteKind
from gatehouse.inference.lifecycle.messages import ModelSource
from gatehouse.inference.lifecycle.model_options import ModelOptions
from gatehouse.inference.remote.registrations import RemoteEngines, RemoteServer
from gatehouse.inference.remote.sealing import Seal
from gatehouse.repos.commits import AddFile
from gatehouse.repos.repository import Repository

FILES = {"config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()}
NO_WEIGHTS = {"model.safetensors": b"\x02\0\0\0\0\0\0\0{}"}


@pytest.fixture
def olivia(hub: Hub) -> Person:
    return hub.make_user("olivia")


@pytest.fixture
def model(hub: Hub, olivia: Person) -> Repository:
    return hub.make_repo(olivia, "model", files=FILES, large_files=NO_WEIGHTS)


def test_source_is_remembered_until_its_branch_moves(
    hub: Hub, olivia: Person, model: Repository
) -> None:
    sources = hub.services.model_sources
    assert sources.remembered(model, "main") is None
    first = sources.at(model, "main")
    assert sources.remembered(model, "main") == first
    commit_oid = hub.commit(olivia, model, [AddFile("README.md", b"# New\n")])
    assert sources.remembered(model, "main") is None
    assert sources.at(model, "main").version == f"{model.storage_id}:{commit_oid}"


def test_host_of_a_model_stays_until_its_files_or_its_task_change(
    hub: Hub, olivia: Person, model: Repository
) -> None:
    sources = hub.services.model_sources

    def after(path: str, content: bytes) -> ModelSource:
        hub.commit(olivia, model, [AddFile(path, content)])
        return sources.at(model, "main")

    first = sources.at(model, "main")
    described = after("README.md", b"# New\n")
    assert (described.key, described.folder) == (first.key, first.folder)
    assert described.version != first.version
    vectors = after("README.md", b"---\npipeline_tag: feature-extraction\n---\n")
    assert vectors.key != first.key
    other = after("config.json", b'{"architectures": ["BertModel"]}')
    assert other.key not in (first.key, vectors.key)
    # Back to what was there: the host of then would do.
    assert after("README.md", b"# Old\n").key != first.key
    assert after("config.json", FILES["config.json"]).key == first.key


def test_folder_that_was_deleted_is_made_anew(hub: Hub, model: Repository) -> None:
    sources = hub.services.model_sources
    source = sources.at(model, "main")
    hub.services.model_folders.remove(model.storage_id)
    assert sources.remembered(model, "main") is None
    assert sources.at(model, "main") == source
    assert sources.remembered(model, "main") == source


def test_host_that_makes_something_of_the_weights_is_told_where_to_keep_it(
    hub: Hub, olivia: Person, model: Repository
) -> None:
    services = hub.services
    assert services.model_sources.at(model, "main").options.copies_folder is None
    options = EngineOptions(RunnerName.OPENVINO, weight_format=WeightFormat.INT8)
    model_options = ModelOptions(services.database, services.clock)
    model_options.set(model, options, by=olivia.actor)
    source = services.model_sources.at(model, "main")
    assert source.options.copies_folder is not None
    copies = Path(source.options.copies_folder)
    assert not copies.exists()
    assert copies.parent == Path(source.folder).parent
    copies.mkdir()
    assert services.model_sources.at(model, "main") == source
    services.model_folders.remove(model.storage_id)
    assert not copies.exists()


def test_server_that_another_process_registered_is_known_at_once(
    hub: Hub, olivia: Person, model: Repository
) -> None:
    engines = hub.services.remote_engines
    assert not engines.is_known_to_be_without(model)
    assert engines.find(model) is None
    assert engines.is_known_to_be_without(model)
    elsewhere = Database(hub.settings.resolved_database_url())
    server = RemoteServer(
        url="http://127.0.0.1:9/v1",
        kind=RemoteKind.OPENAI,
        model_name="m",
        context_length=100,
        abilities=RemoteAbilities(),
    )
    RemoteEngines(elsewhere, Seal(b"x" * 32), FakeClock()).add(model, server, olivia.actor)
    elsewhere.dispose()
    assert not engines.is_known_to_be_without(model)
    assert engines.find(model) is not None
