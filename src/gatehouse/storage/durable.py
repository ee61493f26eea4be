"""Files that survive a power cut: written under a temporary name, synced, then renamed into place.

It knows folders and names, not what the bytes mean. Several processes may share the folders.
"""

import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

# Other processes write here too, so only what no living upload can still own is rubbish.
STALE_AFTER_SECONDS = 24 * 60 * 60


class IncomingFolder:
    """A folder of half-written files; everything in it may be lost.

    It must be on the file system of the folders that its files move to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_stale()

    def create(self) -> BinaryIO:
        """Open a new empty file for writing; its `name` is its path."""
        return (self._folder / secrets.token_hex(16)).open("xb")

    def _remove_stale(self) -> None:
        oldest = time.time() - STALE_AFTER_SECONDS
        for path in self._folder.iterdir():
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:  # another process was faster
                continue


def publish(temporary: BinaryIO, final: Path, root: Path) -> bool:
    """Move a written file to its place below `root`; durable when this returns.

    The file is closed. If `final` exists already it is kept, since equal names mean equal bytes,
    and is marked as used now, so that whoever collects old files by age spares it.

    Returns:
        Whether `final` is new.
    """
    temporary.flush()
    os.fchmod(temporary.fileno(), 0o444)
    os.fsync(temporary.fileno())
    temporary.close()
    is_new = not _freshen(final)
    if is_new:
        final.parent.mkdir(parents=True, exist_ok=True)
        Path(temporary.name).replace(final)
    else:
        Path(temporary.name).unlink()
    # Also when it existed: whoever made it may not have come as far as this yet.
    _sync_folders(final.parent, root)
    return is_new


def discard(temporary: BinaryIO) -> None:
    """Close and remove a file that was not published."""
    temporary.close()
    Path(temporary.name).unlink(missing_ok=True)


def remove(final: Path) -> bool:
    """Remove a published file; durable when this returns. Returns whether it existed."""
    try:
        final.unlink()
    except FileNotFoundError:
        return False
    sync_folder(final.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _freshen(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _sync_folders(folder: Path, root: Path) -> None:
    # Up to the root, because another process may have made a parent and not have synced it yet.
    while True:
        sync_folder(folder)
        if folder == root:
            return
        folder = folder.parent
