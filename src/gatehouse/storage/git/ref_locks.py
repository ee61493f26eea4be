"""Git's own `*.lock` files, and the ones that a killed process leaves behind.

Git and libgit2 hold such a lock for milliseconds and never look at its age, so one left behind by a
crash would refuse every later push.
"""

import fcntl
import os
import time
from pathlib import Path

# Far above what a writer needs, on the slowest disk, between taking a lock and renaming it.
STALE_AFTER_SECONDS = 10.0


def break_stale_locks(repository_path: Path) -> int:
    """Remove the ref locks that nobody can be holding any more; return how many.

    One process at a time does this (an advisory lock on the folder), or the second could remove the
    fresh lock of somebody who took it after the first removed the stale one.
    """
    locks = _find_locks(repository_path)
    if not any(_is_stale(lock) for lock in locks):
        return 0
    num_removed = 0
    guard = os.open(repository_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for lock in locks:
            if _is_stale(lock):
                lock.unlink(missing_ok=True)
                num_removed += 1
    finally:
        os.close(guard)
    return num_removed


def _find_locks(repository_path: Path) -> list[Path]:
    locks = [repository_path / name for name in ("HEAD.lock", "packed-refs.lock", "config.lock")]
    locks += (repository_path / "refs").rglob("*.lock")
    return locks


def _is_stale(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > STALE_AFTER_SECONDS
    except FileNotFoundError:
        return False
