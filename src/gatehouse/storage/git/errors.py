"""What can go wrong with a git repository, in terms of revisions, paths and refs."""

from gatehouse.core.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable


class RevisionNotFound(NotFound):
    """No branch, tag or commit answers to that revision."""

    code = "RevisionNotFound"

    def __init__(self, revision: str) -> None:
        super().__init__(f"Invalid rev id: {revision[:200]}")
        self.revision = revision


class EntryNotFound(NotFound):
    """The commit has no such file or folder.

    Attributes:
        path: What was looked for.
        commit_oid: The commit it was looked for in, so that a client may remember the absence.
    """

    code = "EntryNotFound"

    def __init__(
        self, path: str, commit_oid: str | None = None, *, message: str | None = None
    ) -> None:
        super().__init__(message or f"`{path[:1024]}` does not exist in this revision.")
        self.path = path
        self.commit_oid = commit_oid


class InvalidPath(Invalid):
    """A path that git, or a checkout on some file system, would not take."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"Invalid path {path[:200]!r}: {reason}.")
        self.path = path


class InvalidChange(Invalid):
    """A change that the tree it applies to, or `git fsck`, does not allow."""


class InvalidRef(Invalid):
    """A ref name that git or this hub does not allow."""

    def __init__(self, ref: str, reason: str) -> None:
        super().__init__(f"Invalid ref name {ref[:200]!r}: {reason}.")
        self.ref = ref


class InvalidWire(Invalid):
    """Bytes from a git client that do not follow git's protocol."""


class RefMoved(Conflict):
    """The ref is not where the caller believed it to be.

    Attributes:
        current_oid: Where it is now, None when it does not exist.
    """

    def __init__(self, ref: str, expected_oid: str | None, current_oid: str | None) -> None:
        super().__init__(
            f"`{ref}` has moved: expected {expected_oid or 'no such ref'}, "
            f"found {current_oid or 'no such ref'}. Fetch it and try again."
        )
        self.ref = ref
        self.expected_oid = expected_oid
        self.current_oid = current_oid


class RefNameTaken(Conflict):
    """Git cannot hold both `a` and `a/b`."""

    def __init__(self, ref: str, other: str) -> None:
        super().__init__(f"`{ref}` cannot be created while `{other}` exists.")


class RefLocked(Unavailable):
    """Another writer kept the ref's lock for too long."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"`{ref}` is being changed by another writer. Try again.")


class TreeTooLarge(TooLarge):
    """A listing that would not fit in memory."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The tree has more than {limit} entries; list its folders one by one.")


class RequestTooLarge(TooLarge):
    """The body of a git request is over its limit.

    Attributes:
        limit: Bytes, counted after decompression.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"The git request is larger than {limit} bytes.")
        self.limit = limit


class RepositoryUnavailable(Unavailable):
    """The repository's folder, or the git program, does not do what it must."""
