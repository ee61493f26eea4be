"""What other threads hand to the one that steps: new sequences, and those to be forgotten."""

import threading

from gatehouse.engines.base import RefusalKind, RequestRefused
from gatehouse.engines.text.sequence import Sequence

MAX_WAITING = 256


class Inbox:
    """Filled by any thread, emptied by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._added: list[Sequence] = []
        self._cancelled: set[int] = set()
        # Priorities of those that wait for their first step, here or with the scheduler.
        self._waiting: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._added or self._cancelled)

    def add(self, sequence: Sequence) -> None:
        """Hand in a sequence.

        Raises:
            RequestRefused: Too many would go before it. Those that would go after it keep nobody
                out.
        """
        priority = sequence.request.priority
        with self._lock:
            if sum(other <= priority for other in self._waiting.values()) >= MAX_WAITING:
                raise RequestRefused(RefusalKind.OVERLOADED, "Model is overloaded")
            self._waiting[sequence.request_id] = priority
            self._added.append(sequence)

    def cancel(self, request_id: int) -> None:
        with self._lock:
            self._cancelled.add(request_id)

    def take(self) -> tuple[list[Sequence], set[int]]:
        """New sequences that are still wanted, and all that are wanted no more."""
        with self._lock:
            added, self._added = self._added, []
            cancelled, self._cancelled = self._cancelled, set()
            for request_id in cancelled:
                self._waiting.pop(request_id, None)
        return [one for one in added if one.request_id not in cancelled], cancelled

    def note_started(self, request_id: int) -> None:
        with self._lock:
            self._waiting.pop(request_id, None)

    def clear(self) -> None:
        with self._lock:
            self._added.clear()
            self._cancelled.clear()
            self._waiting.clear()
