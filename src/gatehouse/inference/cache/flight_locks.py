"""Locks by key between the hub's workers: byte ranges of one file, held by the kernel.

A worker that dies lets go of all its locks, so nobody has to find out whether it still lives.
Within one process there must be one object for each file: the system does not tell its threads
apart, and closing the file anywhere lets go of everything.
"""

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.1
# Two keys share a byte once in 2**62 times, and then only wait for one another.
_OFFSET_DIGITS = 15


class FlightLocks:
    """Asked by one event loop; each key by one task at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold a key's lock, after waiting for the worker that has it.

        Args:
            key: In hexadecimal digits. Without a file to lock, everybody may go on.
        """
        offset = int(key[:_OFFSET_DIGITS], 16)
        pause = _FIRST_PAUSE_SECONDS
        while not self._try(offset):
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        try:
            yield
        finally:
            self._let_go(offset)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self, offset: int) -> bool:
        try:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            # No room, or a file system that knows no locks: a second run is the lesser evil.
            return True
        return True

    def _let_go(self, offset: int) -> None:
        if self._descriptor is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
