"""The curated models that only paying plans may run."""

from sqlalchemy import delete, select

from gatehouse.core.clock import Clock
from gatehouse.core.remembered import Remembered
from gatehouse.db.engine import Database
from gatehouse.inference.tables import ProModelRow
from gatehouse.observability.audit import AuditedActor, record
from gatehouse.repos.repository import Repository


class ProModels:
    """Kept by the repository's internal id: another name or an alias changes nothing."""

    def __init__(self, database: Database, clock: Clock, max_age_seconds: float = 2.0) -> None:
        self._database = database
        self._clock = clock
        self._ids = Remembered(self._load, max_age_seconds)

    def __contains__(self, repository: object) -> bool:
        return isinstance(repository, Repository) and repository.id in self._ids.get()

    def ids(self) -> frozenset[int]:
        """Internal ids of their repositories."""
        return self._ids.get()

    def add(self, repository: Repository, *, by: AuditedActor) -> None:
        moment = self._clock.now()
        with self._database.write() as session:
            session.merge(ProModelRow(repository_id=repository.id, added_at=moment))
            record(session, moment, by, "pro_model.add", str(repository.repo_id))
        self._ids.forget()

    def remove(self, repository: Repository, *, by: AuditedActor) -> None:
        with self._database.write() as session:
            session.execute(delete(ProModelRow).where(ProModelRow.repository_id == repository.id))
            record(session, self._clock.now(), by, "pro_model.remove", str(repository.repo_id))
        self._ids.forget()

    def _load(self) -> frozenset[int]:
        with self._database.read() as session:
            return frozenset(session.scalars(select(ProModelRow.repository_id)))
