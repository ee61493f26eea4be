"""What is in a repository at a commit: entries, sizes, and where the bytes are.

A git LFS pointer whose object this repository holds is shown as the file it stands for; any other
pointer is shown as the text it is, so that naming a hash in a text file gives nobody the bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select

from gatehouse.core.ids import is_oid
from gatehouse.db.engine import Database
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository
from gatehouse.repos.tables import RepoObjectRow
from gatehouse.storage.base import BlobStore
from gatehouse.storage.git.errors import EntryNotFound, RevisionNotFound
from gatehouse.storage.git.paths import MAX_PATH_BYTES
from gatehouse.storage.git.records import SUBMODULE_MODE, Entry, EntryKind
from gatehouse.storage.lfs.pointer import POINTER_SIZE_LIMIT, Pointer, parse_pointer

_CACHED_ENTRIES = 100_000
_CACHED_POINTERS = 100_000
_BIND_LIMIT = 500


@dataclass(frozen=True, slots=True)
class File:
    """One file or folder at a commit.

    Attributes:
        oid: The git object id (of the pointer, for a large file).
        size: Bytes of the real content; 0 for folders.
        pointer: Set for large files.
    """

    path: str
    is_directory: bool
    oid: str
    size: int
    pointer: Pointer | None = None
    pointer_size: int = 0

    @property
    def etag(self) -> str:
        """Stable and content-addressed: SHA-256 of large files, git's id of the others."""
        return self.pointer.oid if self.pointer is not None else self.oid


class Files:
    def __init__(self, database: Database, blobs: BlobStore, repositories: Repositories) -> None:
        self._database = database
        self._blobs = blobs
        self._repositories = repositories
        self._cached_entry = lru_cache(_CACHED_ENTRIES)(self._read_entry)
        self._cached_pointer = lru_cache(_CACHED_POINTERS)(self._read_pointer)

    def commit_oid(self, repository: Repository, revision: str) -> str:
        """Resolve what a user typed to a commit.

        Raises:
            RevisionNotFound: No such branch, tag or commit.
        """
        oid = self._repositories.git(repository).resolve(revision)
        if oid is None:
            raise RevisionNotFound(revision)
        return oid

    def file(self, repository: Repository, commit_oid: str, path: str) -> File:
        """One file.

        Raises:
            EntryNotFound: Absent, or a folder.
        """
        assert is_oid(commit_oid)
        entry = self._entry(repository, commit_oid, path)
        if entry is None or not _has_content(entry):
            raise EntryNotFound(path, commit_oid)
        return next(iter(self._with_pointers(repository, [entry])))

    def tree(
        self, repository: Repository, commit_oid: str, path: str = "", *, recursive: bool = False
    ) -> list[File]:
        """Entries below a folder, in git's order.

        Raises:
            EntryNotFound: There is no such folder.
        """
        entries = self._repositories.git(repository).tree(commit_oid, path, recursive=recursive)
        return self._with_pointers(repository, entries)

    def paths(self, repository: Repository, commit_oid: str, paths: Iterable[str]) -> list[File]:
        """The files and folders among `paths` that exist."""
        found = (self._entry(repository, commit_oid, path) for path in paths)
        return self._with_pointers(repository, [entry for entry in found if entry is not None])

    def read(self, repository: Repository, file: File) -> bytes:
        """A regular file's bytes, or a large file's pointer text."""
        return self._repositories.git(repository).read_blob(file.oid)

    def local_path(self, file: File) -> Path | None:
        """Where a large file lies on this machine, or None if it is regular or elsewhere."""
        return self._blobs.path(file.pointer.oid) if file.pointer is not None else None

    def open(self, repository: Repository, file: File) -> BinaryIO:
        assert file.pointer is not None
        return self._blobs.open(file.pointer.oid)

    def read_small(
        self, repository: Repository, commit_oid: str, path: str, limit: int
    ) -> bytes | None:
        """A whole file, or None if it is absent or larger than `limit` bytes."""
        entry = self._entry(repository, commit_oid, path)
        if entry is None or not _has_content(entry) or entry.size > limit:
            return None
        file = self._with_pointers(repository, [entry])[0]
        if file.pointer is None:
            return self.read(repository, file)
        if file.size > limit:
            return None
        with self.open(repository, file) as stream:
            return stream.read(limit)

    def _with_pointers(self, repository: Repository, entries: Iterable[Entry]) -> list[File]:
        entries = list(entries)
        pointers = {
            entry.oid: pointer
            for entry in entries
            if entry.is_regular_file
            and entry.size < POINTER_SIZE_LIMIT
            and (pointer := self._pointer(repository, entry.oid)) is not None
        }
        held = self._held(repository, {pointer.oid for pointer in pointers.values()})
        return [_file(entry, pointers.get(entry.oid), held) for entry in entries]

    def _held(self, repository: Repository, sha256s: set[str]) -> set[str]:
        found: set[str] = set()
        wanted = sorted(sha256s)
        with self._database.read() as session:
            for start in range(0, len(wanted), _BIND_LIMIT):
                query = select(RepoObjectRow.sha256).where(
                    RepoObjectRow.repository_id == repository.id,
                    RepoObjectRow.sha256.in_(wanted[start : start + _BIND_LIMIT]),
                )
                found.update(session.scalars(query))
        return found

    def _entry(self, repository: Repository, commit_oid: str, path: str) -> Entry | None:
        if len(path) > MAX_PATH_BYTES:  # no file has it, and the cache must not keep it
            return None
        return self._cached_entry(repository.storage_id, commit_oid, path)

    def _pointer(self, repository: Repository, oid: str) -> Pointer | None:
        return self._cached_pointer(repository.storage_id, oid)

    def _read_entry(self, storage_id: str, commit_oid: str, path: str) -> Entry | None:
        return self._repositories.open_git(storage_id).entry(commit_oid, path)

    def _read_pointer(self, storage_id: str, oid: str) -> Pointer | None:
        return parse_pointer(self._repositories.open_git(storage_id).read_blob(oid))


def _has_content(entry: Entry) -> bool:
    """Whether it is a file or a link; a submodule is a commit of some other repository."""
    return entry.kind is EntryKind.FILE and entry.mode != SUBMODULE_MODE


def _file(entry: Entry, pointer: Pointer | None, held: set[str]) -> File:
    if entry.kind is not EntryKind.FILE:
        return File(entry.path, is_directory=True, oid=entry.oid, size=0)
    if pointer is None or pointer.oid not in held:
        return File(entry.path, is_directory=False, oid=entry.oid, size=entry.size)
    return File(
        entry.path,
        is_directory=False,
        oid=entry.oid,
        size=pointer.size,
        pointer=pointer,
        pointer_size=entry.size,
    )
