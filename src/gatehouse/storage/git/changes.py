"""Makes a new tree from an old one and a list of changes, writing only the folders that change.

Knows nothing of refs and revisions; there is no index and no working tree anywhere.
"""

from collections.abc import Sequence
from typing import Any

from pygit2.enums import ObjectType

from gatehouse.storage.git.errors import EntryNotFound, InvalidChange
from gatehouse.storage.git.paths import check_path, is_attributes_name
from gatehouse.storage.git.records import (
    EXECUTABLE_MODE,
    FILE_MODE,
    FOLDER_MODE,
    Change,
    Delete,
    DeleteFolder,
    Put,
)
from gatehouse.storage.git.trees import find, read_header

# `git fsck` calls a repository broken when its attributes files are larger (git's attr.h).
_MAX_ATTRIBUTES_BYTES = 100 * 1024 * 1024
_MAX_ATTRIBUTES_LINE_BYTES = 2048


def apply_changes(
    repository: Any, base_tree: Any | None, base_oid: str | None, changes: Sequence[Change]
) -> str:
    """Write the tree that `changes` make of `base_tree`; return its oid.

    Deletions look at the base tree and happen before any file is put, whatever their order, so a
    folder can be emptied and filled by one commit. The last of several puts of a path wins.

    Raises:
        EntryNotFound: A deletion names what `base_tree` (commit `base_oid`) does not have.
        InvalidPath: A path breaks a rule of `paths`.
        InvalidChange: A put needs a file to be a folder, or a folder to be a file; or the blob is
            absent, or is one that `git fsck` would not accept under that name.
    """
    root = _EditedFolder(repository, base_tree)
    for change in changes:
        if not isinstance(change, Put):
            _delete(root, base_tree, base_oid, change)
    for change in changes:
        if isinstance(change, Put):
            _check_blob(repository, change)
            root.put(change.path, check_path(change.path).split("/"), change.blob_oid)
    return root.write()


def _delete(
    root: "_EditedFolder",
    base_tree: Any | None,
    base_oid: str | None,
    change: Delete | DeleteFolder,
) -> None:
    wants_folder = isinstance(change, DeleteFolder)
    path = check_path(change.path.rstrip("/") if wants_folder else change.path)
    item = None if base_tree is None else find(base_tree, path)
    if item is None or (item.filemode == FOLDER_MODE) is not wants_folder:
        kind = "folder" if wants_folder else "file"
        raise EntryNotFound(
            path,
            base_oid,
            # Clients know the first sentence.
            message=f"A file with this name doesn't exist: no {kind} `{path}` to delete.",
        )
    root.remove(path.split("/"))


def _check_blob(repository: Any, change: Put) -> None:
    kind, size = read_header(repository, change.blob_oid)
    if kind != ObjectType.BLOB:
        raise InvalidChange(f"`{change.path}` names a blob that is not stored.")
    if not is_attributes_name(change.path.rpartition("/")[2]):
        return
    if size > _MAX_ATTRIBUTES_BYTES or any(
        len(line) > _MAX_ATTRIBUTES_LINE_BYTES
        for line in repository[change.blob_oid].data.split(b"\n")
    ):
        raise InvalidChange(f"`{change.path}` has a line that is too long for git.")


class _EditedFolder:
    """A folder being edited: a tree builder, and the folders below it that were opened."""

    def __init__(self, repository: Any, tree: Any | None) -> None:
        self._repository = repository
        self.builder = repository.TreeBuilder() if tree is None else repository.TreeBuilder(tree)
        self.opened: dict[str, _EditedFolder] = {}

    def put(self, path: str, names: Sequence[str], blob_oid: str) -> None:
        """Insert the blob at `names` below this folder; `path` is for the error's message."""
        folder = self
        for depth, name in enumerate(names[:-1], start=1):
            below = folder.open(name, create=True)
            if below is None:
                raise InvalidChange(
                    f"`{'/'.join(names[:depth])}` is a file, so `{path}` cannot be put below it. "
                    "Delete the file in the same commit."
                )
            folder = below
        if not folder.insert(names[-1], blob_oid):
            raise InvalidChange(
                f"`{path}` is a folder, so no file can have that name. "
                "Delete the folder in the same commit."
            )

    def remove(self, names: Sequence[str]) -> None:
        """Remove what is at `names`; it may be gone already, with a folder above it."""
        folder: _EditedFolder | None = self
        for name in names[:-1]:
            folder = None if folder is None else folder.open(name, create=False)
        if folder is not None:
            folder.drop(names[-1])

    def write(self) -> str:
        """Write the opened folders below, then this one; return its oid. Empty folders vanish."""
        for name, below in self.opened.items():
            oid = below.write()
            if len(below.builder):
                self.builder.insert(name, oid, FOLDER_MODE)
            elif self.builder.get(name) is not None:
                self.builder.remove(name)
        return str(self.builder.write())

    def open(self, name: str, *, create: bool) -> "_EditedFolder | None":
        """The folder `name`; None when it is a file, or absent and not to be created."""
        if name in self.opened:
            return self.opened[name]
        item = self.builder.get(name)
        if item is None and not create:
            return None
        if item is not None and item.filemode != FOLDER_MODE:
            return None
        tree = None if item is None else self._repository[item.id]
        folder = self.opened[name] = _EditedFolder(self._repository, tree)
        return folder

    def insert(self, name: str, blob_oid: str) -> bool:
        """Put a file here, keeping its executable bit; False when `name` is a folder with files."""
        item = self.builder.get(name)
        opened = self.opened.get(name)
        if opened is not None:
            if not opened.is_empty():
                return False
            del self.opened[name]
        elif item is not None and item.filemode == FOLDER_MODE:
            return False
        is_executable = item is not None and item.filemode == EXECUTABLE_MODE
        self.builder.insert(name, blob_oid, EXECUTABLE_MODE if is_executable else FILE_MODE)
        return True

    def drop(self, name: str) -> None:
        """Remove the file or folder `name`, if it is here."""
        self.opened.pop(name, None)
        if self.builder.get(name) is not None:
            self.builder.remove(name)

    def is_empty(self) -> bool:
        """Whether `write` would leave nothing of this folder."""
        num_opened = sum(self.builder.get(name) is not None for name in self.opened)
        return num_opened == len(self.builder) and all(
            below.is_empty() for below in self.opened.values()
        )
