"""Ends a host that hangs: templates and tokenizers are programs from repositories.

A thread cannot be stopped, so the whole process goes; the hub loads the model again when asked.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.5
# Two megabytes, the most that a caller may send, take ten seconds on a slow core. Templates have a
# limit of their own.
PROMPT_SECONDS = 60.0
# Longer than any honest call keeps the interpreter to itself.
_SILENCE_SECONDS = 30.0


class PromptWatch:
    """Knows which prompts are being read, and since when.

    Args:
        limit_seconds: For reading one prompt.
        on_overdue: Called once with the numbers of those over the limit, on the watch's thread.
    """

    def __init__(self, limit_seconds: float, on_overdue: Callable[[list[int]], object]) -> None:
        self.limit_seconds = limit_seconds
        self._on_overdue = on_overdue
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}
        self._stopped = threading.Event()

    @contextmanager
    def reading(self, number: int) -> Iterator[None]:
        with self._lock:
            self._since[number] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._since[number]

    def run(self) -> None:
        """Look until a prompt is overdue, or until `stop`."""
        while not self._stopped.wait(min(_LOOK_SECONDS, self.limit_seconds)):
            oldest = time.monotonic() - self.limit_seconds
            with self._lock:
                overdue = [number for number, since in self._since.items() if since < oldest]
            if overdue:
                self._on_overdue(overdue)
                return

    def stop(self) -> None:
        self._stopped.set()


def end_when_silent(seconds: float = _SILENCE_SECONDS) -> None:
    """Have the kernel kill this process once no Python code could run in it for so long.

    A thread winds the alarm up again and again; a call that never gives the interpreter back, such
    as the power of two huge numbers, keeps it from doing so.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def wind_up() -> None:
        while True:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            time.sleep(seconds / 10)

    threading.Thread(target=wind_up, name="alarm", daemon=True).start()
