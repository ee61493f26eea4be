"""End requests whose clients stop sending their body.

One timer for all that wait, so that a body which is on its way costs a note in a dictionary: a
timer for each would take 3 microseconds, a cancel scope 10.
"""

import asyncio
from typing import Any

from starlette.types import Message, Receive

from gatehouse.core.errors import TimedOut

_LOOK_SECONDS = 1.0


class BodyStalled(TimedOut):
    """The client sends no more of a body that it began."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive: nothing came for {seconds:g} seconds.")


class BodyWaits:
    """The tasks that wait for a piece of a body, in one event loop."""

    def __init__(self, look_seconds: float = _LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._deadlines: dict[asyncio.Task[Any], float] = {}
        self._stalled: set[asyncio.Task[Any]] = set()
        self._looks_next: asyncio.TimerHandle | None = None

    async def next_message(self, receive: Receive, seconds: float) -> Message:
        """What `receive` gives, if it comes in time; it may take a second longer than `seconds`.

        Raises:
            BodyStalled: It does not.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._deadlines[task] = loop.time() + seconds
        if self._looks_next is None:
            self._looks_next = loop.call_later(self._look_seconds, self._look, loop)
        try:
            return await receive()
        except asyncio.CancelledError:
            # Somebody else may have cancelled it as well, and means it.
            if task in self._stalled and task.uncancel() == 0:
                raise BodyStalled(seconds) from None
            raise
        finally:
            self._stalled.discard(task)
            del self._deadlines[task]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, deadline in self._deadlines.items():
            if deadline <= now and task not in self._stalled:
                self._stalled.add(task)
                task.cancel()
        self._looks_next = None
        if self._deadlines:
            self._looks_next = loop.call_later(self._look_seconds, self._look, loop)
