"""Counters in a table, one row a key, shared by every worker of every machine.

Each key is one conditional upsert, so that no two requests can take the same rest. Nothing here has
to outlive a power cut: see docs/adr/0007.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, String, Table, text

from gatehouse.db.engine import Database
from gatehouse.identity.counters import Change, Count, CountersBusy, Want, WindowFull

_METADATA = MetaData()
# Not among the tables that migrations know: it may be dropped at any time, and is made on first
# use. Another layout takes another name.
_TABLE = Table(
    "counters_1",
    _METADATA,
    Column("key", String(600), primary_key=True),
    Column("ends_at", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
)
_USED = "CASE WHEN counters_1.ends_at > :now THEN counters_1.used ELSE 0 END + excluded.used"
_TAKE = f"""
    INSERT INTO counters_1 (key, ends_at, used) VALUES (:key, :ends_at, :amount)
    ON CONFLICT (key) DO UPDATE SET
        used = {_USED},
        ends_at = CASE WHEN counters_1.ends_at > :now
            THEN counters_1.ends_at ELSE excluded.ends_at END
    WHERE {_USED} <= :limit
    RETURNING used, ends_at
"""  # noqa: S608  (no input in it)
_READ = "SELECT used, ends_at FROM counters_1 WHERE key = :key AND ends_at > :now"
_CHANGE = """
    UPDATE counters_1
    SET used = CASE WHEN used + :amount < 0 THEN 0 ELSE used + :amount END
    WHERE key = :key AND ends_at = :ends_at
"""
_CLEAR = "DELETE FROM counters_1 WHERE key = :key"
_SWEEP = "DELETE FROM counters_1 WHERE ends_at <= :now"
_SWEEP_SECONDS = 600
# A connection that may not wait leaves it to others to copy the log into the file and to sync it,
# so these have to get a turn: at two or three pages a change, before SQLite's own 1000 pages.
_QUICK_CHANGES = 250
# Any number will do, as long as every Gatehouse uses the same.
_POSTGRESQL_LOCK = 0x6761_7463

_Execute = Callable[[str, Mapping[str, Any]], Any]


class DatabaseCounters:
    """Counters over a database of their own, or over one that others use too.

    The driver is called directly: SQLAlchemy's own way takes 200 microseconds of processor time
    for the two upserts of a request, this 25 (SQLite).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_sqlite = database.engine.dialect.name == "sqlite"
        self._statements = {
            sql: text(sql).compile(dialect=database.engine.dialect)
            for sql in (_TAKE, _READ, _CHANGE, _CLEAR, _SWEEP)
        }
        # SQLite has one writer, and others poll for their turn: threads rather queue here.
        self._turn = threading.Lock()
        self._quick: sqlite3.Connection | None = None
        self._quick_changes_left = _QUICK_CHANGES
        self._is_ready = False
        self._sweep_at = 0

    def take(self, wants: Sequence[Want], now: int, *, may_wait: bool = True) -> tuple[Count, ...]:
        if now >= self._sweep_at:
            if not may_wait:
                raise CountersBusy
            self._sweep(now)
        with self._transaction(may_wait=may_wait) as execute:
            return tuple(_take(execute, want, now) for want in wants)

    def change(self, changes: Sequence[Change], *, may_wait: bool = True) -> None:
        with self._transaction(may_wait=may_wait) as execute:
            # In one order for all, since PostgreSQL locks row by row.
            for change in sorted(changes, key=lambda change: change.key):
                values = {"key": change.key, "ends_at": change.ends_at, "amount": change.amount}
                execute(_CHANGE, values)

    def read(self, key: str, window_seconds: int, now: int) -> Count:
        with self._transaction(is_writing=False) as execute:
            return _read(execute, key, window_seconds, now)

    def clear(self, key: str) -> None:
        with self._transaction() as execute:
            execute(_CLEAR, {"key": key})

    def _sweep(self, now: int) -> None:
        with self._transaction() as execute:
            execute(_SWEEP, {"now": now})
        self._sweep_at = now + _SWEEP_SECONDS

    def _transaction(
        self, *, is_writing: bool = True, may_wait: bool = True
    ) -> AbstractContextManager[_Execute]:
        if may_wait:
            return self._after_waiting(is_writing=is_writing)
        return self._at_once()

    @contextmanager
    def _after_waiting(self, *, is_writing: bool) -> Iterator[_Execute]:
        with self._turn if self._is_sqlite else nullcontext():
            self._make_ready()
            connection = self._database.engine.raw_connection()
            try:
                cursor = connection.cursor()
                if self._is_sqlite and is_writing:
                    self._copy_log(cursor)
                    cursor.execute("BEGIN IMMEDIATE")
                yield self._executing(cursor)
                connection.commit()
            finally:
                # Returned to the pool, which rolls back what was not committed.
                connection.close()

    @contextmanager
    def _at_once(self) -> Iterator[_Execute]:
        if not self._turn.acquire(blocking=False):
            raise CountersBusy
        try:
            cursor = self._begun_at_once()
            try:
                yield self._executing(cursor)
                cursor.execute("COMMIT")
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            self._quick_changes_left -= 1
        finally:
            self._turn.release()

    def _begun_at_once(self) -> sqlite3.Cursor:
        """A cursor in a transaction that waits for no other writer and for no disk."""
        if not self._is_ready or self._quick_changes_left <= 0:
            raise CountersBusy
        if self._quick is None:
            self._quick = self._database.impatient_connection()
            if self._quick is None:
                raise CountersBusy
            self._quick.execute("PRAGMA wal_autocheckpoint = 0")
        try:
            return self._quick.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # another process writes
            raise CountersBusy from None

    def _copy_log(self, cursor: Any) -> None:
        """Do what changes that may not wait have left undone: the next change syncs the log."""
        if self._quick_changes_left <= 0:
            cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._quick_changes_left = _QUICK_CHANGES

    def _executing(self, cursor: Any) -> _Execute:
        def execute(sql: str, values: Mapping[str, Any]) -> Any:
            compiled = self._statements[sql]
            order = compiled.positiontup
            cursor.execute(compiled.string, values if order is None else [values[k] for k in order])
            return cursor.fetchone() if cursor.description else None

        return execute

    def _make_ready(self) -> None:
        if self._is_ready:
            return
        with self._database.write() as session:
            connection = session.connection()
            if not self._is_sqlite:
                # "If not exists" alone is not safe when two processes start at once.
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})"))
            _METADATA.create_all(connection)
        self._is_ready = True


def _take(execute: _Execute, want: Want, now: int) -> Count:
    if want.amount <= want.limit:
        values = {
            "key": want.key,
            "ends_at": now + want.window_seconds,
            "amount": want.amount,
            "now": now,
            "limit": want.limit,
        }
        found = execute(_TAKE, values)
        if found is not None:
            return Count(*found)
    raise WindowFull(want, _read(execute, want.key, want.window_seconds, now))


def _read(execute: _Execute, key: str, window_seconds: int, now: int) -> Count:
    found = execute(_READ, {"key": key, "now": now})
    return Count(0, now + window_seconds) if found is None else Count(*found)
