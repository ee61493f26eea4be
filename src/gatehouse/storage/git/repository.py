"""One bare git repository in one folder, through libgit2.

Knows bytes, trees, commits and refs. It does not know who may read or write, nor what a model is.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import pygit2
from pygit2.enums import ConfigLevel, ObjectType, RepositoryInitFlag, RepositoryOpenFlag

from gatehouse.core.errors import Invalid
from gatehouse.core.ids import is_oid
from gatehouse.storage.git import history, refs, trees
from gatehouse.storage.git.changes import apply_changes
from gatehouse.storage.git.errors import EntryNotFound, RepositoryUnavailable, RevisionNotFound
from gatehouse.storage.git.paths import is_unicode
from gatehouse.storage.git.records import Change, CommitInfo, Entry, Ref, Signature
from gatehouse.storage.git.ref_names import DEFAULT_BRANCH

# `core.fsync=all`, and libgit2's option below, make an acknowledged commit survive the power cut.
# Nothing may be collected behind our back: a blob is written before the commit that names it.
_CONFIG = {
    "core.fsync": "all",
    "core.logAllRefUpdates": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "receive.fsckObjects": "true",
    "receive.autogc": "false",
    "transfer.fsckObjects": "true",
}


class GitRepository:
    """A bare repository that is open. Cheap to open; not to be shared between threads."""

    def __init__(self, path: Path, repository: Any) -> None:
        """Use `open` or `create`."""
        self.path = path
        self._repository = repository

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a bare, empty repository at `path`, with `HEAD` at `refs/heads/main`.

        Raises:
            RepositoryUnavailable: The folder exists already, or cannot be written.
        """
        _configure_libgit2()
        flags = RepositoryInitFlag.BARE | RepositoryInitFlag.NO_REINIT | RepositoryInitFlag.MKPATH
        try:
            repository = pygit2.init_repository(
                str(path), bare=True, flags=flags, initial_head=DEFAULT_BRANCH
            )
        except (pygit2.GitError, ValueError, OSError) as error:
            raise RepositoryUnavailable(
                f"A git repository could not be created: {error}"
            ) from error
        for name, value in _CONFIG.items():
            repository.config[name] = value
        return cls(path, repository)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the bare repository at `path`, and nothing above it.

        Raises:
            RepositoryUnavailable: There is none.
        """
        _configure_libgit2()
        flags = RepositoryOpenFlag.NO_SEARCH | RepositoryOpenFlag.BARE
        try:
            return cls(path, pygit2.Repository(str(path), flags))
        except (pygit2.GitError, KeyError) as error:
            raise RepositoryUnavailable("The git repository is missing on disk.") from error

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, full ref, oid or `HEAD` names; see `refs.resolve`."""
        return refs.resolve(self._repository, revision)

    def entry(self, commit_oid: str, path: str) -> Entry | None:
        """The file or folder at `path`, or None.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
        """
        item = trees.find(self._commit(commit_oid).tree, path)
        return None if item is None else trees.to_entry(self._repository, path, item)

    def tree(self, commit_oid: str, path: str = "", recursive: bool = False) -> list[Entry]:
        """What the folder `path` holds, in git's order; `path` "" is the root.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
            EntryNotFound: The folder does not exist, or is a file.
            TreeTooLarge: More than `trees.MAX_LISTED_ENTRIES`.
        """
        tree = self._commit(commit_oid).tree
        if path:
            tree = trees.find(tree, path)
        if not isinstance(tree, pygit2.Tree):
            raise EntryNotFound(path, commit_oid)
        prefix = f"{path}/" if path else ""
        return list(trees.walk(self._repository, tree, prefix, recursive=recursive))

    def read_blob(self, oid: str) -> bytes:
        """The whole content of a blob.

        Raises:
            EntryNotFound: There is no such blob.
        """
        self.blob_size(oid)
        return bytes(self._repository[oid].data)

    def blob_size(self, oid: str) -> int:
        """Bytes of a blob.

        Raises:
            EntryNotFound: There is no such blob.
        """
        kind, size = trees.read_header(self._repository, oid)
        if kind != ObjectType.BLOB:
            raise EntryNotFound(oid, message=f"There is no blob {oid[:40]}.")
        return size

    def write_blob(self, data: bytes) -> str:
        """Store `data`; return its oid. Nothing refers to it yet."""
        return str(self._repository.create_blob(data))

    def commit(
        self,
        parent_oid: str | None,
        changes: Sequence[Change],
        message: str,
        author: Signature,
    ) -> str:
        """Write a commit of `changes` on top of `parent_oid`; return its oid. No ref moves.

        Raises:
            RevisionNotFound: `parent_oid` is not a commit.
            EntryNotFound: A deletion names what the parent does not have.
            InvalidPath: A path breaks a rule of `paths.check_path`.
            InvalidChange: See `changes.apply_changes`.
            Invalid: The message is not text that git can hold.
        """
        if "\0" in message or not is_unicode(message):
            raise Invalid("A commit message must be text without NUL characters.")
        parent = None if parent_oid is None else self._commit(parent_oid)
        base_tree = None if parent is None else parent.tree
        tree_oid = apply_changes(self._repository, base_tree, parent_oid, changes)
        signature = _to_signature(author)
        parents = [] if parent is None else [parent.id]
        oid = self._repository.create_commit(
            None, signature, signature, message, pygit2.Oid(hex=tree_oid), parents
        )
        return str(oid)

    def update_ref(self, ref: str, new_oid: str, expected_oid: str | None) -> None:
        """Move `ref` to `new_oid` if it is at `expected_oid`; None means "does not exist".

        Raises:
            RefMoved: It is elsewhere; nothing changed.
            RefNameTaken, RefLocked, InvalidRef: See `refs.update`.
        """
        refs.update(self._repository, self.path, ref, new_oid, expected_oid)

    def delete_ref(self, ref: str, expected_oid: str | None = None) -> None:
        """Remove `ref` if it is at `expected_oid`, or wherever it is when that is None.

        Raises:
            RevisionNotFound: There is no such ref.
            RefMoved: It is not at `expected_oid`.
            RefLocked, InvalidRef: See `refs.delete`.
        """
        current_oid = self.ref_target(ref)
        if current_oid is None:
            raise RevisionNotFound(ref)
        refs.delete(self._repository, self.path, ref, expected_oid or current_oid)

    def refs(self) -> list[Ref]:
        """Every branch, tag, pull request and conversion ref, sorted by name."""
        return refs.list_refs(self._repository)

    def ref_target(self, ref: str) -> str | None:
        """The object that the full ref name `ref` points at, or None."""
        return refs.target_of(self._repository, ref)

    def commit_info(self, oid: str) -> CommitInfo:
        """Describe a commit.

        Raises:
            RevisionNotFound: `oid` is not a commit.
        """
        return history.describe(self._commit(oid))

    def log(self, commit_oid: str, limit: int, skip: int = 0) -> list[CommitInfo]:
        """Up to `limit` commits from `commit_oid` back, newest first, after leaving out `skip`.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
        """
        return history.log(self._repository, str(self._commit(commit_oid).id), limit, skip)

    def count_commits(self, commit_oid: str) -> int:
        """How many commits `commit_oid` has behind it, with itself. Walks them all.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
        """
        return history.count(self._repository, str(self._commit(commit_oid).id))

    def last_commit(self, commit_oid: str, path: str) -> CommitInfo:
        """The newest commit, up to `commit_oid`, that made `path` what it is.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
            EntryNotFound: It has no such path.
        """
        found = self.last_commits(commit_oid, [path])
        if path not in found:
            raise EntryNotFound(path, commit_oid)
        return found[path]

    def last_commits(self, commit_oid: str, paths: Iterable[str]) -> dict[str, CommitInfo]:
        """`last_commit` of many paths in one walk; paths that do not exist are left out.

        Raises:
            RevisionNotFound: `commit_oid` is not a commit.
        """
        return history.last_commits(self._repository, self._commit(commit_oid), paths)

    def object_header(self, oid: str) -> tuple[ObjectType | None, int]:
        """The kind and size in bytes of any object; `(None, 0)` when it is absent."""
        return trees.read_header(self._repository, oid)

    def peel_to_commit(self, oid: str) -> str | None:
        """The commit that `oid` is, or that the annotated tag `oid` leads to; else None."""
        return refs.peel_oid(self._repository, oid)

    def tree_names(self, tree_oid: str) -> list[str]:
        """The names in one tree object; a byte that is not UTF-8 becomes a lone surrogate."""
        tree = self._repository[tree_oid]
        return [item.raw_name.decode("utf-8", "surrogateescape") for item in tree]

    def add_objects(self, folder: Path) -> None:
        """Also read objects from `folder`, such as the quarantine of a push; never write there."""
        self._repository.odb.add_disk_alternate(str(folder))

    def _commit(self, oid: str) -> Any:
        commit = self._repository.get(oid) if is_oid(oid) else None
        if not isinstance(commit, pygit2.Commit):
            raise RevisionNotFound(oid)
        return commit


@functools.cache
def _configure_libgit2() -> None:
    """Set the process-wide options of libgit2, once, before its first use.

    The settings of whoever runs the hub must not change what the hub does, and the folders are
    ours whoever owns them: their names come from us and pushes cannot write their configuration.
    """
    pygit2.settings.enable_fsync_gitdir(True)
    pygit2.settings.owner_validation = False
    for level in (ConfigLevel.SYSTEM, ConfigLevel.GLOBAL, ConfigLevel.XDG):
        pygit2.settings.search_path[level] = ""


def _to_signature(author: Signature) -> Any:
    offset = author.when.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds() // 60)
    return pygit2.Signature(author.name, author.email, int(author.when.timestamp()), minutes)
