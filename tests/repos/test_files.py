"""What a repository holds at a commit, as clients see it."""

import pytest
from factories import Hub, Person
from pygit2 import Oid

from gatehouse.repos.repository import Repository
from gatehouse.storage.git.errors import EntryNotFound


@pytest.fixture
def olivia(hub: Hub) -> Person:
    return hub.make_user("olivia")


def with_submodule(hub: Hub, repository: Repository) -> str:
    """A commit that names a submodule, as only git can make it."""
    git = hub.services.repositories.git(repository)
    raw = git._repository
    builder = raw.TreeBuilder(raw[hub.head(repository)].tree)
    builder.insert("module", Oid(hex="1" * 40), 0o160000)
    link = raw.create_blob(b"a.txt")
    builder.insert("link", link, 0o120000)
    head = raw[hub.head(repository)]
    oid = raw.create_commit(
        None, head.author, head.author, "a submodule", builder.write(), [head.id]
    )
    git.update_ref("refs/heads/main", str(oid), str(head.id))
    return str(oid)


def test_a_submodule_is_listed_and_has_no_bytes(hub: Hub, olivia: Person) -> None:
    repository = hub.make_repo(olivia, "model", files={"a.txt": b"a"})
    commit_oid = with_submodule(hub, repository)
    files = hub.services.files
    assert {file.path for file in files.tree(repository, commit_oid)} >= {"module", "link", "a.txt"}
    with pytest.raises(EntryNotFound):
        files.file(repository, commit_oid, "module")
    assert files.read_small(repository, commit_oid, "module", 100) is None
    assert files.read(repository, files.file(repository, commit_oid, "link")) == b"a.txt"
    assert hub.client.get("/api/models/olivia/model").status_code == 200


def test_absent_paths_are_not_kept_however_long_they_are(hub: Hub, olivia: Person) -> None:
    """The cache holds many entries; their keys come from strangers."""
    repository = hub.make_repo(olivia, "model", files={"a.txt": b"a"})
    files = hub.services.files
    before = files._cached_entry.cache_info().currsize
    for number in range(10):
        assert files.paths(repository, hub.head(repository), ["x" * 5000 + str(number)]) == []
    assert files._cached_entry.cache_info().currsize == before


def test_a_path_is_looked_for_as_a_whole(hub: Hub, olivia: Person) -> None:
    repository = hub.make_repo(olivia, "model", files={"folder/a.txt": b"a"})
    commit_oid = hub.head(repository)
    for path in ("", "/", "folder", "folder/", "/folder/a.txt", "folder/a.txt/", "a.txt", "a\0"):
        with pytest.raises(EntryNotFound):
            hub.services.files.file(repository, commit_oid, path)
