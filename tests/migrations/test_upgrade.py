"""The schema that migrations make is the one that the rooms declare."""

import pkgutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import gatehouse
from gatehouse.db.engine import Database
from gatehouse.migrations.metadata import METADATA, ROOMS
from gatehouse.migrations.present import has_present_schema, present_revision
from gatehouse.migrations.upgrade import DatabaseTooNew, alembic_config, upgrade


def test_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gatehouse.db'}")
    upgrade(database)
    with database.read() as session:
        differences = compare_metadata(MigrationContext.configure(session.connection()), METADATA)
    database.dispose()
    assert differences == []


def test_every_room_with_tables_is_migrated() -> None:
    found = {
        module.name
        for module in pkgutil.walk_packages(gatehouse.__path__, "gatehouse.")
        if module.name.endswith(".tables")
    }
    assert found == {room.__name__ for room in ROOMS}


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gatehouse.db'}")
    upgrade(database)
    upgrade(database)
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    database.dispose()


def test_the_present_revision_is_the_one_that_alembic_ends_at() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [present_revision()]


def test_only_a_database_at_the_present_revision_is_at_the_present_schema(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gatehouse.db'}")
    assert not has_present_schema(database)
    upgrade(database)
    assert has_present_schema(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert not has_present_schema(database)
    database.dispose()


def test_a_database_of_a_newer_gatehouse_is_left_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'gatehouse.db'}")
    upgrade(database)
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    with pytest.raises(DatabaseTooNew, match="newer Gatehouse"):
        upgrade(database)
    database.dispose()


def test_processes_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    path = tmp_path / "gatehouse.db"
    program = (
        "import sys; from gatehouse.db.engine import Database; "
        "from gatehouse.migrations.upgrade import upgrade; "
        "sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline(); "
        f"upgrade(Database('sqlite:///{path}'))"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    outcomes = [(starter.communicate()[1], starter.returncode) for starter in starters]
    assert [code for _, code in outcomes] == [0] * 4, outcomes
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()
