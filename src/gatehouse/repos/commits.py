"""Make a commit from a list of operations.

Order of writes: blobs, then trees and the commit, then the branch by compare-and-swap, then the
row. A crash between two of them leaves objects that nothing names. Who may commit was asked at the
edge already.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Conflict, Invalid, PreconditionFailed, TooLarge
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.observability.audit import record
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.lfs_rules import LfsRules, line_for
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository
from gatehouse.storage.git.errors import RefMoved, RevisionNotFound
from gatehouse.storage.git.paths import check_path
from gatehouse.storage.git.records import Change, Delete, DeleteFolder, Put, Signature
from gatehouse.storage.git.repository import GitRepository
from gatehouse.storage.lfs.pointer import Pointer

_ATTRIBUTES_PATH = ".gitattributes"
_MAX_OPERATIONS = 50_000
_MAX_SUMMARY = 1_000
_MAX_DESCRIPTION = 100_000
_TRIES = 5


@dataclass(frozen=True, slots=True)
class CommitHeader:
    """What the client says about the commit.

    Attributes:
        parent_oid: The head the client saw; the commit is refused if the branch has moved on.
    """

    summary: str
    description: str = ""
    parent_oid: str | None = None

    @property
    def message(self) -> str:
        return f"{self.summary}\n\n{self.description}".strip() if self.description else self.summary


@dataclass(frozen=True, slots=True)
class AddFile:
    """A regular file, whole."""

    path: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AddLargeFile:
    """A file uploaded before, by LFS or Xet. `size` may be left out by copies."""

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class DeleteFile:
    path: str


@dataclass(frozen=True, slots=True)
class DeleteDirectory:
    path: str


Operation = AddFile | AddLargeFile | DeleteFile | DeleteDirectory


class ParentMoved(PreconditionFailed):
    """The branch is no longer at the commit that the client built on."""


class BranchBusy(Conflict):
    """Other commits kept winning the race for the branch."""


class Commits:
    def __init__(
        self,
        database: Database,
        repositories: Repositories,
        large_files: LargeFiles,
        clock: Clock,
        max_file_bytes: int,
    ) -> None:
        self._database = database
        self._repositories = repositories
        self._large_files = large_files
        self._clock = clock
        self._max_file_bytes = max_file_bytes

    def create(
        self,
        actor: Actor,
        repository: Repository,
        branch: str,
        header: CommitHeader,
        operations: Iterable[Operation],
    ) -> str:
        """Commit to a branch and return the new head; the old head if nothing changed.

        `operations` is read once; a regular file's bytes are dropped as soon as git has them.

        Raises:
            RevisionNotFound: No such branch.
            ParentMoved: `header.parent_oid` is not the head.
            ObjectNotHeld: A large file was not uploaded.
            EntryNotFound: A path to delete is absent.
            BranchBusy: The race for the branch was lost too often.
        """
        assert actor.user is not None
        _check_header(header)
        git = self._repositories.git(repository)
        ref = f"refs/heads/{branch}"
        if git.resolve(ref) is None:
            raise RevisionNotFound(branch)
        prepared = _Prepared(list(self._prepare(actor, repository, git, operations)))
        author = Signature(
            actor.user.name, f"{actor.user.name}@users.noreply.gatehouse", self._clock.now()
        )
        head = _apply(git, ref, header, prepared, author)
        now = self._clock.now()
        with self._database.write() as session:
            subject = f"{repository.kind.plural}/{repository.repo_id}"
            record(session, now, actor, "repo.commit", subject, {"branch": branch, "oid": head})
        self._repositories.touch(repository.id)
        return head

    def _prepare(
        self,
        actor: Actor,
        repository: Repository,
        git: GitRepository,
        operations: Iterable[Operation],
    ) -> Iterator[tuple[Change, bool]]:
        """Each operation as a change to the tree, and whether its path has to be marked as LFS."""
        for count, operation in enumerate(operations):
            if count >= _MAX_OPERATIONS:
                raise TooLarge(f"A commit may have at most {_MAX_OPERATIONS} operations.")
            check_path(operation.path.rstrip("/"))
            match operation:
                case AddFile(path, content):
                    if len(content) > self._max_file_bytes:
                        raise TooLarge(
                            f"`{path}` has {len(content)} bytes; files over {self._max_file_bytes} "
                            "bytes have to be uploaded by LFS or Xet."
                        )
                    yield Put(path, git.write_blob(content)), False
                case AddLargeFile(path, sha256, size):
                    held = self._large_files.require(actor, repository, sha256, size, path)
                    yield Put(path, git.write_blob(Pointer(sha256, held).to_bytes())), True
                case DeleteFile(path):
                    yield Delete(path), False
                case DeleteDirectory(path):
                    yield DeleteFolder(path.rstrip("/")), False


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Changes whose blobs are stored, ready to be laid over whatever the head is."""

    marked: list[tuple[Change, bool]]

    def changes(self, git: GitRepository, head: str) -> list[Change]:
        changes = [change for change, _ in self.marked]
        large = [change.path for change, is_large in self.marked if is_large]
        attributes = _attributes(git, head, changes)
        rules = LfsRules(attributes)
        missing = [path for path in large if not rules.is_lfs(path)]
        if not missing:
            return changes
        if attributes and not attributes.endswith(b"\n"):
            attributes += b"\n"
        lines = "".join(line_for(path) for path in dict.fromkeys(missing))
        kept = [change for change in changes if change.path != _ATTRIBUTES_PATH]
        return [*kept, Put(_ATTRIBUTES_PATH, git.write_blob(attributes + lines.encode()))]


def _apply(
    git: GitRepository, ref: str, header: CommitHeader, prepared: _Prepared, author: Signature
) -> str:
    for _ in range(_TRIES):
        head = git.resolve(ref)
        if head is None:
            raise RevisionNotFound(ref)
        if header.parent_oid is not None and header.parent_oid != head:
            raise ParentMoved(
                f"A commit has happened since. The head of the branch is {head}, not "
                f"{header.parent_oid[:40]}: please refresh and try again."
            )
        new = git.commit(head, prepared.changes(git, head), header.message, author)
        if git.commit_info(new).tree_oid == git.commit_info(head).tree_oid:
            return head
        try:
            git.update_ref(ref, new, head)
        except RefMoved:
            continue
        return new
    raise BranchBusy("Other commits are being made to this branch. Please try again.")


def _attributes(git: GitRepository, head: str, changes: list[Change]) -> bytes:
    """What `.gitattributes` will say after `changes`."""
    for change in reversed(changes):
        if isinstance(change, Put) and change.path == _ATTRIBUTES_PATH:
            return git.read_blob(change.blob_oid)
    entry = git.entry(head, _ATTRIBUTES_PATH)
    if entry is None or not entry.is_regular_file or Delete(_ATTRIBUTES_PATH) in changes:
        return b""
    return git.read_blob(entry.oid)


def _check_header(header: CommitHeader) -> None:
    if not header.summary.strip():
        raise Invalid("`summary` must not be empty.")
    if len(header.summary) > _MAX_SUMMARY:
        raise Invalid(f"`summary` must have at most {_MAX_SUMMARY} characters.")
    if len(header.description) > _MAX_DESCRIPTION:
        raise Invalid(f"`description` must have at most {_MAX_DESCRIPTION} characters.")
