"""A thread for short blocking calls that come with every request, one after the other.

Half as long as a hop to the pool that serves everything else, which counts its threads, wakes them
through conditions, and takes a turn of the event loop first. For calls that would queue anyway.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import anyio

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_Call = Callable[[], None]
# A thread that has nothing to do ends, and is started again when it has.
_IDLE_SECONDS = 10.0


class OwnThread:
    """Belongs to one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_running = False

    async def run(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """What the function gives or raises. Once begun it is waited for, cancelled or not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        context = contextvars.copy_context()

        def call() -> None:
            settle: Callable[[Any], None]
            outcome: Any
            try:
                outcome = context.run(function, *args, **kwargs)
                settle = future.set_result
            except BaseException as error:  # noqa: BLE001 - raised again, where it is waited for
                outcome, settle = error, future.set_exception
            loop.call_soon_threadsafe(_unless_done, future, settle, outcome)

        self._put(call)
        with anyio.CancelScope(shield=True):
            await asyncio.wait([future])
        return future.result()

    def _put(self, call: _Call) -> None:
        with self._lock:
            self._calls.put(call)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._calls.empty():
                        self._is_running = False
                        return
                continue
            call()
            del call


def _unless_done(future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)
