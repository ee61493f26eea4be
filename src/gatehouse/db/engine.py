"""One database, read and written in transactions. SQLite by default, PostgreSQL by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool


class Database:
    """Hands out sessions; each `read` or `write` block is one transaction.

    A `write` block commits when it ends and rolls back when it raises. On SQLite it takes the write
    lock at its start, so two writers queue instead of failing half-way.

    Args:
        url: As SQLAlchemy writes it.
        is_durable: False for what may be lost in a power cut, and is written a hundred times as
            fast; a crash of the process alone still loses nothing.
    """

    def __init__(self, url: str, *, is_durable: bool = True) -> None:
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self.engine = _create(
            url, in_memory=is_sqlite and make_url(url).database in (None, "", ":memory:")
        )
        self._writing = self.engine.execution_options(gatehouse_write=True)
        if is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        if not is_durable:
            event.listen(self.engine, "connect", _relax_sqlite if is_sqlite else _relax_postgresql)

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        self.engine.dispose()


def _create(url: str, *, in_memory: bool) -> Engine:
    if in_memory:
        return create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    return create_engine(
        url, pool_size=20, max_overflow=30, pool_pre_ping=not url.startswith("sqlite")
    )


def _configure_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transaction handling starts late and commits early; BEGIN is ours (below).
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout = 30000",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _relax_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")


def _relax_postgresql(connection: Any, _entry: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("gatehouse_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
