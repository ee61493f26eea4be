"""Counts that end with their window of time: what may be taken is checked and taken in one step.

Whoever counts hands in keys, amounts and limits; here nobody knows what is counted.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Want:
    """An amount to take.

    Attributes:
        key: What is counted, and whose.
        amount: How much, at least 1.
        limit: What all amounts of one window may come to.
        window_seconds: How long a window is. It opens with the first amount taken.
    """

    key: str
    amount: int
    limit: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Count:
    """Where a key stands.

    Attributes:
        used: What was taken in the open window.
        ends_at: When the window ends, in Unix seconds; tells the windows of a key apart.
    """

    used: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class Change:
    """A correction of what was taken: negative gives back. Void once its window has ended."""

    key: str
    ends_at: int
    amount: int


class WindowFull(Exception):
    """Not all of the wanted amounts fit. Nothing was taken.

    Attributes:
        want: The first that does not.
        count: Where its key stands.
    """

    def __init__(self, want: Want, count: Count) -> None:
        super().__init__(want.key)
        self.want = want
        self.count = count


class CountersBusy(Exception):
    """It would have to wait, and may not. Nothing was changed."""


class Counters(Protocol):
    """Safe to call from any thread; shared by all who share its store."""

    def take(self, wants: Sequence[Want], now: int, *, may_wait: bool = True) -> tuple[Count, ...]:
        """Take all amounts, or none.

        Args:
            wants: Different keys, always in the same order for the same caller.
            now: Unix seconds.
            may_wait: False on an event loop.

        Raises:
            WindowFull: One does not fit.
            CountersBusy: It may not wait, and would have to. Now and then for no other reason than
                that the store wants some care.
        """
        ...

    def change(self, changes: Sequence[Change], *, may_wait: bool = True) -> None:
        """Correct what was taken; a count never falls below nothing.

        Raises:
            CountersBusy: As in `take`.
        """
        ...

    def read(self, key: str, window_seconds: int, now: int) -> Count:
        """Where a key stands; a window that nobody opened would end `window_seconds` from now."""
        ...

    def clear(self, key: str) -> None:
        """Forget a key."""
        ...


class MemoryCounters:
    """Counts of this process alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def take(self, wants: Sequence[Want], now: int, *, may_wait: bool = True) -> tuple[Count, ...]:
        with self._lock:
            taken = []
            for want in wants:
                count = self._count(want.key, want.window_seconds, now)
                if count.used + want.amount > want.limit:
                    raise WindowFull(want, count)
                taken.append(Count(count.used + want.amount, count.ends_at))
            self._counts.update(zip((want.key for want in wants), taken, strict=True))
        return tuple(taken)

    def change(self, changes: Sequence[Change], *, may_wait: bool = True) -> None:
        with self._lock:
            for change in changes:
                count = self._counts.get(change.key)
                if count is not None and count.ends_at == change.ends_at:
                    used = max(0, count.used + change.amount)
                    self._counts[change.key] = Count(used, count.ends_at)

    def read(self, key: str, window_seconds: int, now: int) -> Count:
        with self._lock:
            return self._count(key, window_seconds, now)

    def clear(self, key: str) -> None:
        with self._lock:
            self._counts.pop(key, None)

    def _count(self, key: str, window_seconds: int, now: int) -> Count:
        count = self._counts.get(key)
        if count is None or count.ends_at <= now:
            return Count(0, now + window_seconds)
        return count
