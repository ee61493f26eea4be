"""Places at a server: so many requests at once, the others in line by priority."""

import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from gatehouse.inference.errors import ModelOverloaded

_MAX_WAITING = 512


@dataclass(order=True)
class _Waiting:
    priority: int
    arrival: int
    is_called: anyio.Event = field(default_factory=anyio.Event, compare=False)


class Slots:
    """One event loop's places at one server."""

    def __init__(self, num_slots: int) -> None:
        self._num_free = num_slots
        self._line: list[_Waiting] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def taken(self, priority: int) -> AsyncIterator[float]:
        """A place, taken as long as this lasts; gives the seconds that it was waited for.

        Requests of a lower number go first, and among equals whoever came first.

        Raises:
            ModelOverloaded: Too many would go before it.
        """
        began = anyio.current_time()
        await self._enter(priority)
        try:
            yield anyio.current_time() - began
        finally:
            self._leave()

    async def _enter(self, priority: int) -> None:
        if self._num_free:
            self._num_free -= 1
            return
        if sum(waiting.priority <= priority for waiting in self._line) >= _MAX_WAITING:
            raise ModelOverloaded
        waiting = _Waiting(priority, next(self._arrivals))
        heapq.heappush(self._line, waiting)
        try:
            await waiting.is_called.wait()
        except BaseException:
            if waiting.is_called.is_set():
                self._leave()
            else:
                self._line.remove(waiting)
                heapq.heapify(self._line)
            raise

    def _leave(self) -> None:
        """Hand the place to the first in line."""
        if self._line:
            heapq.heappop(self._line).is_called.set()
        else:
            self._num_free += 1
