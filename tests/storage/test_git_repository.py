"""Files, folders and commits of a repository on disk, judged by the real git program."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from gatehouse.core.errors import Conflict, Invalid, NotFound
from gatehouse.storage.git import trees
from gatehouse.storage.git.errors import (
    EntryNotFound,
    InvalidChange,
    InvalidPath,
    InvalidRef,
    RefMoved,
    RefNameTaken,
    RepositoryUnavailable,
    RevisionNotFound,
    TreeTooLarge,
)
from gatehouse.storage.git.records import (
    Change,
    Delete,
    DeleteFolder,
    EntryKind,
    Put,
    Ref,
    Signature,
)
from gatehouse.storage.git.repository import GitRepository

MAIN = "refs/heads/main"
AUTHOR = Signature("Ada", "ada@example.org", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository.create(tmp_path / "42")


def git(repository: GitRepository, *arguments: str) -> str:
    command = ["git", "-C", str(repository.path), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fsck(repository: GitRepository) -> None:
    command = ["git", "-C", str(repository.path), "fsck", "--strict", "--full", "--no-dangling"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def put(repository: GitRepository, path: str, content: bytes = b"x") -> Put:
    return Put(path, repository.write_blob(content))


def commit(repository: GitRepository, *changes: Change, message: str = "Change") -> str:
    """Commit on top of main and move it."""
    parent = repository.resolve("main")
    oid = repository.commit(parent, changes, message, AUTHOR)
    repository.update_ref(MAIN, oid, parent)
    return oid


def names(repository: GitRepository, oid: str) -> list[str]:
    return [entry.path for entry in repository.tree(oid, recursive=True)]


def test_a_new_repository_is_empty_and_sound(repository: GitRepository) -> None:
    assert repository.resolve("main") is None
    assert repository.resolve("HEAD") is None
    assert repository.refs() == []
    assert (repository.path / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert git(repository, "config", "receive.fsckObjects") == "true\n"
    fsck(repository)


def test_creating_twice_and_opening_nothing_are_refused(
    repository: GitRepository, tmp_path: Path
) -> None:
    with pytest.raises(RepositoryUnavailable):
        GitRepository.create(repository.path)
    with pytest.raises(RepositoryUnavailable):
        GitRepository.open(tmp_path / "absent")
    inside = repository.path / "objects"
    with pytest.raises(RepositoryUnavailable):
        GitRepository.open(inside)


def test_a_commit_is_what_git_sees(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "a/b.txt", b"hello\n"), message="First\n\nBody")
    assert git(repository, "show", "main:a/b.txt") == "hello\n"
    assert git(repository, "log", "-1", "--format=%H|%an|%ae|%aI|%s|%b", "main").strip() == (
        f"{oid}|Ada|ada@example.org|2026-01-02T03:04:05+00:00|First|Body"
    )
    info = repository.commit_info(oid)
    assert (info.title, info.parent_oids, info.authored_at) == ("First", (), AUTHOR.when)
    fsck(repository)


def test_the_time_zone_of_the_author_is_kept(repository: GitRepository) -> None:
    when = datetime(2026, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
    oid = repository.commit(None, [], "m", Signature("A", "a@b", when))
    assert repository.commit_info(oid).authored_at == when
    assert repository.commit_info(oid).authored_at.utcoffset() == when.utcoffset()


def test_entries_tell_kind_size_and_oid(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "dir/f", b"12345"), put(repository, "g", b""))
    entry = repository.entry(oid, "dir/f")
    assert entry is not None
    assert (entry.kind, entry.size, entry.mode) == (EntryKind.FILE, 5, 0o100644)
    assert repository.read_blob(entry.oid) == b"12345"
    assert repository.blob_size(entry.oid) == 5
    folder = repository.entry(oid, "dir")
    assert folder is not None
    assert (folder.kind, folder.size) == (EntryKind.DIRECTORY, 0)
    assert [e.path for e in repository.tree(oid)] == ["dir", "g"]
    assert [e.path for e in repository.tree(oid, "dir")] == ["dir/f"]


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "..", "/f", "f/", "f/x", "d//f", "d/./f", "F", "f\0x", "\ud800", "x" * 9999],
)
def test_a_path_that_is_not_exactly_there_is_absent(repository: GitRepository, path: str) -> None:
    oid = commit(repository, put(repository, "f"), put(repository, "d/f"))
    assert repository.entry(oid, path) is None


def test_a_missing_folder_and_a_file_are_no_folders(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "f"))
    for path in ("absent", "f", "f/x"):
        with pytest.raises(EntryNotFound) as caught:
            repository.tree(oid, path)
        assert caught.value.commit_oid == oid
        assert isinstance(caught.value, NotFound)
        assert caught.value.code == "EntryNotFound"


def test_an_object_that_is_no_commit_is_no_revision(repository: GitRepository) -> None:
    blob = repository.write_blob(b"x")
    for oid in (blob, "0" * 40, "main", ""):
        with pytest.raises(RevisionNotFound):
            repository.tree(oid)
        assert repository.resolve(blob) is None
    with pytest.raises(EntryNotFound):
        repository.read_blob("0" * 40)


def test_symlinks_submodules_and_odd_names_are_listed(repository: GitRepository) -> None:
    blob = repository.write_blob(b"target")
    lines = [
        f"120000 blob {blob}\tlink".encode(),
        f"160000 commit {'1' * 40}\tmodule".encode(),
        f"100755 blob {blob}\trun.sh".encode(),
        f"100644 blob {blob}\t".encode() + b"z\xfc",
    ]
    made = subprocess.run(
        ["git", "-C", str(repository.path), "mktree", "--missing", "-z"],
        input=b"\0".join(lines) + b"\0",
        capture_output=True,
        check=True,
    )
    tree = made.stdout.decode().strip()
    environment = os.environ | {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    made = subprocess.run(
        ["git", "-C", str(repository.path), "commit-tree", tree, "-m", "odd"],
        env=environment,
        capture_output=True,
        check=True,
    )
    oid = made.stdout.decode().strip()
    listed = {entry.path: entry for entry in repository.tree(oid, recursive=True)}
    assert set(listed) == {"link", "module", "run.sh", "z\\xfc"}
    assert (listed["module"].size, listed["link"].size) == (0, 6)
    assert [e.is_regular_file for e in listed.values()].count(True) == 2
    module = repository.entry(oid, "module")
    assert module is not None
    assert module.oid == "1" * 40
    # A commit on top keeps them all, and the executable bit of what it rewrites.
    after = repository.commit(oid, [put(repository, "run.sh", b"new"), Delete("link")], "m", AUTHOR)
    listed = {entry.path: entry for entry in repository.tree(after)}
    assert set(listed) == {"module", "run.sh", "z\\xfc"}
    assert listed["run.sh"].mode == 0o100755


def test_revisions_resolve_to_commits(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"))
    second = commit(repository, put(repository, "b"))
    repository.update_ref("refs/heads/feature/x", first, None)
    repository.update_ref("refs/pr/3", first, None)
    git(
        repository, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "v1", "-m", "m", first
    )
    assert repository.resolve("HEAD") == second
    assert repository.resolve("main") == second
    assert repository.resolve("feature/x") == first
    assert repository.resolve("v1") == first
    assert repository.resolve("refs/tags/v1") == first
    assert repository.resolve("refs/pr/3") == first
    assert repository.resolve(first) == repository.resolve(first.upper()) == first
    assert repository.resolve(first[:7]) == first


@pytest.mark.parametrize(
    "revision",
    ["", "main~1", "main^", "main^{tree}", "main@{0}", "main:a", ":/First", "@", "pr/3",
     "heads/main", "refs/stash", "refs/heads", "refs/heads/", "refs/remotes/x/main", "../HEAD",
     "refs/../HEAD",
     "refs/heads/../heads/main", "main\0", "main/", "/main", "main.lock", "\ud800", "x" * 5000,
     "MAIN", "0" * 40, "0" * 7, "f" * 6, "FETCH_HEAD", "config", "-", "main/x"],
)  # fmt: skip
def test_anything_else_is_no_revision(repository: GitRepository, revision: str) -> None:
    oid = commit(repository, put(repository, "a"))
    git(repository, "update-ref", "refs/stash", oid)
    git(repository, "update-ref", "refs/pr/3", oid)
    assert repository.resolve(revision) is None


def test_six_digits_are_too_few_and_two_commits_too_many(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "a"))
    assert repository.resolve(oid[:6]) is None
    assert repository.resolve(oid[:39]) == oid


def test_a_branch_cannot_stand_in_for_a_commit(repository: GitRepository) -> None:
    pinned = commit(repository, put(repository, "a"))
    other = commit(repository, put(repository, "b"))
    with pytest.raises(InvalidRef):
        repository.update_ref(f"refs/heads/{pinned}", other, None)
    git(repository, "update-ref", f"refs/heads/{pinned}", other)
    assert repository.resolve(pinned) == pinned


def test_deleting_and_putting_in_one_commit(repository: GitRepository) -> None:
    commit(repository, *(put(repository, p) for p in ("a/1", "a/2", "b", "c/d/e", "z")))
    oid = commit(
        repository, put(repository, "a/3"), Delete("b"), DeleteFolder("a/"), Delete("c/d/e")
    )
    assert names(repository, oid) == ["a", "a/3", "z"]
    oid = commit(repository, DeleteFolder("a"), Delete("z"))
    assert names(repository, oid) == []
    fsck(repository)


def test_a_file_becomes_a_folder_and_back_only_when_deleted(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"), put(repository, "d/e/f"))
    for path in ("a/b", "a/b/c", "d", "d/e"):
        with pytest.raises(InvalidChange):
            repository.commit(first, [put(repository, path)], "m", AUTHOR)
    with pytest.raises(InvalidChange):
        repository.commit(first, [put(repository, "n"), put(repository, "n/m")], "m", AUTHOR)
    with pytest.raises(InvalidChange):
        repository.commit(first, [put(repository, "n/m"), put(repository, "n")], "m", AUTHOR)
    oid = commit(
        repository, put(repository, "a/b"), Delete("a"), put(repository, "d"), Delete("d/e/f")
    )
    assert names(repository, oid) == ["a", "a/b", "d"]
    fsck(repository)


@pytest.mark.parametrize("change", [Delete("x"), Delete("d"), Delete("f/x"), DeleteFolder("f")])
def test_deleting_what_is_not_there_is_refused(repository: GitRepository, change: Change) -> None:
    oid = commit(repository, put(repository, "f"), put(repository, "d/g"))
    with pytest.raises(EntryNotFound, match="A file with this name doesn't exist"):
        repository.commit(oid, [change], "m", AUTHOR)
    with pytest.raises(EntryNotFound):
        repository.commit(None, [change], "m", AUTHOR)


def test_the_same_deletion_twice_and_a_file_below_a_deleted_folder(
    repository: GitRepository,
) -> None:
    commit(repository, put(repository, "d/f"), put(repository, "g"))
    oid = commit(repository, DeleteFolder("d"), Delete("d/f"), DeleteFolder("d"))
    assert names(repository, oid) == ["g"]


def test_the_last_put_of_a_path_wins(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "f", b"1"), put(repository, "f", b"2"))
    entry = repository.entry(oid, "f")
    assert entry is not None
    assert repository.read_blob(entry.oid) == b"2"


def test_what_fsck_would_refuse_is_not_committed(repository: GitRepository) -> None:
    for change in (
        put(repository, "a/.GIT/hooks/x"),
        put(repository, ".gitmodules", b'[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'),
    ):
        with pytest.raises(InvalidPath):
            repository.commit(None, [change], "m", AUTHOR)
    for change in (
        put(repository, ".gitattributes", b"x" * 3000),
        Put("f", "0" * 40),
        Put("f", "x"),
    ):
        with pytest.raises(InvalidChange):
            repository.commit(None, [change], "m", AUTHOR)
    for message in ("a\0b", "\ud800"):
        with pytest.raises(Invalid):
            repository.commit(None, [], message, AUTHOR)
    for name in ("", " ", "a<b", "a\nb"):
        with pytest.raises(Invalid):
            Signature(name, "a@b", AUTHOR.when)


def test_only_the_touched_trees_of_a_wide_repository_are_written(repository: GitRepository) -> None:
    blob = repository.write_blob(b"x")
    wide = [Put(f"wide/{number:05}", blob) for number in range(10_000)]
    first = commit(repository, *wide, *(Put(f"d{n}/f", blob) for n in range(50)))
    before = int(git(repository, "count-objects").split()[0])
    second = commit(repository, Put("wide/new", blob), Put("d7/f", repository.write_blob(b"y")))
    # Two folders, the root, the commit, and one blob.
    assert int(git(repository, "count-objects").split()[0]) - before == 5
    assert len(repository.tree(second, "wide")) == 10_001
    assert repository.entry(second, "d8") == repository.entry(first, "d8")
    fsck(repository)


def test_a_tree_of_trees_cannot_fill_the_memory(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MAX_LISTED_ENTRIES", 10)
    blob = repository.write_blob(b"x")
    oid = commit(repository, *(Put(f"{a}/{b}", blob) for a in range(3) for b in range(3)))
    with pytest.raises(TreeTooLarge):
        repository.tree(oid, recursive=True)
    assert len(repository.tree(oid)) == 3


def test_history_is_listed_counted_and_attributed(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"), put(repository, "d/x"), message="one")
    second = commit(repository, put(repository, "b"), message="two")
    third = commit(repository, put(repository, "d/y"), message="three")
    assert [c.title for c in repository.log(third, 10)] == ["three", "two", "one"]
    assert [c.oid for c in repository.log(third, 1, skip=1)] == [second]
    assert repository.count_commits(third) == 3
    last = repository.last_commits(third, ["a", "b", "d", "d/x", "absent"])
    assert {path: info.oid for path, info in last.items()} == {
        "a": first, "b": second, "d": third, "d/x": first
    }  # fmt: skip
    assert repository.last_commit(second, "d").oid == first
    with pytest.raises(EntryNotFound):
        repository.last_commit(first, "b")


def test_last_commits_agree_with_git_across_merges(repository: GitRepository) -> None:
    base = commit(repository, put(repository, "a"), put(repository, "b"), put(repository, "c"))
    left = repository.commit(base, [put(repository, "a", b"left")], "left", AUTHOR)
    right = repository.commit(base, [put(repository, "b", b"right")], "right", AUTHOR)
    both = repository.commit(left, [put(repository, "b", b"right")], "both", AUTHOR)
    tree = git(repository, "rev-parse", f"{both}^{{tree}}").strip()
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    merge = git(
        repository, *identity, "commit-tree", tree, "-p", left, "-p", right, "-m", "merge"
    ).strip()
    last = repository.last_commits(merge, ["a", "b", "c"])
    for path in ("a", "b", "c"):
        assert (
            last[path].oid == git(repository, "log", "-1", "--format=%H", merge, "--", path).strip()
        )


def test_refs_move_only_from_where_they_were_expected(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"))
    second = repository.commit(first, [put(repository, "b")], "m", AUTHOR)
    for expected in (None, second, "0" * 40):
        with pytest.raises(RefMoved) as caught:
            repository.update_ref(MAIN, second, expected)
        assert isinstance(caught.value, Conflict)
        assert caught.value.current_oid == first
    repository.update_ref(MAIN, second, first)
    git(repository, "pack-refs", "--all")
    repository.update_ref(MAIN, first, second)
    assert repository.refs() == [Ref(MAIN, first)]
    assert git(repository, "rev-parse", "main").strip() == first


def test_refs_are_deleted(repository: GitRepository) -> None:
    oid = commit(repository, put(repository, "a"))
    repository.update_ref("refs/heads/x/y", oid, None)
    git(repository, "pack-refs", "--all")
    with pytest.raises(RefMoved):
        repository.delete_ref("refs/heads/x/y", "1" * 40)
    repository.delete_ref("refs/heads/x/y")
    with pytest.raises(RevisionNotFound):
        repository.delete_ref("refs/heads/x/y")
    # The empty folder `x` is not in the way of a branch of that name.
    repository.update_ref("refs/heads/x", oid, None)
    with pytest.raises(RefNameTaken):
        repository.update_ref("refs/heads/x/y", oid, None)
    assert [ref.name for ref in repository.refs()] == [MAIN, "refs/heads/x"]
    assert not list((repository.path / "refs").rglob("*.lock"))


@pytest.mark.parametrize(
    "ref",
    ["main", "HEAD", "refs/stash", "refs/heads/", "refs/heads/a..b", "refs/heads/a b",
     "refs/heads/a~",
     "refs/heads/HEAD", "refs/heads/-x", "refs/heads/refs/pr/1", "refs/heads/x.lock",
     "refs/heads/" + "x" * 300,
     "refs/heads/x\0", "refs/heads/\ud800", "refs/heads/" + "a/" * 300 + "a"],
)  # fmt: skip
def test_bad_ref_names_are_refused(repository: GitRepository, ref: str) -> None:
    oid = commit(repository, put(repository, "a"))
    with pytest.raises(InvalidRef):
        repository.update_ref(ref, oid, None)


def test_a_branch_points_at_a_commit_of_this_repository(repository: GitRepository) -> None:
    for target in (repository.write_blob(b"x"), "1" * 40, "main"):
        with pytest.raises(InvalidRef):
            repository.update_ref(MAIN, target, None)


def race(path: Path, base: str, num_writers: int) -> list[str]:
    """Let every writer move main from `base` at once; return the commits that got there."""
    winners: list[str] = []
    start = threading.Barrier(num_writers)

    def write(number: int) -> None:
        mine = GitRepository.open(path)
        oid = mine.commit(base, [put(mine, f"w{number}", base.encode())], "m", AUTHOR)
        start.wait()
        try:
            mine.update_ref(MAIN, oid, base)
        except RefMoved:
            return
        winners.append(oid)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(num_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners


def test_of_racing_writers_exactly_one_wins_each_round(repository: GitRepository) -> None:
    base = commit(repository, put(repository, "a"))
    for _ in range(10):
        winners = race(repository.path, base, num_writers=4)
        assert winners == [repository.resolve("main")]
        base = winners[0]
    assert repository.count_commits(base) == 11


def test_a_lock_left_by_a_killed_process_is_broken(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"))
    lock = repository.path / "refs/heads/main.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    second = repository.commit(first, [put(repository, "b")], "m", AUTHOR)
    repository.update_ref(MAIN, second, first)
    assert repository.resolve("main") == second


def test_a_lock_that_is_held_is_waited_for(repository: GitRepository) -> None:
    first = commit(repository, put(repository, "a"))
    second = repository.commit(first, [put(repository, "b")], "m", AUTHOR)
    lock = repository.path / "refs/heads/main.lock"
    lock.touch()
    released = threading.Event()

    def release() -> None:
        released.set()
        lock.unlink()

    threading.Timer(0.2, release).start()
    repository.update_ref(MAIN, second, first)
    assert released.is_set()
    assert repository.resolve("main") == second


def test_killing_a_writer_anywhere_leaves_a_sound_repository(repository: GitRepository) -> None:
    """A process that commits in a loop is killed; what it said was done is there."""
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from gatehouse.storage.git.records import Put, Signature
from gatehouse.storage.git.repository import GitRepository
repository = GitRepository.open(Path(sys.argv[1]))
author = Signature("a", "a@b", datetime.now(UTC))
for number in range(100000):
    parent = repository.resolve("main")
    blob = repository.write_blob(b"%d" % number * 5000)
    oid = repository.commit(parent, [Put(f"f{number}", blob)], "m", author)
    repository.update_ref("refs/heads/main", oid, parent)
    print(oid, flush=True)
"""
    for kill_after in (1, 3, 8):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(repository.path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            seen = [process.stdout.readline() for _ in range(kill_after)]
            process.send_signal(signal.SIGKILL)
            seen += process.stdout.readlines()
        acknowledged = [line.strip() for line in seen if line.endswith("\n")]
        head = repository.resolve("main")
        assert head is not None
        assert acknowledged[-1] in [info.oid for info in repository.log(head, 2)]
        fsck(repository)
        for lock in (repository.path / "refs").rglob("*.lock"):
            os.utime(lock, (0, 0))
    commit(repository, put(repository, "after"))
    fsck(repository)


def test_a_blob_without_a_commit_is_only_garbage(repository: GitRepository) -> None:
    head = commit(repository, put(repository, "a"))
    repository.commit(head, [put(repository, "b", b"never referred to")], "m", AUTHOR)
    fsck(repository)
    git(repository, "gc", "--prune=now", "-q")
    assert names(GitRepository.open(repository.path), head) == ["a"]
    fsck(repository)
