"""Commits: what they may hold, what they keep consistent, and who wins a race."""

import threading

import pytest
from factories import Hub, Person, sha256_of

from gatehouse.core.errors import GatehouseError, Invalid, TooLarge
from gatehouse.repos.commits import (
    AddFile,
    AddLargeFile,
    CommitHeader,
    DeleteDirectory,
    DeleteFile,
    Operation,
    ParentMoved,
)
from gatehouse.repos.large_files import ObjectNotHeld
from gatehouse.repos.lfs_rules import LfsRules
from gatehouse.repos.repository import Gate, Repository
from gatehouse.storage.git.errors import EntryNotFound, RevisionNotFound


@pytest.fixture
def olivia(hub: Hub) -> Person:
    return hub.make_user("olivia")


@pytest.fixture
def repository(hub: Hub, olivia: Person) -> Repository:
    return hub.make_repo(olivia, "model", files={"a.txt": b"a", "folder/b.txt": b"b"})


def paths(hub: Hub, repository: Repository) -> set[str]:
    files = hub.services.files.tree(repository, hub.head(repository), recursive=True)
    return {file.path for file in files if not file.is_directory}


def attributes(hub: Hub, repository: Repository) -> bytes:
    commit_oid = hub.head(repository)
    data = hub.services.files.read_small(repository, commit_oid, ".gitattributes", 1 << 20)
    return data or b""


def test_files_are_added_replaced_and_deleted_in_one_commit(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    hub.commit(
        olivia,
        repository,
        [
            AddFile("a.txt", b"changed"),
            AddFile("new/c.txt", b"c"),
            DeleteDirectory("folder/"),
        ],
    )
    assert paths(hub, repository) == {".gitattributes", "a.txt", "new/c.txt"}


def test_a_commit_that_changes_nothing_is_the_old_head(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    head = hub.head(repository)
    assert hub.commit(olivia, repository, [AddFile("a.txt", b"a")]) == head
    assert hub.commit(olivia, repository, []) == head


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (DeleteFile("absent"), EntryNotFound),
        (DeleteDirectory("absent/"), EntryNotFound),
        (DeleteFile("folder"), EntryNotFound),
        (AddFile("../up", b""), Invalid),
        (AddFile("/root", b""), Invalid),
        (AddFile(".git/config", b""), Invalid),
        (AddFile("a.txt/below", b""), Invalid),
        (AddFile("folder", b""), Invalid),
        (AddFile("", b""), Invalid),
        (AddFile("nul\0", b""), Invalid),
        (AddFile("half \ud800", b""), Invalid),
        (AddFile("big", b"x" * (10 * 1024 * 1024 + 1)), TooLarge),
        (AddLargeFile("w.bin", "0" * 64, 5), ObjectNotHeld),
    ],
)
def test_a_commit_with_one_wrong_operation_changes_nothing(
    hub: Hub,
    olivia: Person,
    repository: Repository,
    operation: Operation,
    error: type[GatehouseError],
) -> None:
    before = hub.state()
    with pytest.raises(error):
        hub.commit(olivia, repository, [AddFile("fine.txt", b"fine"), operation])
    assert hub.state() == before


@pytest.mark.parametrize("header", [CommitHeader(""), CommitHeader("  "), CommitHeader("x" * 1001)])
def test_a_commit_needs_a_summary(
    hub: Hub, olivia: Person, repository: Repository, header: CommitHeader
) -> None:
    with pytest.raises(Invalid):
        hub.services.commits.create(olivia.actor, repository, "main", header, [])


@pytest.mark.parametrize("branch", ["absent", "", "refs/pr/1", "../../HEAD", "a..b", "\0", "main/"])
def test_a_commit_goes_to_a_branch_that_exists(
    hub: Hub, olivia: Person, repository: Repository, branch: str
) -> None:
    before = hub.state()
    with pytest.raises(RevisionNotFound):
        hub.services.commits.create(
            olivia.actor, repository, branch, CommitHeader("x"), [AddFile("x", b"x")]
        )
    assert hub.state() == before


