"""How an administrator wants single models to be run, where that is not left to the engine."""

from sqlalchemy import delete

from gatehouse.core.clock import Clock
from gatehouse.db.engine import Database
from gatehouse.engines.base import EngineOptions, Precision, RunnerName, Speculation, WeightFormat
from gatehouse.inference.tables import ModelOptionsRow
from gatehouse.observability.audit import AuditedActor, record
from gatehouse.repos.repository import Repository


class ModelOptions:
    """Kept by the repository's internal id: for all its revisions, under whatever name."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def of(self, repository: Repository) -> EngineOptions:
        with self._database.read() as session:
            row = session.get(ModelOptionsRow, repository.id)
        if row is None:
            return EngineOptions()
        return EngineOptions(
            RunnerName(row.runner),
            Precision(row.precision),
            WeightFormat(row.weight_format),
            speculation=Speculation(row.speculation),
        )

    def set(self, repository: Repository, options: EngineOptions, *, by: AuditedActor) -> None:
        """Run the model so from its next loading on; the usual options leave nothing behind."""
        with self._database.write() as session:
            if options == EngineOptions():
                row = ModelOptionsRow.repository_id == repository.id
                session.execute(delete(ModelOptionsRow).where(row))
            else:
                session.merge(
                    ModelOptionsRow(
                        repository_id=repository.id,
                        runner=options.runner.value,
                        precision=options.precision.value,
                        weight_format=options.weight_format.value,
                        speculation=options.speculation.value,
                    )
                )
            told = f"{repository.repo_id} {options.runner} {options.precision}"
            moment = self._clock.now()
            told += f" {options.weight_format} {options.speculation}"
            record(session, moment, by, "model.set", told)
