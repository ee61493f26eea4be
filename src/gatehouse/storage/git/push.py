"""A push that waits in quarantine: what it would bring, before any ref moves.

Knows nothing of limits, LFS or permissions; whoever inspects a `Push` does.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pygit2.enums import ObjectType

from gatehouse.storage.git import program
from gatehouse.storage.git.errors import InvalidRef, RepositoryUnavailable
from gatehouse.storage.git.paths import check_path
from gatehouse.storage.git.records import Entry, RefUpdate
from gatehouse.storage.git.ref_names import check_ref_name
from gatehouse.storage.git.repository import GitRepository


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A blob that no ref reached before this push.

    Attributes:
        path: One of the places where the push has it.
        size: Bytes.
    """

    oid: str
    size: int
    path: str
    repository: GitRepository = field(repr=False, compare=False)

    def read(self) -> bytes:
        """The whole content; look at `size` first."""
        return self.repository.read_blob(self.oid)


class Push:
    """The ref updates that a client asked for, with sight of the objects it sent.

    Attributes:
        updates: What would move, in the client's order.
        repository: The repository as it would be: it reads the quarantined objects too.
    """

    def __init__(self, path: Path, updates: Sequence[RefUpdate], quarantine: Path | None) -> None:
        self.updates = tuple(updates)
        self.repository = GitRepository.open(path)
        self._quarantine = quarantine
        if quarantine is not None:
            self.repository.add_objects(quarantine)

    def new_blobs(self) -> Iterator[NewBlob]:
        """Every blob that the new tips reach, in all their history, and no ref reaches yet.

        Raises:
            RepositoryUnavailable: Git could not walk the objects.
        """
        for oid, kind, size, path in self._new_objects():
            if kind == ObjectType.BLOB:
                yield NewBlob(oid, size, path, self.repository)

    def tip_entries(self, update: RefUpdate) -> list[Entry]:
        """All files and folders of the commit that `update` brings; none for a deletion.

        Raises:
            TreeTooLarge: See `GitRepository.tree`.
            InvalidRef: The new object is not a commit, nor a tag of one.
        """
        if update.new_oid is None:
            return []
        commit_oid = self.repository.peel_to_commit(update.new_oid)
        if commit_oid is None:
            raise InvalidRef(update.ref, "it would not point at a commit")
        return self.repository.tree(commit_oid, recursive=True)

    def check_names(self) -> None:
        """Apply to the push what the commit API asks of refs and paths.

        Raises:
            InvalidRef: A ref may not have that name, or would not lead to a commit.
            InvalidPath: A new folder holds a name that a commit may not have.
        """
        for update in self.updates:
            if update.new_oid is None:
                continue
            check_ref_name(update.ref)
            if self.repository.peel_to_commit(update.new_oid) is None:
                raise InvalidRef(update.ref, "it would not point at a commit")
        for oid, kind, _, path in self._new_objects():
            if kind == ObjectType.TREE:
                prefix = f"{path}/" if path else ""
                for name in self.repository.tree_names(oid):
                    check_path(prefix + name, allow_submodules=True)

    def _new_objects(self) -> Iterator[tuple[str, ObjectType | None, int, str]]:
        """Yield oid, kind, size and a path of each object that is new to the refs."""
        tips = [update.new_oid for update in self.updates if update.new_oid is not None]
        if not tips:
            return
        arguments = program.command(
            f"--git-dir={self.repository.path}", "rev-list", "--objects", *tips, "--not", "--all"
        )
        alternates = [] if self._quarantine is None else [self._quarantine]
        with subprocess.Popen(  # noqa: S603 - object ids and our own paths
            arguments,
            env=program.environment(alternates=alternates),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as walk:
            assert walk.stdout is not None
            try:
                for line in walk.stdout:
                    oid = line[:40].decode("ascii")
                    path = line[41:].rstrip(b"\n").decode("utf-8", "backslashreplace")
                    kind, size = self.repository.object_header(oid)
                    yield oid, kind, size, path
            except BaseException:
                walk.kill()
                raise
        # A walk that failed must not look like "no blobs".
        if walk.returncode != 0:
            raise RepositoryUnavailable("Git could not walk the objects of this push.")


PushCheck = Callable[[Push], None]
