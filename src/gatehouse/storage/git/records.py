"""The values that go in and out of a git repository. They know nothing of how git stores them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gatehouse.core.errors import Invalid

FILE_MODE = 0o100644
EXECUTABLE_MODE = 0o100755
SYMLINK_MODE = 0o120000
SUBMODULE_MODE = 0o160000
FOLDER_MODE = 0o040000


class EntryKind(StrEnum):
    """The value is what clients read as `type` in a tree listing."""

    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree.

    Symlinks and submodules are files with their own `mode`; a submodule's `oid` is a commit of
    another repository and its `size` is 0.

    Attributes:
        path: From the root of the repository, parts joined by `/`. Bytes that are not UTF-8 appear
            as a backslash, `x` and two hex digits.
        oid: Of the blob or tree.
        size: Bytes of the blob as git stores it (of the pointer, for LFS); 0 for a folder.
        mode: As git writes it, for example `0o100644`.
    """

    path: str
    kind: EntryKind
    oid: str
    size: int
    mode: int

    @property
    def is_regular_file(self) -> bool:
        """Whether the blob is content, rather than a link's target or a submodule's commit."""
        return self.mode in (FILE_MODE, EXECUTABLE_MODE)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a file, replacing the file of that path."""

    path: str
    blob_oid: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one file."""

    path: str


@dataclass(frozen=True, slots=True)
class DeleteFolder:
    """Remove a folder and all below it. A final `/` in the path is ignored."""

    path: str


Change = Put | Delete | DeleteFolder


@dataclass(frozen=True, slots=True)
class Signature:
    """Who made a commit, and when.

    Raises:
        Invalid: Git cannot write the name or the address, or `when` has no time zone.
    """

    name: str
    email: str
    when: datetime

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("email", self.email)):
            if not text.strip() or any(c in "<>" or not c.isprintable() for c in text):
                raise Invalid(f"A commit's author needs a plain {field}, given {text[:100]!r}.")
        if self.when.tzinfo is None:
            raise Invalid("A commit's time needs a time zone.")


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A commit as listings show it.

    Attributes:
        authored_at: Aware, in the author's own time zone.
    """

    oid: str
    tree_oid: str
    parent_oids: Sequence[str]
    message: str
    author_name: str
    author_email: str
    authored_at: datetime

    @property
    def title(self) -> str:
        """The first line of the message."""
        return self.message.strip().partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Ref:
    """A full ref name and the object it points at (for an annotated tag, the tag object)."""

    name: str
    target_oid: str


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """A ref that a push wants to move, or moved. None stands for "no such ref"."""

    ref: str
    old_oid: str | None
    new_oid: str | None
