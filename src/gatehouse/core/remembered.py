"""Values that change rarely and are asked for often: read again when they may have changed."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Keeps what `load` gave for a while, so that what others changed is seen a little later.

    Args:
        load: Reads the value; may block.
        max_age_seconds: How old the value may be when it is used.
        seconds: A clock that only ever grows.
        version: As for `RememberedUntilChange`. Where it can tell, age does not matter.
    """

    def __init__(
        self,
        load: Callable[[], Value],
        max_age_seconds: float = 2.0,
        seconds: Callable[[], float] = time.monotonic,
        version: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._load = load
        self._max_age_seconds = max_age_seconds
        self._seconds = seconds
        self._version = version
        self._kept: _Kept[Value] | None = None

    def get(self) -> Value:
        now, version = self._seconds(), self._version()
        kept = self._kept
        if kept is None or not self._is_good(kept, now, version):
            # Two threads may both read: harmless, and cheaper than a lock for everybody else.
            self._kept = kept = _Kept(self._load(), now, version)
        return kept.value

    def peek(self) -> Value | None:
        """The value, if it need not be read again; does not block."""
        kept = self._kept
        if kept is None or not self._is_good(kept, self._seconds(), self._version()):
            return None
        return kept.value

    def forget(self) -> None:
        """Read it anew next time: this process changed it itself."""
        self._kept = None

    def _is_good(self, kept: "_Kept[Value]", now: float, version: int | None) -> bool:
        if version is not None and kept.version is not None:
            return version == kept.version
        return now - kept.read_at <= self._max_age_seconds


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Value]):
    value: Value
    read_at: float
    version: int | None


class RememberedUntilChange(Generic[Key, Value]):
    """Keeps what was read for as long as nothing at all has changed in what it was read from.

    Unlike `Remembered` it never gives what is no longer so. Safe to use from any thread.

    Args:
        version: Another number after any change, whoever made it; None if nobody can tell, and
            then nothing is kept. Must not block.
        max_values: Strangers choose what is asked for: this many are kept.
    """

    def __init__(self, version: Callable[[], int | None], max_values: int = 10_000) -> None:
        self._version = version
        self._max_values = max_values
        self._kept: tuple[int | None, dict[Key, Value]] = (None, {})

    def peek(self, key: Key) -> Value | None:
        """What is kept; None if that is nothing. Does not block."""
        version, values = self._kept
        if version is None or version != self._version():
            return None
        return values.get(key)

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """What is kept, or else what `load` reads. What it raises is not kept."""
        # Asked before reading: what changes meanwhile makes the value too new, never too old.
        version = self._version()
        if version is None:
            return load()
        known, values = self._kept
        if known != version or len(values) >= self._max_values:
            values = {}
            self._kept = (version, values)
        if key in values:
            return values[key]
        values[key] = value = load()
        return value
