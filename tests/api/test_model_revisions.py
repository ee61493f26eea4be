"""Several versions of one model at once: named in the address, through the same gate."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from factories import Hub, Person
from starlette.testclient import TestClient

from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions
from gatehouse.repos.commits import AddFile, AddLargeFile, CommitHeader
from gatehouse.repos.repository import Gate

# The makers of tiny models are shared with the tests of the engines.
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from tiny_models import save_tiny_llama

BODY = {"inputs": "the cat", "parameters": {"max_new_tokens": 8, "details": True}}


@dataclass
class Versions:
    """A gated model whose main branch has other weights than its first commit."""

    hub: Hub
    owner: Person
    stranger: Person
    first: str
    second: str

    def run(self, path: str, person: Person | None = None, **headers: str) -> Any:
        """The answer to the same request at one of the model's addresses."""
        given = (person or self.owner).read | headers
        return self.hub.client.post(f"/models/olga/versions{path}", json=BODY, headers=given)


@pytest.fixture(scope="module")
def versions(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path
) -> Iterator[Versions]:
    folder = save_tiny_llama(tmp_path_factory.mktemp("tiny"))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    weights = files.pop("model.safetensors")
    other_weights = weights[: len(weights) // 2] + bytes(len(weights) - len(weights) // 2)
    with TemporaryDirectory(prefix="gh") as sockets:
        path = Path(sockets) / "supervisor"
        options = SupervisorOptions(str(path), 2 * 10**9, idle_seconds=600, num_cores=1)
        hub = Hub(
            tmp_path_factory.mktemp("house"),
            migrated_database,
            own_app=True,
            supervisor_socket=path,
        )
        with (
            SupervisorProcess(options),
            TestClient(hub.app, base_url="http://hub.test", follow_redirects=False) as client,
        ):
            hub.client = client
            owner, stranger = hub.make_user("olga"), hub.make_user("mallory")
            repository = hub.make_repo(
                owner,
                "versions",
                gate=Gate.MANUAL,
                files=files,
                large_files={"model.safetensors": weights},
            )
            first = hub.head(repository)
            sha256 = hub.put_object(repository, other_weights)
            operation = AddLargeFile("model.safetensors", sha256, len(other_weights))
            second = hub.services.commits.create(
                owner.actor, repository, "main", CommitHeader("zero"), [operation]
            )
            git = hub.services.repositories.git(repository)
            git.update_ref("refs/heads/old/one", first, None)
            git.update_ref("refs/tags/v1", first, None)
            yield Versions(hub, owner, stranger, first, second)
        hub.close()


def test_branches_tags_and_commits_name_a_version(versions: Versions) -> None:
    main = versions.run("").json()
    old = versions.run(f"?revision={versions.first}").json()
    assert old != main
    for path in (
        "@v1",
        "?revision=v1",
        "?revision=old/one",
        "@old%2Fone",
        f"@{versions.first}",
    ):
        assert versions.run(path).json() == old, path
    for path in ("@main", f"@{versions.second}", "?revision=main"):
        assert versions.run(path).json() == main, path
    generated = versions.run("@v1/generate").json()["generated_text"]
    assert old[0]["generated_text"].endswith(generated)


def test_cache_knows_versions_by_their_commit(versions: Versions) -> None:
    versions.run("@v1")
    assert versions.run(f"@{versions.first}").headers["x-cache"] == "HIT"
    assert versions.run("@v1").content != versions.run("@main").content


def test_unknown_versions_are_not_found(versions: Versions) -> None:
    for path in ("@nowhere", "?revision=nowhere", f"@{'0' * 40}", "@--upload-pack=x", "@a%00b"):
        answer = versions.run(path)
        assert answer.status_code == 404, path
        assert isinstance(answer.json()["error"], str)


def test_gate_is_asked_whatever_the_version(versions: Versions) -> None:
    for path in ("@v1", "?revision=v1", f"@{versions.first}", "@nowhere"):
        answer = versions.run(path, versions.stranger)
        assert answer.status_code == 403, path
        assert answer.headers["x-error-code"] == "GatedRepo"


def test_model_whose_card_is_edited_stays_in_memory(versions: Versions) -> None:
    before = versions.run("").json()
    hub = versions.hub
    model = hub.services.repositories.by_name(RepoKind.MODEL, RepoId("olga", "versions"))
    hub.commit(versions.owner, model, [AddFile("README.md", b"# Another card\n")])
    only_loaded = versions.owner.read | {"x-load-model": "0"}

    def run() -> Any:
        return hub.client.post("/models/olga/versions", json=BODY, headers=only_loaded)

    answer = run()
    assert answer.status_code == 200
    # The answer is new, since the commit is; its model is not.
    assert answer.headers["x-cache"] == "MISS"
    assert answer.json() == before
    hub.commit(versions.owner, model, [AddFile("special_tokens_map.json", b"{}")])
    assert run().status_code == 503
