"""Whether a database is at the present schema. Knows no Alembic, which loads longer than this asks.

Every file of a migration begins with its revision, and revisions count up.
"""

from pathlib import Path

from sqlalchemy import inspect, text

from gatehouse.db.engine import Database

_VERSIONS = Path(__file__).parent / "versions"


def present_revision() -> str:
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def has_present_schema(database: Database) -> bool:
    with database.read() as session:
        connection = session.connection()
        if not inspect(connection).has_table("alembic_version"):
            return False
        revision = session.scalar(text("SELECT version_num FROM alembic_version"))
        return bool(revision == present_revision())
