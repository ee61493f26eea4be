"""Reads folders: one entry, or a listing. Knows nothing of refs and revisions."""

from collections.abc import Iterator
from typing import Any

import pygit2
from pygit2.enums import ObjectType

from gatehouse.core.ids import is_oid
from gatehouse.storage.git.errors import TreeTooLarge
from gatehouse.storage.git.paths import is_unicode
from gatehouse.storage.git.records import FOLDER_MODE, SUBMODULE_MODE, Entry, EntryKind

MAX_LISTED_ENTRIES = 500_000


def find(tree: Any, path: str) -> Any | None:
    """The pygit2 object at `path` below `tree`, or None; foreign and malformed paths are absent."""
    # libgit2 reads a path up to its first NUL, so `a<NUL>b` would find `a`.
    if "\0" in path or not is_unicode(path):
        return None
    try:
        return tree[path]
    except KeyError:
        return None


def read_header(repository: Any, oid: str) -> tuple[ObjectType | None, int]:
    """The kind and size in bytes of an object, without its content; `(None, 0)` when absent."""
    if not is_oid(oid):
        return None, 0
    try:
        kind, size = repository.odb.read_header(pygit2.Oid(hex=oid))
    except KeyError:
        return None, 0
    return ObjectType(kind), int(size)


def to_entry(repository: Any, path: str, item: Any) -> Entry:
    """Describe the pygit2 tree item `item`, found at `path`."""
    mode = int(item.filemode)
    if mode == FOLDER_MODE:
        return Entry(path, EntryKind.DIRECTORY, str(item.id), 0, mode)
    # A submodule names a commit of another repository, which is not here to be measured.
    size = 0 if mode == SUBMODULE_MODE else read_header(repository, str(item.id))[1]
    return Entry(path, EntryKind.FILE, str(item.id), size, mode)


def walk(repository: Any, tree: Any, prefix: str, *, recursive: bool) -> Iterator[Entry]:
    """Yield the entries of `tree` in git's order, each folder before what it holds.

    Raises:
        TreeTooLarge: More than `MAX_LISTED_ENTRIES`; a few shared trees can stand for billions.
    """
    num_left = MAX_LISTED_ENTRIES
    pending = [(prefix, iter(tree))]
    while pending:
        prefix, items = pending[-1]
        item = next(items, None)
        if item is None:
            pending.pop()
            continue
        num_left -= 1
        if num_left < 0:
            raise TreeTooLarge(MAX_LISTED_ENTRIES)
        entry = to_entry(repository, prefix + _name_of(item), item)
        yield entry
        if recursive and entry.kind is EntryKind.DIRECTORY:
            pending.append((f"{entry.path}/", iter(repository[item.id])))


def _name_of(item: Any) -> str:
    raw: bytes = item.raw_name
    return raw.decode("utf-8", "backslashreplace")
