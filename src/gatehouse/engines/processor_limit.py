"""Ends Python code that takes too much processor time, in the thread that runs it.

By its own time, so that a busy machine makes nobody guilty. One long call of C is not ended: the
interpreter cannot step in before it returns.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_LOOK_SECONDS = 0.1
# The watching thread ends after so many looks at nothing, and is started again when needed.
_IDLE_LOOKS = 50

Result = TypeVar("Result")


class ProcessorTimeExceeded(BaseException):
    """Raised in the middle of the code; not an `Exception`, so that no handler there keeps it."""


@dataclass(eq=False, slots=True)
class _Run:
    """Attributes: `ends_at` is in seconds of `clock`, which counts one thread's processor time."""

    thread: int
    clock: int
    ends_at: float
    is_interrupted: bool = False


class ProcessorLimit:
    """Runs functions for `seconds` of processor time each; usable from any thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._runs: set[_Run] = set()
        self._is_watched = False

    def run(self, function: Callable[[], Result]) -> Result:
        """What the function gives or raises.

        Raises:
            ProcessorTimeExceeded: It took too long. Its `finally` clauses have run.
        """
        thread = threading.get_ident()
        clock = time.pthread_getcpuclockid(thread)
        run = _Run(thread, clock, time.clock_gettime(clock) + self.seconds)
        try:
            with self._lock:
                self._runs.add(run)
                if not self._is_watched:
                    self._is_watched = True
                    threading.Thread(target=self._watch, name="limit", daemon=True).start()
            return function()
        finally:
            # An interruption comes once for each run, and this is the last place for it to come.
            with self._lock:
                self._runs.discard(run)
                if run.is_interrupted:
                    _raise_in(thread, None)

    def _watch(self) -> None:
        num_idle = 0
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                for run in tuple(self._runs):
                    if time.clock_gettime(run.clock) >= run.ends_at:
                        self._runs.discard(run)
                        run.is_interrupted = True
                        _raise_in(run.thread, ProcessorTimeExceeded)
                num_idle = 0 if self._runs else num_idle + 1
                if num_idle == _IDLE_LOOKS:
                    self._is_watched = False
                    return


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have a thread raise `error` at its next step; None takes back what it did not raise yet."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
