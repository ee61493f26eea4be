"""What a git push may bring. It is judged in git's quarantine, before any ref moves."""

from collections.abc import Sequence

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Invalid
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.observability.audit import record
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.repositories import MAIN, Repositories
from gatehouse.repos.repository import Repository
from gatehouse.storage.git.push import NewBlob, Push
from gatehouse.storage.git.records import RefUpdate
from gatehouse.storage.lfs.pointer import POINTER_SIZE_LIMIT, parse_pointer

_WRITABLE = ("refs/heads/", "refs/tags/")
_MIB = 1024 * 1024


class PushRefused(Invalid):
    """The push breaks a rule; the sentence is shown to the pusher."""


class Pushes:
    def __init__(
        self,
        database: Database,
        repositories: Repositories,
        large_files: LargeFiles,
        clock: Clock,
        max_regular_bytes: int,
    ) -> None:
        self._database = database
        self._repositories = repositories
        self._large_files = large_files
        self._clock = clock
        self._max_regular_bytes = max_regular_bytes

    def check(self, actor: Actor, repository: Repository, push: Push) -> None:
        """Return if the push may go in.

        Raises:
            PushRefused: A ref is not the pusher's to move, or a file is too large outside LFS.
            ObjectNotHeld: An LFS pointer names bytes that were not uploaded.
        """
        for update in push.updates:
            _check_ref(update)
        for blob in push.new_blobs():
            self._check_blob(actor, repository, blob)

    def finish(self, actor: Actor, repository: Repository, moved: Sequence[RefUpdate]) -> None:
        """Note a push whose refs have moved."""
        if not moved:
            return
        subject = f"{repository.kind.plural}/{repository.repo_id}"
        refs = " ".join(update.ref for update in moved)[:500]
        with self._database.write() as session:
            record(session, self._clock.now(), actor, "repo.push", subject, {"refs": refs})
        self._repositories.touch(repository.id)

    def _check_blob(self, actor: Actor, repository: Repository, blob: NewBlob) -> None:
        if blob.size > self._max_regular_bytes:
            raise PushRefused(
                f"`{blob.path}` has {blob.size} bytes; files over "
                f"{self._max_regular_bytes // _MIB} MiB have to be tracked by git-lfs: run "
                f'`git lfs migrate import --include="{blob.path}"`.'
            )
        if blob.size > POINTER_SIZE_LIMIT:
            return
        pointer = parse_pointer(blob.read())
        if pointer is not None:
            self._large_files.require(actor, repository, pointer.oid, pointer.size, blob.path)


def _check_ref(update: RefUpdate) -> None:
    if not update.ref.startswith(_WRITABLE):
        raise PushRefused(f"`{update.ref}` cannot be pushed to: push a branch or a tag.")
    if update.ref == MAIN and update.new_oid is None:
        raise PushRefused("The branch `main` cannot be deleted.")
