"""Writes what calls used after they ended, off their path: a thread of its own.

What was taken is settled within milliseconds, usage is written each second. A kill loses at most
that second of usage, and leaves what was taken as it is: it counts until its window ends.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from gatehouse.identity.counters import Change
from gatehouse.inference.plans.usage import Figures, Usage, UsageKey
from gatehouse.observability.logging import logger

_FLUSH_SECONDS = 1.0
# Settled together: under load one transaction for many calls, beside those that take.
_GATHER_SECONDS = 0.005


class Ledger:
    """Takes entries without waiting. Its thread starts with the first and ends with `close`.

    Args:
        usage: Where figures go.
        settle: Where corrections of what was taken go.
        flush_seconds: How often usage is written.
    """

    def __init__(
        self,
        usage: Usage,
        settle: Callable[[Sequence[Change]], None],
        flush_seconds: float = _FLUSH_SECONDS,
    ) -> None:
        self._usage = usage
        self._settle = settle
        self._flush_seconds = flush_seconds
        self._figures: dict[UsageKey, Figures] = {}
        self._changes: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._has_changes = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, changes: Sequence[Change], key: UsageKey, figures: Figures | None) -> None:
        """Note the end of a call; `figures` is None for one that did not count."""
        with self._lock:
            for change in changes:
                self._changes[change.key, change.ends_at] += change.amount
            if figures is not None:
                self._figures[key] = self._figures.get(key, Figures()) + figures
            if self._thread is None:
                self._stopping.clear()
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()
        if changes:
            self._has_changes.set()

    def flush(self) -> None:
        """Write everything that was entered so far."""
        self._write_changes()
        self._write_figures()

    def close(self) -> None:
        """End the thread and flush. The ledger may be used again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            self._has_changes.set()
            thread.join()
        self.flush()

    def _run(self) -> None:
        next_flush = 0.0
        while not self._stopping.is_set():
            if self._has_changes.wait(self._flush_seconds):
                self._stopping.wait(_GATHER_SECONDS)
            self._has_changes.clear()
            try:
                self._write_changes()
                if time.monotonic() >= next_flush:
                    self._write_figures()
                    next_flush = time.monotonic() + self._flush_seconds
            except Exception as error:  # noqa: BLE001  (the thread's outermost loop)
                # Nothing is lost: what could not be written is tried again.
                logger.error("what was used could not be written", exc_info=error)
                self._stopping.wait(self._flush_seconds)

    def _write_changes(self) -> None:
        with self._writing:
            with self._lock:
                taken, self._changes = self._changes, Counter()
            if not taken:
                return
            changes = [Change(*window, amount) for window, amount in taken.items() if amount]
            try:
                self._settle(changes)
            except BaseException:
                with self._lock:
                    self._changes.update(taken)
                raise

    def _write_figures(self) -> None:
        with self._writing:
            with self._lock:
                taken, self._figures = self._figures, {}
            try:
                self._usage.add(taken)
            except BaseException:
                with self._lock:
                    for key, figures in taken.items():
                        self._figures[key] = self._figures.get(key, Figures()) + figures
                raise
