"""Paths and ref names from strangers: what is accepted is what git accepts."""

import subprocess
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatehouse.storage.git.errors import InvalidChange, InvalidPath, InvalidRef
from gatehouse.storage.git.paths import check_path
from gatehouse.storage.git.records import Put, Signature
from gatehouse.storage.git.ref_names import check_ref_name
from gatehouse.storage.git.repository import GitRepository

AUTHOR = Signature("a", "a@b", datetime(2026, 1, 1, tzinfo=UTC))

odd_names = st.sampled_from(
    [".git", ".GIT", ".git ", ".git.", "git~1", "GIT~1", ".g\u200cit", ".git::$INDEX_ALLOCATION",
     ".", "..", "...", "", " ", "con", "\u202e", "\ud800", "-x", "a:b", "*", ".gitmodules",
     "gitmod~1", ".gitattributes", "gitatt~1", "gi7d29~1", "gi~12345", ".gitignore",
     ".mailmap", "x" * 255, "\U0001f600", "e\u0301"]
)  # fmt: skip
names = odd_names | st.text(max_size=12)
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(paths, min_size=1, max_size=12))
def test_what_is_committed_passes_fsck_and_is_found_again(asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository = GitRepository.create(Path(folder) / "r")
        blob = repository.write_blob(b"x")
        head = None
        for path in asked:
            with suppress(InvalidPath, InvalidChange):
                head = repository.commit(head, [Put(path, blob)], "m", AUTHOR)
                entry = repository.entry(head, path)
                assert entry is not None
                assert entry.path in {each.path for each in repository.tree(head, recursive=True)}
        if head is not None:
            repository.update_ref("refs/heads/main", head, None)
        result = subprocess.run(
            ["git", "-C", str(repository.path), "fsck", "--strict", "--no-dangling"],
            capture_output=True,
            text=True,
        )
        complaints = [line for line in result.stderr.splitlines() if not line.startswith("notice")]
        assert (result.returncode, result.stdout, complaints) == (0, "", [])


@given(paths)
def test_an_accepted_path_stays_inside_a_checkout(path: str) -> None:
    try:
        check_path(path)
    except InvalidPath:
        return
    parts = Path(path).parts
    assert "/".join(parts) == path
    assert not Path(path).is_absolute()
    assert ".." not in parts
    assert all(part.casefold() != ".git" for part in parts)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", "./a", "a/..", "../a", "a\\b", "a\0", "a\nb", "\x7f", "\x85",
     ".git/config", "a/.Git/x", "GIT~1", ".git . .", ".git:x", ".g\u200dit", "\ufeff.git",
     ".gitmodules", "GITMOD~2", "gi7eba~1", "~1234567", "gi7~1234",
     ".gitattributes/x", "a/.gitmodules ", "x" * 1025, "x" * 256, "a/" * 64 + "a", "\ud800"],
)  # fmt: skip
def test_bad_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    ["a", "a b/c-d_e.f", ".gitattributes", ".github/x", "git", "a~1", "...",
     "\u00e9\u4e2d\U0001f600", "x" * 255, "a/" * 63 + "a", "con", "a:b"],
)  # fmt: skip
def test_good_paths_are_accepted(path: str) -> None:
    assert check_path(path) == path


def test_git_itself_may_bring_submodules() -> None:
    assert check_path(".gitmodules", allow_submodules=True)
    with pytest.raises(InvalidPath):
        check_path(".git", allow_submodules=True)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30).map("refs/heads/".__add__) | st.text(max_size=30))
def test_accepted_ref_names_are_accepted_by_git(ref: str) -> None:
    try:
        check_ref_name(ref)
    except InvalidRef:
        return
    subprocess.run(["git", "check-ref-format", ref], check=True)
