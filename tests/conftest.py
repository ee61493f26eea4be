"""Fixtures that several rooms share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import Hub

from gatehouse.db.engine import Database
from gatehouse.migrations.upgrade import upgrade


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with the present schema, to copy: migrating takes longer."""
    path = tmp_path_factory.mktemp("schema") / "gatehouse.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    return path


@pytest.fixture
def hub(tmp_path: Path, migrated_database: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub", migrated_database)
    yield hub
    hub.close()
