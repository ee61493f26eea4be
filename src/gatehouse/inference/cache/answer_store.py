"""Kept answers in a SQLite file of their own, which all hub workers share and restarts survive.

A cache: the file may be deleted at any time, and one that is damaged is begun anew. Bounded by
bytes, count, age and by owner, the least recently used going first. Blocking; any thread may call.
"""

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from gatehouse.inference.cache.answer_file import (
    CLOCK_SLACK_SECONDS,
    EVERYBODY,
    SCHEMA,
    SCHEMA_VERSION,
    TOUCH_SECONDS,
    CachedAnswer,
    decode_answer,
    inode,
    is_current,
)
from gatehouse.inference.cache.answer_reader import AnswerReader
from gatehouse.observability.logging import logger

_ENTRY_OVERHEAD_BYTES = 512
_OWNER_SHARE = 4
_BUSY_SECONDS = 2.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})

_encoder = msgspec.msgpack.Encoder()
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """An answer to be kept.

    Attributes:
        key: See `cache_key`.
        owner: Whose share it counts against; only a hash of it is written.
        answer: One that is larger than a share is not kept.
    """

    key: str
    owner: str
    answer: CachedAnswer


class AnswerStore:
    """One process's access to the file.

    Args:
        path: Of the file; made when it is needed first.
        max_bytes: Of all answers together.
        max_age_seconds: After which an answer is no longer given.
        max_entries: How many answers.
        clock: Seconds since 1970, since they have to mean the same after a restart.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        max_age_seconds: float = 3600.0,
        max_entries: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_age_seconds = max_age_seconds
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def reader(self) -> AnswerReader:
        """For the event loop: what can be found without waiting."""
        return AnswerReader(self._path, self._max_age_seconds, self._clock)

    def find(self, key: str) -> CachedAnswer | None:
        """The kept answer, or None. Trouble with the file is as good as none."""
        return self._use(lambda connection: self._find(connection, key), None)

    def keep(self, key: str, owner: str, answer: CachedAnswer) -> None:
        self.keep_all([NewAnswer(key, owner, answer)])

    def keep_all(self, answers: Iterable[NewAnswer]) -> None:
        """Take answers in, and let go of what is over a bound."""
        self._use(lambda connection: self._keep_all(connection, answers), None)

    def count(self) -> tuple[int, int]:
        """How many answers there are, and their bytes."""
        return self._use(_count, (0, 0))

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _find(self, connection: sqlite3.Connection, key: str) -> CachedAnswer | None:
        query = "SELECT answer, stored_at, last_used FROM answers WHERE key = ?"
        row = connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        answer, stored_at, last_used = row
        now = self._clock()
        if not is_current(stored_at, now, self._max_age_seconds):
            return None
        if now - last_used > TOUCH_SECONDS:
            connection.execute("UPDATE answers SET last_used = ? WHERE key = ?", (now, key))
        return decode_answer(answer)

    def _keep_all(self, connection: sqlite3.Connection, answers: Iterable[NewAnswer]) -> None:
        share = self._max_bytes // _OWNER_SHARE
        now = self._clock()
        connection.execute("BEGIN IMMEDIATE")
        owners = {self._insert(connection, new, share, now) for new in answers}
        oldest, newest = now - self._max_age_seconds, now + CLOCK_SLACK_SECONDS
        connection.execute(
            "DELETE FROM answers WHERE stored_at < ? OR stored_at > ?", (oldest, newest)
        )
        for owner in owners:
            _shrink(connection, owner, share, self._max_entries // _OWNER_SHARE)
        _shrink(connection, EVERYBODY, self._max_bytes, self._max_entries)
        connection.execute("COMMIT")

    def _insert(
        self, connection: sqlite3.Connection, new: NewAnswer, share: int, now: float
    ) -> str:
        """The hash of the owner under which the answer was put in."""
        owner = hashlib.sha256(new.owner.encode()).hexdigest()[:32]
        data = _encoder.encode(new.answer)
        num_bytes = len(data) + _ENTRY_OVERHEAD_BYTES
        connection.execute("DELETE FROM answers WHERE key = ?", (new.key,))
        if num_bytes <= share:
            row = (new.key, owner, data, num_bytes, now, now)
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
        return owner

    def _use(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """What the work gives, one at a time; `otherwise` if something is wrong with the file.

        A damaged file is removed, so that the next work begins a new one.
        """
        with self._lock:
            try:
                return work(self._connect())
            except (sqlite3.Error, OSError, msgspec.MsgspecError) as error:
                logger.warning("the response cache failed", reason=str(error))
                self._recover(error)
                return otherwise

    def _connect(self) -> sqlite3.Connection:
        """The connection to the file that is there now; another worker may have begun it anew."""
        if self._connection is not None and inode(self._path) != self._inode:
            self._disconnect()
        if self._connection is None:
            # For this user's eyes: answers of private models are in it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = _open(self._path)
            self._inode = inode(self._path)
        return self._connection

    def _recover(self, error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        is_damaged = code is None or code & 0xFF in _DAMAGED
        self._disconnect()
        if is_damaged and not isinstance(error, OSError):
            for end in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may cost what is in it, and nothing else depends on it.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            connection.executescript(
                "BEGIN IMMEDIATE; DROP TABLE IF EXISTS answers; DROP TABLE IF EXISTS sums;"
                f"{SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _count(connection: sqlite3.Connection) -> tuple[int, int]:
    return _sums(connection, EVERYBODY)


def _sums(connection: sqlite3.Connection, owner: str) -> tuple[int, int]:
    """How many answers an owner has, and their bytes."""
    query = "SELECT num_entries, num_bytes FROM sums WHERE owner = ?"
    num_entries, num_bytes = connection.execute(query, (owner,)).fetchone() or (0, 0)
    return num_entries, num_bytes


def _shrink(connection: sqlite3.Connection, owner: str, max_bytes: int, max_entries: int) -> None:
    """Delete an owner's least recently used answers until they are within two bounds."""
    num_entries, num_bytes = _sums(connection, owner)
    if num_bytes <= max_bytes and num_entries <= max_entries:
        return
    which, values = ("", ()) if owner == EVERYBODY else ("WHERE owner = ?", (owner,))
    # `which` is one of the two texts above.
    oldest = f"SELECT key, num_bytes FROM answers {which} ORDER BY last_used, rowid"  # noqa: S608 - no input
    gone = []
    for key, size in connection.execute(oldest, values):
        if num_bytes <= max_bytes and num_entries <= max_entries:
            break
        gone.append((key,))
        num_bytes -= size
        num_entries -= 1
    connection.executemany("DELETE FROM answers WHERE key = ?", gone)
