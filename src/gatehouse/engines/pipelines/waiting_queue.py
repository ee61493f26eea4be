"""Sequences that wait for their turn: lower priority numbers first, then by arrival."""

import heapq
import itertools
import threading
from collections.abc import Callable

from gatehouse.engines.base import RefusalKind, RequestRefused
from gatehouse.engines.text.sequence import Sequence

MAX_WAITING = 256


class WaitingQueue:
    """Filled by threads that read prompts, emptied by the one that steps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[tuple[int, int, Sequence]] = []
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, sequence: Sequence) -> None:
        """Queue a sequence.

        Raises:
            RequestRefused: Too many would go before it. Those that would go after it keep nobody
                out: a crowd of free users does not fill the queue for paying ones.
        """
        priority = sequence.request.priority
        with self._lock:
            if sum(entry[0] <= priority for entry in self._entries) >= MAX_WAITING:
                raise RequestRefused(RefusalKind.OVERLOADED, "Model is overloaded")
            entry = (priority, next(self._arrivals), sequence)
            heapq.heappush(self._entries, entry)

    def pop(self, into: dict[int, Sequence], fits: Callable[[Sequence], bool]) -> Sequence | None:
        """Move the first sequence, if there is one and it fits, into those that run."""
        with self._lock:
            if not self._entries or not fits(self._entries[0][2]):
                return None
            sequence = self._entries[0][2]
            into[sequence.request_id] = sequence  # first: it is always to be found somewhere
            heapq.heappop(self._entries)
            return sequence

    def remove(self, request_id: int) -> bool:
        """Forget a sequence; False if it does not wait here."""
        with self._lock:
            left = [entry for entry in self._entries if entry[2].request_id != request_id]
            was_here = len(left) < len(self._entries)
            if was_here:
                self._entries = left
                heapq.heapify(self._entries)
            return was_here

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
