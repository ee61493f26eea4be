"""Count downloads without a write per request: counts gather in memory and go out together.

A crash loses the last few seconds of counts, which nobody was promised.
"""

import threading
from collections import Counter

from sqlalchemy import update

from gatehouse.core.clock import Clock
from gatehouse.db.engine import Database
from gatehouse.repos.tables import RepositoryRow

_FLUSH_SECONDS = 5.0


class DownloadCounts:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: Counter[int] = Counter()
        self._flushed_at = clock.now()

    def add(self, repository_id: int) -> None:
        with self._lock:
            self._pending[repository_id] += 1
            if (self._clock.now() - self._flushed_at).total_seconds() < _FLUSH_SECONDS:
                return
            counted = self._take()
        self._write(counted)

    def flush(self) -> None:
        with self._lock:
            counted = self._take()
        self._write(counted)

    def _take(self) -> Counter[int]:
        counted, self._pending = self._pending, Counter()
        self._flushed_at = self._clock.now()
        return counted

    def _write(self, counted: Counter[int]) -> None:
        if not counted:
            return
        with self._database.write() as session:
            for repository_id, number in counted.items():
                session.execute(
                    update(RepositoryRow)
                    .where(RepositoryRow.id == repository_id)
                    .values(downloads=RepositoryRow.downloads + number)
                )