def test_a_commit_on_an_old_parent_is_refused(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    old = hub.head(repository)
    hub.commit(olivia, repository, [AddFile("other.txt", b"first")])
    before = hub.state()
    with pytest.raises(ParentMoved):
        hub.services.commits.create(
            olivia.actor,
            repository,
            "main",
            CommitHeader("late", parent_oid=old),
            [AddFile("a.txt", b"late")],
        )
    assert hub.state() == before


def test_commits_at_the_same_time_all_arrive(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    """None says it was made and is lost."""
    made: list[str] = []
    refused: list[GatehouseError] = []

    def commit(number: int) -> None:
        try:
            hub.commit(olivia, repository, [AddFile(f"file-{number}.txt", b"x")])
        except GatehouseError as error:
            refused.append(error)
        else:
            made.append(f"file-{number}.txt")

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made
    assert set(made) <= paths(hub, repository)
    assert len(made) + len(refused) == 6


def test_a_large_file_without_a_rule_gets_one(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    sha256 = hub.put_object(repository, b"x" * 100)
    hub.commit(olivia, repository, [AddLargeFile("some weights", sha256, 100)])
    rules = LfsRules(attributes(hub, repository))
    assert rules.is_lfs("some weights")
    assert not rules.is_lfs("some-weights")


def test_a_rule_is_added_once_and_the_rest_of_the_file_is_kept(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    own = b"*.txt text\n# \xff\xfe latin-1 \xe9\n*.dat -filter"
    sha256 = hub.put_object(repository, b"x" * 100)
    hub.commit(olivia, repository, [AddFile(".gitattributes", own)])
    hub.commit(olivia, repository, [AddLargeFile("w.dat", sha256, 100)])
    hub.commit(olivia, repository, [AddLargeFile("w.dat", sha256, 100), AddFile("n", b"n")])
    text = attributes(hub, repository)
    assert text.startswith(own + b"\n/w.dat filter=lfs")
    assert text.count(b"w.dat") == 1


def test_a_large_file_keeps_its_rule_when_the_attributes_are_deleted_with_it(
    hub: Hub, olivia: Person, repository: Repository
) -> None:
    """Otherwise git would check the pointer out as if it were the file."""
    sha256 = hub.put_object(repository, b"x" * 100)
    hub.commit(
        olivia,
        repository,
        [DeleteFile(".gitattributes"), AddLargeFile("w.safetensors", sha256, 100)],
    )
    assert LfsRules(attributes(hub, repository)).is_lfs("w.safetensors")


def test_a_pointer_sent_as_text_gives_nobody_the_bytes(hub: Hub, olivia: Person) -> None:
    """Knowing a hash is not access."""
    mallory = hub.make_user("mallory")
    secret = b"secret weights" * 10
    hub.make_repo(olivia, "secret", private=True, large_files={"w.safetensors": secret})
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
        sha256_of(secret).encode(),
        len(secret),
    )
    mine = hub.make_repo(mallory, "mine", files={"w.safetensors": pointer})
    file = hub.services.files.file(mine, hub.head(mine), "w.safetensors")
    assert file.pointer is None
    assert hub.services.files.read(mine, file) == pointer
    assert hub.services.files.local_path(file) is None


def test_a_large_file_may_be_named_by_who_uploaded_it_or_can_read_it(
    hub: Hub, olivia: Person
) -> None:
    mallory = hub.make_user("mallory")
    content = b"weights" * 100
    operation = AddLargeFile("w.safetensors", sha256_of(content), len(content))
    mine = hub.make_repo(mallory, "mine")
    with pytest.raises(ObjectNotHeld):
        hub.commit(mallory, mine, [operation])
    hub.make_repo(olivia, "private", private=True, large_files={"w.safetensors": content})
    gated = hub.make_repo(olivia, "gated", gate=Gate.MANUAL, large_files={"w.safetensors": content})
    with pytest.raises(ObjectNotHeld):
        hub.commit(mallory, mine, [operation])
    hub.accept(olivia, gated, mallory)
    hub.commit(mallory, mine, [operation])
    file = hub.services.files.file(mine, hub.head(mine), "w.safetensors")
    assert file.size == len(content)


def test_a_wrong_size_is_refused(hub: Hub, olivia: Person, repository: Repository) -> None:
    sha256 = hub.put_object(repository, b"x" * 100)
    with pytest.raises(ObjectNotHeld):
        hub.commit(olivia, repository, [AddLargeFile("w.bin", sha256, 99)])


def test_an_object_that_very_many_hold_is_found_at_ones_own(hub: Hub, olivia: Person) -> None:
    """More repositories hold it than are asked one by one."""
    mallory = hub.make_user("mallory")
    content = b"a base model that everybody copies"
    for number in range(60):
        copy = hub.make_repo(mallory, f"copy-{number}", private=True)
        hub.put_object(copy, content)
    own = hub.make_repo(olivia, "own", private=True)
    sha256 = hub.put_object(own, content)
    other = hub.make_repo(olivia, "other")
    assert hub.services.large_files.claim(olivia.actor, other, sha256) == len(content)
