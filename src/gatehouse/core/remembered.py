"""A value that is read rarely and asked for often: read again when it has become old."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Keeps what `load` gave for a while, so that what others changed is seen a little later.

    Args:
        load: Reads the value; may block.
        max_age_seconds: How old the value may be when it is used.
        seconds: A clock that only ever grows.
    """

    def __init__(
        self,
        load: Callable[[], Value],
        max_age_seconds: float = 2.0,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._max_age_seconds = max_age_seconds
        self._seconds = seconds
        self._kept: tuple[Value, float] | None = None

    def get(self) -> Value:
        kept = self._kept
        now = self._seconds()
        if kept is None or now - kept[1] > self._max_age_seconds:
            # Two threads may both read: harmless, and cheaper than a lock for everybody else.
            self._kept = kept = (self._load(), now)
        return kept[0]

    def forget(self) -> None:
        """Read it anew next time: this process changed it itself."""
        self._kept = None
