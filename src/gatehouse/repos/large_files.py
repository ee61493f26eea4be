"""Which large files a repository may name: possession.

Knowing a SHA-256 is not access. A repository holds an object once a writer of it uploaded the
bytes, or could read them in another repository and named them in a commit here.
"""

from gatehouse.core.clock import Clock
from gatehouse.core.errors import Invalid
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.repos.access import Access
from gatehouse.repos.holders import Holders
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository
from gatehouse.repos.tables import RepoObjectRow
from gatehouse.storage.base import BlobStore


class ObjectNotHeld(Invalid):
    """A commit or a push names a large file whose bytes its writer has not shown to have."""


class LargeFiles:
    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        repositories: Repositories,
        access: Access,
        clock: Clock,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._holders = Holders(database, repositories, access)
        self._clock = clock

    def size(self, repository: Repository, sha256: str) -> int | None:
        """Bytes of an object that this repository holds, or None."""
        with self._database.read() as session:
            row = session.get(RepoObjectRow, (repository.id, sha256))
        return None if row is None else self._blobs.size(sha256)

    def link(self, repository: Repository, sha256: str, size: int) -> None:
        """Note that a writer of this repository proved to hold these bytes."""
        with self._database.write() as session:
            if session.get(RepoObjectRow, (repository.id, sha256)) is None:
                session.add(
                    RepoObjectRow(
                        repository_id=repository.id,
                        sha256=sha256,
                        size=size,
                        created_at=self._clock.now(),
                    )
                )

    def claim(self, actor: Actor, repository: Repository, sha256: str) -> int | None:
        """The size of an object this actor may name here, linking it from where they can read it.

        Returns None when they would have to upload it first.
        """
        size = self.size(repository, sha256)
        if size is not None:
            return size
        size = self._blobs.size(sha256)
        if size is None or not self._reads_elsewhere(actor, sha256):
            return None
        self.link(repository, sha256, size)
        return size

    def require(
        self, actor: Actor, repository: Repository, sha256: str, size: int | None, path: str
    ) -> int:
        """The size of an object a commit names at `path`.

        Raises:
            ObjectNotHeld: The bytes were not uploaded, or are of another size than the client says.
        """
        held = self.claim(actor, repository, sha256)
        if held is None:
            raise ObjectNotHeld(
                f"`{path}` names the large file {sha256}, which was not uploaded to "
                f"{repository.repo_id}. Upload it first."
            )
        if size is not None and size != held:
            raise ObjectNotHeld(
                f"`{path}` says that {sha256} has {size} bytes; it has {held} bytes."
            )
        return held

    def _reads_elsewhere(self, actor: Actor, sha256: str) -> bool:
        column, is_it = RepoObjectRow.repository_id, RepoObjectRow.sha256 == sha256
        return self._holders.is_readable(actor, column, is_it)
