"""One database, read and written in transactions. SQLite by default, PostgreSQL by URL."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, StaticPool


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
        in_memory = is_sqlite and make_url(url).database in (None, "", ":memory:")
        self.engine = _create(url, in_memory=in_memory)
        self._is_file = is_sqlite and not in_memory
        self._impatient: list[PoolProxiedConnection] = []
        self._watcher = _Watcher(self.impatient_connection) if self._is_file else None
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

    def version(self) -> int | None:
        """Another number whenever anything was committed, by any process; does not block.

        None if the database cannot tell: PostgreSQL, or SQLite in memory.
        """
        return None if self._watcher is None else self._watcher.version()

    def impatient_connection(self) -> sqlite3.Connection | None:
        """A connection of the caller's own that raises rather than waits for another writer.

        `sqlite3.OperationalError` is what it raises. None where every query may wait: PostgreSQL,
        or SQLite in memory. Any thread may use it, one at a time; `dispose` closes it.
        """
        if not self._is_file:
            return None
        pooled = self.engine.raw_connection()
        pooled.detach()
        connection = pooled.dbapi_connection
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("PRAGMA busy_timeout = 0")
        self._impatient.append(pooled)
        return connection

    def dispose(self) -> None:
        for connection in self._impatient:
            connection.close()
        self.engine.dispose()


class _Watcher:
    """A connection that only sees whether others have committed.

    It takes two microseconds, since SQLite looks into memory that all processes share. Source:
    https://sqlite.org/pragma.html#pragma_data_version
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection | None]) -> None:
        # Not one of the pool: numbers of different connections cannot be compared.
        self._connect = connect
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def version(self) -> int | None:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                if self._connection is None:
                    return None
                found = self._connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.OperationalError:  # somebody has the file for themselves
                return None
        return int(found[0])


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
