"""Looks up small kept answers from the event loop itself, which a hop to a thread would hold up.

One row by its key takes 15 microseconds, a hop a hundred and more. Writes, large answers and
trouble with the file are left to the store.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from gatehouse.inference.cache.answer_file import (
    SCHEMA_VERSION,
    TOUCH_SECONDS,
    CachedAnswer,
    decode_answer,
    inode,
    is_current,
)

# Copied while everybody else waits.
_LARGEST_BYTES = 64 * 1024
_QUERY = f"""
SELECT CASE WHEN num_bytes <= {_LARGEST_BYTES} THEN answer END, stored_at, last_used
FROM answers WHERE key = ?
"""  # noqa: S608 - our own number


class Undecided(Exception):
    """Only the store can tell, or there is something to be written down."""


class AnswerReader:
    """One connection that only reads, for one thread."""

    def __init__(self, path: Path, max_age_seconds: float, clock: Callable[[], float]) -> None:
        self._path = path
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def find(self, key: str) -> CachedAnswer | None:
        """The kept answer, or None if there is surely none. Does not wait.

        Raises:
            Undecided: Ask the store.
        """
        try:
            row = self._connected().execute(_QUERY, (key,)).fetchone()
        except sqlite3.Error:
            self.close()
            raise Undecided from None
        if row is None:
            return None
        data, stored_at, last_used = row
        now = self._clock()
        if not is_current(stored_at, now, self._max_age_seconds):
            return None
        if data is None or now - last_used > TOUCH_SECONDS:
            raise Undecided
        try:
            return decode_answer(data)
        except msgspec.MsgspecError:
            raise Undecided from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        # Another worker may have begun the file anew.
        found = inode(self._path)
        if self._connection is None or found != self._inode:
            self.close()
            if not found:
                raise Undecided
            self._connection = _open(self._path)
            self._inode = found
        return self._connection


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        connection.close()
        raise Undecided
    connection.execute("PRAGMA query_only = ON")
    return connection
