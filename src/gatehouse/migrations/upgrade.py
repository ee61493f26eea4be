"""Brings a database, empty or old, to the present schema. Several processes may start at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gatehouse.core.errors import Unavailable
from gatehouse.db.engine import Database

# Any number will do, as long as every Gatehouse uses the same.
_POSTGRESQL_LOCK = 0x6761_7465


class DatabaseTooNew(Unavailable):
    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database was made by a newer Gatehouse (schema {revision}): upgrade this one."
        )


def upgrade(database: Database) -> None:
    """Run the migrations that are missing, all in one transaction.

    Raises:
        DatabaseTooNew: The database has a schema that this version does not know.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    with database.read() as session:
        current = _revision(session.connection())
    _check_known(script, current)
    if current == script.get_current_head():
        return
    # On SQLite a write transaction holds the only write lock from its start.
    with database.write() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})"))
        _check_known(script, _revision(connection))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def alembic_config() -> Config:
    """Alembic's configuration; whoever runs a command sets `attributes["connection"]`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(script: ScriptDirectory, revision: str | None) -> None:
    known = {entry.revision for entry in script.walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseTooNew(revision)
