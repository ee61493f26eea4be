"""Models that an administrator keeps in memory: loaded when the hub starts, and never unloaded."""

from dataclasses import dataclass

from sqlalchemy import delete, select

from gatehouse.core.clock import Clock
from gatehouse.db.engine import Database
from gatehouse.inference.tables import PinnedModelRow
from gatehouse.observability.audit import AuditedActor, record
from gatehouse.repos.repository import Repository


@dataclass(frozen=True, slots=True)
class Pin:
    """A model by the repository's internal id, and the branch, tag or commit of it."""

    repository_id: int
    revision: str


class PinnedModels:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[Pin]:
        """In the order in which they were pinned, which is that of loading."""
        query = select(PinnedModelRow).order_by(
            PinnedModelRow.added_at, PinnedModelRow.repository_id, PinnedModelRow.revision
        )
        with self._database.read() as session:
            return [Pin(row.repository_id, row.revision) for row in session.scalars(query)]

    def add(self, repository: Repository, revision: str, *, by: AuditedActor) -> None:
        """Pin a model; once is enough."""
        moment = self._clock.now()
        row = PinnedModelRow(repository_id=repository.id, revision=revision, added_at=moment)
        with self._database.write() as session:
            session.merge(row)
            record(session, moment, by, "model.pin", f"{repository.repo_id}@{revision}")

    def remove(self, repository: Repository, revision: str, *, by: AuditedActor) -> bool:
        """Let a model be unloaded as others are. False if it was not pinned."""
        query = delete(PinnedModelRow).where(
            PinnedModelRow.repository_id == repository.id, PinnedModelRow.revision == revision
        )
        with self._database.write() as session:
            if not session.execute(query.returning(PinnedModelRow.revision)).all():
                return False
            subject = f"{repository.repo_id}@{revision}"
            record(session, self._clock.now(), by, "model.unpin", subject)
        return True
